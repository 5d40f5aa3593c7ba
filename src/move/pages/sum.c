/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/sum.h"

#include <zlib.h>

#include "base/endian.h"
#include "move/pages/map.h"

/* Even, so that the factor of each word is odd: no change of one word alone comes out as no change of the sum. */
#define WEIGHT 0x9e3779b97f4a7c16ULL

typedef uint64_t __attribute__((may_alias, aligned(1))) word_t;

/* The sum of all words, each times 1 + WEIGHT * its distance from the end: two additions for a word, which is what a CPU does while it waits for the
 * next one. */
__attribute__((no_sanitize("thread"))) uint64_t page_sum(const void *page)
{
	const word_t *words = page;
	uint64_t sum = 0, sums = 0;

	for (size_t i = 0; i < PAGE_BYTES / sizeof(*words); i++) {
		sum += words[i];
		sums += sum;
	}
	return sum + WEIGHT * sums;
}

static uint32_t crc_of(const uint8_t *sums, uint32_t n)
{
	return (uint32_t)crc32_z(0, sums, PAGE_SUMS_BYTES(n) - 4);
}

void page_sums_fill(uint64_t first, uint32_t n, const void *pages, uint8_t *ret_sums)
{
	const uint8_t *at = pages;

	le_store(ret_sums, 8, first);
	for (uint32_t i = 0; i < n; i++)
		le_store(ret_sums + 8 + 8 * (size_t)i, 8, page_sum(at + i * PAGE_BYTES));
	le_store(ret_sums + PAGE_SUMS_BYTES(n) - 4, 4, crc_of(ret_sums, n));
}

bool page_sums_whole(const uint8_t *sums, uint32_t n)
{
	return le_load(sums + PAGE_SUMS_BYTES(n) - 4, 4) == crc_of(sums, n);
}

uint64_t page_sums_at(const uint8_t *sums, uint32_t i)
{
	return le_load(sums + 8 + 8 * (size_t)i, 8);
}
