/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sums of pages that go over a stream without TLS (MOVE_SUMMED). What stands before the pages is
 *
 *    u64 first page, u64 sum * n, u32 CRC-32 of these
 *
 * so no page lands where it does not belong. The guest may write to a page between its sum and the wire: then it does not agree with its sum, is dirty,
 * and comes again. One that still disagrees after the last round, for which the guest stood still, was changed on the way.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define PAGE_SUMS_BYTES(n) (12 + 8 * (size_t)(n))

/* Finds every change within one aligned word of 8 bytes, and others but for one in 2^54. The guest may write meanwhile. Any thread. */
uint64_t page_sum(const void *page);

/* What stands before `n` pages. */
void page_sums_fill(uint64_t first, uint32_t n, const void *pages, uint8_t *ret_sums);
/* Whether it arrived as it was sent; then page_sums_at gives the sum of page i of it. */
_must_check_ bool page_sums_whole(const uint8_t *sums, uint32_t n);
uint64_t page_sums_at(const uint8_t *sums, uint32_t i);
