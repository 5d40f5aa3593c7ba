/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/delta_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "move/pages/map.h"
#include "move/pages/zero.h"

#define WAYS 4 /* places that a page may have */
#define LOCKS 64
#define BYTES_MIN KIB(64)

struct delta_cache {
	uint64_t n_sets; /* a power of two */
	uint64_t bytes;
	uint64_t *pages;   /* WAYS per set: page + 1, 0: none; under the set's lock */
	uint8_t *contents; /* as many pages; under the set's lock */
	uint32_t *victims; /* per set: the last number drawn */
	pthread_mutex_t locks[LOCKS];
};

DEFINE_CLEANUP(struct delta_cache, delta_cache_free, delta_cache_freep)

static uint64_t sets_of(uint64_t bytes)
{
	uint64_t sets = BYTES_MIN / PAGE_BYTES / WAYS;

	while (sets * 2 * WAYS * PAGE_BYTES <= bytes)
		sets *= 2;
	return sets;
}

int delta_cache_new(uint64_t bytes, struct delta_cache **ret_cache)
{
	_cleanup_(delta_cache_freep) struct delta_cache *cache = calloc(1, sizeof(*cache));
	void *contents;

	if (!cache)
		return -ENOMEM;
	for (size_t i = 0; i < LOCKS; i++)
		pthread_mutex_init(&cache->locks[i], NULL);
	cache->n_sets = sets_of(bytes);
	cache->bytes = cache->n_sets * WAYS * PAGE_BYTES;
	contents = mmap(NULL, cache->bytes, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (contents == MAP_FAILED)
		return -errno;
	cache->contents = contents;
	(void)!madvise(contents, cache->bytes, MADV_DONTDUMP);
	cache->pages = calloc(cache->n_sets, WAYS * sizeof(*cache->pages));
	cache->victims = calloc(cache->n_sets, sizeof(*cache->victims));
	if (!cache->pages || !cache->victims)
		return -ENOMEM;
	*ret_cache = TAKE_PTR(cache);
	return 0;
}

void delta_cache_free(struct delta_cache *cache)
{
	if (!cache)
		return;
	if (cache->contents)
		munmap(cache->contents, cache->bytes);
	for (size_t i = 0; i < LOCKS; i++)
		pthread_mutex_destroy(&cache->locks[i]);
	free(cache->pages);
	free(cache->victims);
	free(cache);
}

static uint64_t *find_locked(const struct delta_cache *cache, uint64_t set, uint64_t page)
{
	uint64_t *ways = cache->pages + set * WAYS;

	for (size_t i = 0; i < WAYS; i++)
		if (ways[i] == page + 1)
			return &ways[i];
	return NULL;
}

static uint8_t *content_of(const struct delta_cache *cache, const uint64_t *way)
{
	return cache->contents + (uint64_t)(way - cache->pages) * PAGE_BYTES;
}

/* A full set takes every fourth page, in a place drawn by chance: of a sweep over more than fits some is still there when it
 * comes around again, and what is written often gets in all the same. NULL: not this one. */
static uint64_t *victim_locked(struct delta_cache *cache, uint64_t set)
{
	uint32_t drawn = cache->victims[set] = cache->victims[set] * 1664525 + 1013904223;

	return (drawn >> 28) < WAYS ? &cache->pages[set * WAYS + (drawn >> 28)] : NULL;
}

static void insert_locked(struct delta_cache *cache, uint64_t set, uint64_t page,
			  const void *content)
{
	uint64_t *way = find_locked(cache, set, UINT64_MAX); /* an empty one: 0 */

	if (!way)
		way = victim_locked(cache, set);
	if (!way)
		return;
	*way = page + 1;
	memcpy(content_of(cache, way), content, PAGE_BYTES);
}

bool delta_cache_replace(struct delta_cache *cache, uint64_t page, const void *content,
			 void *ret_delta, unsigned int *ret_lines)
{
	uint64_t set = page % cache->n_sets;
	pthread_mutex_t *lock = &cache->locks[set % LOCKS];
	uint64_t *way;

	pthread_mutex_lock(lock);
	way = find_locked(cache, set, page);
	if (way) {
		memcpy(ret_delta, content_of(cache, way), PAGE_BYTES);
		*ret_lines = page_xor(ret_delta, content);
		memcpy(content_of(cache, way), content, PAGE_BYTES);
	} else {
		insert_locked(cache, set, page, content);
	}
	pthread_mutex_unlock(lock);
	return way;
}

void delta_cache_forget(struct delta_cache *cache, uint64_t first, uint32_t n)
{
	for (uint64_t page = first; page < first + n; page++) {
		uint64_t set = page % cache->n_sets;
		uint64_t *way;

		pthread_mutex_lock(&cache->locks[set % LOCKS]);
		way = find_locked(cache, set, page);
		if (way)
			*way = 0;
		pthread_mutex_unlock(&cache->locks[set % LOCKS]);
	}
}
