/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which chunks of a disk were written: one bit for each, in memory that another process may map and take bits from.
 *
 *   write, discard, zeroes --done--> bit --taken by exchange--> the chunk is read
 *
 * A bit is set when its request has ended, well or not. Whoever takes a bit and then reads the chunk either reads what was written, or
 * the request had not ended when the bit was taken: then it is set again. So nothing is lost whatever the order in which requests
 * are submitted, reach the disk and end; a mark at submission would add nothing.
 */

#include <stdint.h>

#include "base/macros.h"

#define BLOCK_CHUNK_SHIFT_MIN 16 /* 64 KiB */
#define BLOCK_CHUNK_SHIFT_MAX 20 /* 1 MiB */
#define BLOCK_CHUNKS_AIM (1ULL << 21)

/* Chunks are as small as 2 Mi of them allow. Both ends of a copy, and whoever logs, reckon so: never to be changed. */
static inline unsigned int block_chunk_shift(uint64_t size)
{
	unsigned int shift = BLOCK_CHUNK_SHIFT_MIN;

	while (shift < BLOCK_CHUNK_SHIFT_MAX && size >> shift > BLOCK_CHUNKS_AIM)
		shift++;
	return shift;
}

static inline uint64_t block_chunks(uint64_t size)
{
	return (size + (1ULL << block_chunk_shift(size)) - 1) >> block_chunk_shift(size);
}

/* Bytes of the bitmap: whole words. */
static inline size_t block_log_bytes(uint64_t size)
{
	return (block_chunks(size) + 63) / 64 * sizeof(uint64_t);
}

struct block_log {
	uint64_t *words; /* borrowed; changed atomically */
	uint64_t n_chunks;
	unsigned int shift;
};

/* Sets the bits of all chunks that the range touches; what lies beyond the disk is left out. Any thread. */
void block_log_mark(struct block_log *log, uint64_t offset, uint64_t len);
