/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Bytes as lower-case hexadecimal text: tokens, keys, fingerprints. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

/* A digit's value, of either case; -1: it is none. */
int hex_digit(char c);
/* 2 * n digits and a NUL. */
void hex_encode(const void *bytes, size_t n, char *ret_text);
/* Exactly 2 * n digits of either case and the NUL; false, and nothing is written, for anything else. */
_must_check_ bool hex_decode(const char *text, void *ret_bytes, size_t n);
