/* SPDX-License-Identifier: Apache-2.0 */
#include "move/disks/map.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "block/log.h"

struct disk_map {
	uint64_t n_chunks;
	size_t n_words;
	int log_fd;
	uint64_t *shared; /* the VM's to OR into: atomic */
	struct block_log pending;
	uint64_t left; /* bits of it: atomic */
	pthread_mutex_t lock;
	size_t next; /* lock held: words before it are empty */
};

DEFINE_CLEANUP(struct disk_map, disk_map_free, disk_mapp)

static int make_shared(struct disk_map *map)
{
	size_t bytes = map->n_words * sizeof(uint64_t);
	void *shared;

	map->log_fd = memfd_create("disk-log", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (map->log_fd < 0 || ftruncate(map->log_fd, (off_t)bytes) < 0 ||
	    fcntl(map->log_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map->log_fd, 0);
	if (shared == MAP_FAILED)
		return -errno;
	map->shared = shared;
	return 0;
}

int disk_map_new(uint64_t size, struct disk_map **ret_map)
{
	_cleanup_(disk_mapp) struct disk_map *map = calloc(1, sizeof(*map));
	int r;

	if (!map)
		return -ENOMEM;
	pthread_mutex_init(&map->lock, NULL);
	map->log_fd = -1;
	map->n_chunks = block_chunks(size);
	map->n_words = block_log_bytes(size) / sizeof(uint64_t);
	map->pending = (struct block_log){
		.words = calloc(map->n_words, sizeof(uint64_t)),
		.n_chunks = map->n_chunks,
		.shift = block_chunk_shift(size),
	};
	r = map->pending.words ? make_shared(map) : -ENOMEM;
	if (r < 0)
		return r;
	*ret_map = TAKE_PTR(map);
	return 0;
}

void disk_map_free(struct disk_map *map)
{
	if (!map)
		return;
	if (map->shared)
		munmap(map->shared, map->n_words * sizeof(uint64_t));
	fd_close(map->log_fd);
	free(map->pending.words);
	pthread_mutex_destroy(&map->lock);
	free(map);
}

int disk_map_log_fd(const struct disk_map *map)
{
	return map->log_fd;
}

static uint64_t count(const uint64_t *words, size_t n)
{
	uint64_t bits = 0;

	for (size_t i = 0; i < n; i++)
		bits += (uint64_t)__builtin_popcountll(
			__atomic_load_n(&words[i], __ATOMIC_RELAXED));
	return bits;
}

void disk_map_add(struct disk_map *map, uint64_t offset, uint64_t len)
{
	block_log_mark(&map->pending, offset, len);
}

/* Bits beyond the disk's end are nobody's. */
static uint64_t valid_bits(const struct disk_map *map, size_t word)
{
	uint64_t n = map->n_chunks - word * 64;

	return n >= 64 ? ~0ULL : (1ULL << n) - 1;
}

/* The bits are gone before the chunks are read: acquire. */
void disk_map_take(struct disk_map *map)
{
	for (size_t i = 0; i < map->n_words; i++)
		if (__atomic_load_n(&map->shared[i], __ATOMIC_RELAXED))
			map->pending.words[i] |= __atomic_exchange_n(&map->shared[i], 0,
								     __ATOMIC_ACQ_REL) &
						 valid_bits(map, i);
}

void disk_map_rewind(struct disk_map *map)
{
	__atomic_store_n(&map->left, count(map->pending.words, map->n_words), __ATOMIC_RELAXED);
	map->next = 0;
}

static bool is_pending(const struct disk_map *map, uint64_t chunk)
{
	return map->pending.words[chunk / 64] >> chunk % 64 & 1;
}

uint64_t disk_map_run(const struct disk_map *map, uint64_t from, bool *ret_pending)
{
	uint64_t to = from;

	*ret_pending = is_pending(map, from);
	while (to < map->n_chunks && is_pending(map, to) == *ret_pending)
		to++;
	return to;
}

uint64_t disk_map_left(const struct disk_map *map)
{
	return __atomic_load_n(&map->left, __ATOMIC_RELAXED);
}

uint64_t disk_map_logged(const struct disk_map *map)
{
	return count(map->shared, map->n_words);
}

static bool claim_locked(struct disk_map *map, uint64_t *ret_chunk)
{
	uint64_t *words = map->pending.words;
	unsigned int bit;

	while (map->next < map->n_words && !words[map->next])
		map->next++;
	if (map->next == map->n_words)
		return false;
	bit = (unsigned int)__builtin_ctzll(words[map->next]);
	words[map->next] &= words[map->next] - 1;
	*ret_chunk = map->next * 64 + bit;
	__atomic_fetch_sub(&map->left, 1, __ATOMIC_RELAXED);
	return true;
}

bool disk_map_claim(struct disk_map *map, uint64_t *ret_chunk)
{
	bool claimed;

	pthread_mutex_lock(&map->lock);
	claimed = claim_locked(map, ret_chunk);
	pthread_mutex_unlock(&map->lock);
	return claimed;
}
