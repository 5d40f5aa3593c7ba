/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/map.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "move/pages/map_internal.h"

#define WORD_PAGES 64U
#define BLOCK_WORDS 8 /* of 2 MiB */

struct page_map {
	struct page_file file;
	size_t n_words;
	uint64_t *dirty;     /* shared with the VM's process: atomic */
	uint64_t *populated; /* words are taken under the lock and read without: atomic */
	uint64_t *held;	     /* a word belongs to who claimed its pages */
	pthread_mutex_t lock;
	size_t next; /* word; written under the lock, atomic */
};

DEFINE_CLEANUP(struct page_map, page_map_free, page_map_freep)

int page_map_new(int ram_fd, uint64_t ram_bytes, uint64_t *dirty, struct page_map **ret_map,
		 struct error *err)
{
	_cleanup_(page_map_freep) struct page_map *map = calloc(1, sizeof(*map));
	int r;

	if (!map)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "move: no memory");
	pthread_mutex_init(&map->lock, NULL);
	r = page_file_open(ram_fd, ram_bytes, &map->file, err);
	if (r < 0)
		return r;
	map->n_words = ram_bytes / PAGE_BYTES / WORD_PAGES;
	map->dirty = dirty;
	map->populated = calloc(map->n_words, sizeof(uint64_t));
	map->held = calloc(map->n_words, sizeof(uint64_t));
	if (!map->populated || !map->held)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "move: no memory");
	*ret_map = TAKE_PTR(map);
	return 0;
}

void page_map_free(struct page_map *map)
{
	if (!map)
		return;
	page_file_close(&map->file);
	free(map->populated);
	free(map->held);
	pthread_mutex_destroy(&map->lock);
	free(map);
}

bool page_map_is_hugetlb(const struct page_map *map)
{
	return map->file.hugetlb;
}

const uint8_t *page_map_ram(const struct page_map *map)
{
	return map->file.ram;
}

int page_map_fd(const struct page_map *map)
{
	return map->file.fd;
}

/* Bits [from, to) of a word; to is 1..64. */
static uint64_t word_mask(unsigned int from, unsigned int to)
{
	return (~0ULL << from) & (~0ULL >> (WORD_PAGES - to));
}

static int add_range(void *ctx, uint64_t start, uint64_t end)
{
	struct page_map *map = ctx;
	uint64_t page = start / PAGE_BYTES, last = (end - 1) / PAGE_BYTES;

	while (page <= last) {
		uint64_t to = MIN(last + 1, (page / WORD_PAGES + 1) * WORD_PAGES);

		__atomic_fetch_or(&map->populated[page / WORD_PAGES],
				  word_mask(page % WORD_PAGES,
					    (unsigned int)(to - 1) % WORD_PAGES + 1),
				  __ATOMIC_RELAXED);
		page = to;
	}
	return 0;
}

int page_map_add_populated(struct page_map *map, struct error *err)
{
	int r = page_file_walk(&map->file, add_range, map);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED,
				 "move: cannot tell which memory is in use: %s", strerror(-r));
	return 0;
}

void page_map_rewind(struct page_map *map)
{
	__atomic_store_n(&map->next, 0, __ATOMIC_RELAXED);
}

static uint64_t word_peek(const struct page_map *map, size_t word)
{
	return __atomic_load_n(&map->dirty[word], __ATOMIC_RELAXED) |
	       __atomic_load_n(&map->populated[word], __ATOMIC_RELAXED);
}

uint64_t page_map_left(const struct page_map *map)
{
	size_t word = __atomic_load_n(&map->next, __ATOMIC_RELAXED);
	uint64_t left = 0;

	for (; word < map->n_words; word++)
		left += (uint64_t)__builtin_popcountll(word_peek(map, word));
	return left;
}

/* The bits are gone before the pages are read: acquire. */
static uint64_t word_take(struct page_map *map, size_t word)
{
	if (!word_peek(map, word))
		return 0;
	return __atomic_exchange_n(&map->dirty[word], 0, __ATOMIC_ACQ_REL) |
	       __atomic_exchange_n(&map->populated[word], 0, __ATOMIC_RELAXED);
}

static void claim_locked(struct page_map *map, uint32_t max_pages, struct page_claim *claim)
{
	size_t word = map->next;

	for (;
	     word < map->n_words && claim->n_words < PAGE_CLAIM_WORDS && claim->n_pages < max_pages;
	     word++) {
		uint64_t bits = word_take(map, word);

		if (!bits)
			continue;
		claim->words[claim->n_words].first = word * WORD_PAGES;
		claim->words[claim->n_words++].bits = bits;
		claim->n_pages += (uint32_t)__builtin_popcountll(bits);
	}
	__atomic_store_n(&map->next, word, __ATOMIC_RELAXED);
}

bool page_map_claim(struct page_map *map, uint32_t max_pages, struct page_claim *ret_claim)
{
	ret_claim->at = ret_claim->n_words = ret_claim->n_pages = 0;
	pthread_mutex_lock(&map->lock);
	claim_locked(map, max_pages, ret_claim);
	pthread_mutex_unlock(&map->lock);
	return ret_claim->n_words > 0;
}

bool page_map_claim_range(struct page_map *map, uint64_t first, uint32_t n,
			  struct page_claim *ret_claim)
{
	uint64_t end = MIN(first + n, map->n_words * WORD_PAGES), to;

	ret_claim->at = ret_claim->n_words = ret_claim->n_pages = 0;
	pthread_mutex_lock(&map->lock);
	for (uint64_t page = first; page < end && ret_claim->n_words < PAGE_CLAIM_WORDS;
	     page = to) {
		size_t word = page / WORD_PAGES;
		uint64_t mask, bits;

		to = MIN(end, (word + 1) * WORD_PAGES);
		mask = word_mask(page % WORD_PAGES, (unsigned int)(to - 1) % WORD_PAGES + 1);
		bits = __atomic_fetch_and(&map->populated[word], ~mask, __ATOMIC_ACQ_REL) & mask;
		if (!bits)
			continue;
		ret_claim->words[ret_claim->n_words].first = word * WORD_PAGES;
		ret_claim->words[ret_claim->n_words++].bits = bits;
		ret_claim->n_pages += (uint32_t)__builtin_popcountll(bits);
	}
	pthread_mutex_unlock(&map->lock);
	return ret_claim->n_words > 0;
}

/* The words of one page of 2 MiB, of which some are to be sent. */
static void settle_block(struct page_map *map, size_t from, size_t to)
{
	for (size_t word = from; word < to; word++)
		map->populated[word] |= map->file.hugetlb ? ~0ULL : map->held[word];
}

void page_map_settle(struct page_map *map, bool huge)
{
	for (size_t from = 0, to; from < map->n_words; from = to) {
		uint64_t any = 0;

		to = MIN(from + BLOCK_WORDS, map->n_words);
		for (size_t word = from; word < to; word++)
			any |= map->populated[word] |= __atomic_exchange_n(&map->dirty[word], 0,
									   __ATOMIC_ACQ_REL);
		if (any && (huge || map->file.hugetlb))
			settle_block(map, from, to);
	}
	page_map_rewind(map);
}

uint64_t page_map_rest(const struct page_map *map, uint64_t word)
{
	return word < map->n_words ? __atomic_load_n(&map->populated[word], __ATOMIC_RELAXED) : 0;
}

/* Takes at most `max` set bits in a row from bit `from` of a word; how many. */
static uint32_t take_bits(uint64_t *bits, unsigned int from, uint32_t max)
{
	uint64_t clear = ~(*bits >> from);
	uint32_t n = clear ? (uint32_t)__builtin_ctzll(clear) : WORD_PAGES;

	n = MIN(MIN(n, WORD_PAGES - from), max);
	if (n)
		*bits &= ~word_mask(from, from + n);
	return n;
}

bool page_claim_run(struct page_claim *claim, uint32_t max, uint64_t *ret_first, uint32_t *ret_n)
{
	unsigned int from;
	uint32_t n;

	while (claim->at < claim->n_words && !claim->words[claim->at].bits)
		claim->at++;
	if (claim->at == claim->n_words)
		return false;
	from = (unsigned int)__builtin_ctzll(claim->words[claim->at].bits);
	*ret_first = claim->words[claim->at].first + from;
	n = take_bits(&claim->words[claim->at].bits, from, max);
	/* It goes on in the next word where it ends with this one. */
	while (n < max && (*ret_first + n) % WORD_PAGES == 0 && claim->at + 1 < claim->n_words &&
	       claim->words[claim->at + 1].first == *ret_first + n &&
	       (claim->words[claim->at + 1].bits & 1))
		n += take_bits(&claim->words[++claim->at].bits, 0, max - n);
	*ret_n = n;
	return true;
}

bool page_map_held(const struct page_map *map, uint64_t page)
{
	return map->held[page / WORD_PAGES] >> (page % WORD_PAGES) & 1;
}

void page_map_set_held(struct page_map *map, uint64_t first, uint32_t n, bool held)
{
	for (uint64_t page = first; page < first + n; page++) {
		uint64_t bit = 1ULL << (page % WORD_PAGES);
		uint64_t *word = &map->held[page / WORD_PAGES];

		*word = held ? *word | bit : *word & ~bit;
	}
}
