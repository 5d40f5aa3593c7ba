/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/demand_internal.h"

/* The next pages in [*at, end) that are due, which are this thread's from here on. */
static uint64_t claim_run(struct demand *demand, uint64_t *at, uint64_t end)
{
	uint64_t n = 0;

	pthread_mutex_lock(&demand->lock);
	while (*at < end && !bit_is(demand->due, *at))
		++*at;
	for (; *at + n < end && bit_is(demand->due, *at + n); n++)
		bit_clear(demand->due, *at + n);
	pthread_mutex_unlock(&demand->lock);
	return n;
}

static void run_is_there(struct demand *demand, uint64_t first, uint64_t n)
{
	pthread_mutex_lock(&demand->lock);
	for (uint64_t page = first; page < first + n; page++)
		demand_block_is_there(demand, page);
	demand_count_placed(demand, n);
	pthread_mutex_unlock(&demand->lock);
}

int demand_place_pages(struct demand *demand, uint64_t first, uint64_t n, const uint8_t *content)
{
	const uint64_t end = first + n;
	uint64_t at = first, run;

	while ((run = claim_run(demand, &at, end))) {
		int r = demand_put(demand, at, run,
				   content ? content + (at - first) * DEMAND_PAGE_BYTES : NULL);

		if (r < 0)
			return r;
		run_is_there(demand, at, run);
		at += run;
	}
	return 0;
}

/* Holes for those who wait in the `n` pages of `asked` from `first` on. */
static int fill_asked(const struct demand *demand, uint64_t first, uint64_t asked)
{
	int r = 0;

	for (; r == 0 && asked; asked &= asked - 1)
		r = demand_fill_hole(demand, first + (uint64_t)__builtin_ctzll(asked));
	return r;
}

static int skip_word(struct demand *demand, uint64_t word, uint64_t mask)
{
	uint64_t gone, asked;

	pthread_mutex_lock(&demand->lock);
	gone = demand->due[word] & mask;
	demand->due[word] &= ~gone;
	demand->lacks[word] &= ~gone;
	demand->lacking -= (uint64_t)__builtin_popcountll(gone);
	asked = demand->asked[word] & gone;
	demand->waited -= (uint64_t)__builtin_popcountll(asked);
	pthread_mutex_unlock(&demand->lock);
	return fill_asked(demand, word * WORD, asked);
}

int demand_skip_pages(struct demand *demand, uint64_t first, uint64_t end)
{
	int r = 0;

	for (uint64_t word = first / WORD; r == 0 && word * WORD < end; word++)
		r = skip_word(demand, word, bits_within(word, first, end));
	return r;
}
