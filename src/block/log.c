/* SPDX-License-Identifier: Apache-2.0 */
#include "block/log.h"

/* Bits [from, to] of a word. */
static uint64_t mask(uint64_t from, uint64_t to)
{
	return (~0ULL << from) & (~0ULL >> (63 - to));
}

void block_log_mark(struct block_log *log, uint64_t offset, uint64_t len)
{
	uint64_t chunk = offset >> log->shift, last;

	if (!len || chunk >= log->n_chunks)
		return;
	last = MIN((offset + (len - 1)) >> log->shift, log->n_chunks - 1);
	while (chunk <= last) {
		uint64_t end = MIN(last, chunk | 63);

		__atomic_fetch_or(&log->words[chunk / 64], mask(chunk % 64, end % 64),
				  __ATOMIC_RELEASE);
		chunk = end + 1;
	}
}
