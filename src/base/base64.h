/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Bytes as base64 text (RFC 4648, 4), in the one spelling that there is. Any thread. */

#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

/* Bytes of the text of `n` bytes with the NUL. */
#define BASE64_TEXT(n) (((n) + 2) / 3 * 4 + 1)

void base64_encode(const void *bytes, size_t n, char *ret_text);
/* At most `size` bytes. -EINVAL for any other character, wrong padding, or bits that stand for nothing; -E2BIG. Nothing is
 * written then. */
_must_check_ int base64_decode(const char *text, size_t len, void *ret_bytes, size_t size,
			       size_t *ret_n);
