/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Two maps of bits stand behind the three kinds of pages. `due`: pages whose content nobody has brought yet. `lacks`: blocks that are
 * not there yet; one stays set while its content is being placed, so that the fault thread does not take it for a hole and put
 * zeroes in its place.
 */

#include <pthread.h>

#include "move/pages/demand.h"

#define WORD 64U

/* A block of which some pages have come. */
struct part {
	uint64_t block;
	uint32_t pages; /* that count as placed with it */
	uint8_t *content;
};

struct bank {
	uint64_t address, first, n; /* where in the VM's process; pages */
};

struct demand {
	int uffd, ram_fd; /* borrowed */
	int stop;	  /* an eventfd */
	size_t n_banks;
	struct bank banks[MEMORY_BANKS_MAX];
	uint64_t n_pages;
	uint32_t per_block;
	bool can_zero; /* the kernel puts zeroes itself */
	uint8_t *zeroes;
	struct move_shared *shared;
	const struct thread_entry *entry;
	void (*wanted)(void *ctx, uint64_t first, uint32_t n);
	void *ctx;
	pthread_t thread;
	bool started, finished;
	pthread_mutex_t lock;	 /* for all below */
	uint64_t *due;		 /* by page */
	uint64_t *lacks, *asked; /* by block */
	uint64_t lacking, left;
	uint64_t waited; /* blocks that are asked for and lack */
	size_t n_parts;
	struct part parts[DEMAND_PARTS_MAX];
	struct error failure;
};

/* ---- bits ---- */

static inline bool bit_is(const uint64_t *bits, uint64_t at)
{
	return bits[at / WORD] >> (at % WORD) & 1;
}

static inline void bit_set(uint64_t *bits, uint64_t at)
{
	bits[at / WORD] |= 1ULL << (at % WORD);
}

static inline void bit_clear(uint64_t *bits, uint64_t at)
{
	bits[at / WORD] &= ~(1ULL << (at % WORD));
}

/* Those of word `word` that lie in [first, end). */
static inline uint64_t bits_within(uint64_t word, uint64_t first, uint64_t end)
{
	uint64_t from = MAX(first, word * WORD), to = MIN(end, (word + 1) * WORD);

	if (from >= to)
		return 0;
	return (~0ULL << (from - word * WORD)) & (~0ULL >> ((word + 1) * WORD - to));
}

static inline bool demand_any_due(const struct demand *demand, uint64_t first, uint64_t end)
{
	for (uint64_t word = first / WORD; word * WORD < end; word++)
		if (demand->due[word] & bits_within(word, first, end))
			return true;
	return false;
}

/* demand_put.c: what the kernel is asked to do. */

/* Content for [first, first + n): whole blocks that this thread alone places. NULL: zeroes. */
_must_check_ int demand_put(const struct demand *demand, uint64_t first, uint64_t n,
			    const uint8_t *content);
/* The block of `page`, whose pages nobody sends: zeroes, unless it is there by now. */
_must_check_ int demand_fill_hole(const struct demand *demand, uint64_t page);

/* demand.c: under the lock */
void demand_block_is_there(struct demand *demand, uint64_t block);
void demand_count_placed(struct demand *demand, uint64_t n);

/* demand_pages.c: where a block is a page. [first, first + n) is RAM; [first, end) as well. Any thread. */
_must_check_ int demand_place_pages(struct demand *demand, uint64_t first, uint64_t n,
				    const uint8_t *content);
_must_check_ int demand_skip_pages(struct demand *demand, uint64_t first, uint64_t end);

/* demand_blocks.c: where it has many. */
_must_check_ int demand_place_blocks(struct demand *demand, uint64_t first, uint64_t n,
				     const uint8_t *content);
_must_check_ int demand_skip_blocks(struct demand *demand, uint64_t first, uint64_t end);
