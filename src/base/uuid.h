/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* UUIDs in their text form, lower case (RFC 4122, 3). Any thread. */

#include <stdbool.h>

#include "base/macros.h"

#define UUID_TEXT 37 /* bytes with the NUL */

/* 8-4-4-4-12 hexadecimal digits. Upper case is for uuid_lower. */
bool uuid_valid(const char *text);
void uuid_lower(char *text);
/* A random one (RFC 4122, 4.4); negative errno when the host has no entropy yet. */
_must_check_ int uuid_make(char ret_text[UUID_TEXT]);
