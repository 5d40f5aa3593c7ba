/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a page's bytes tell. Pages of 4 KiB, aligned to 64 bytes; the guest may write to them meanwhile. Any thread. */

#include <stdbool.h>
#include <stdint.h>

#define ZERO_RANGE_BYTES 12 /* of {u64 first page, u32 count}, as it travels */

/* Stops at the first bytes that are not zero. */
bool page_is_zero(const void *page);

/* `page` XOR `before` into `before`. How many of its 64 lines of 64 bytes differ. */
unsigned int page_xor(void *before, const void *page);
