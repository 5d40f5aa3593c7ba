/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A mirror's ring, as the VM that fills it has it.
 *
 * Several threads put at once. A place is reserved, in order, and later committed under the lock; between the two its thread copies without it. `put`, which the
 * reader goes by, moves only over places that are committed, in order: an entry that is half copied is never seen, and a slow copy holds back those behind it.
 *
 *      freed            put                reserved
 *   ---|== == == == == ==|== .. == .. .. == |---          ==: committed, ..: being copied
 *
 * Nothing that stands in the shared file is read again, but for what was taken: the VM's own records are beside it.
 */

#include "block/mirror_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"

/* What begins at a page of the ring. */
struct place {
	uint32_t pages;
	bool committed, done;
};

struct mirror_ring {
	struct mirror_head *head; /* the file */
	uint8_t *data;		  /* of it: the ring */
	uint64_t bytes;
	pthread_mutex_t lock; /* a leaf; no byte of a guest's is touched under it */
	/* under `lock`: bytes since the beginning */
	uint64_t reserved, put, freed;
	uint64_t taken;	 /* the last that made sense */
	uint64_t wanted; /* the largest entry that found no room; 0: none */
	uint32_t n_busy; /* entries that are not done; atomic */
	struct place places[];
};

static uint64_t index_of(const struct mirror_ring *ring, uint64_t at)
{
	return at & (ring->bytes - 1);
}

static struct place *place_at(struct mirror_ring *ring, uint64_t at)
{
	return &ring->places[index_of(ring, at) / MIRROR_ALIGN];
}

static struct mirror_entry *entry_at(struct mirror_ring *ring, uint64_t at)
{
	return (struct mirror_entry *)(void *)(ring->data + index_of(ring, at));
}

/* ---- room ---- */

static void look_what_was_taken_locked(struct mirror_ring *ring)
{
	uint64_t taken = __atomic_load_n(&ring->head->taken, __ATOMIC_ACQUIRE);

	if (taken > ring->taken && taken <= ring->put)
		ring->taken = taken;
}

static void reclaim_locked(struct mirror_ring *ring)
{
	look_what_was_taken_locked(ring);
	while (ring->freed < ring->taken) {
		const struct place *place = place_at(ring, ring->freed);
		uint64_t size = (uint64_t)place->pages * MIRROR_ALIGN;

		if (!place->done || size > ring->taken - ring->freed)
			return;
		ring->freed += size;
	}
}

/* Small entries leave room for a large one that waits, before which the ring's end may be in the way; they would keep it waiting for ever. Of an empty
 * ring nobody can have waited. */
static uint64_t room_kept_locked(struct mirror_ring *ring, uint64_t size)
{
	if (size >= ring->wanted || ring->freed == ring->reserved)
		ring->wanted = 0;
	return 2 * ring->wanted;
}

static void add_place_locked(struct mirror_ring *ring, uint64_t size)
{
	*place_at(ring,
		  ring->reserved) = (struct place){ .pages = (uint32_t)(size / MIRROR_ALIGN) };
	ring->reserved += size;
}

/* `*ret_skip`: bytes up to the ring's end that stay unused, before the place. */
static int reserve_locked(struct mirror_ring *ring, uint64_t size, uint64_t *ret_at,
			  uint64_t *ret_skip)
{
	uint64_t to_end = ring->bytes - index_of(ring, ring->reserved);
	uint64_t skip = size > to_end ? to_end : 0, used;

	reclaim_locked(ring);
	used = ring->reserved - ring->freed;
	if (used + skip + size + room_kept_locked(ring, size) > ring->bytes) {
		ring->wanted = MAX(ring->wanted, size);
		return -EAGAIN;
	}
	if (skip)
		add_place_locked(ring, skip);
	*ret_at = ring->reserved;
	*ret_skip = skip;
	add_place_locked(ring, size);
	__atomic_add_fetch(&ring->n_busy, 1, __ATOMIC_RELAXED);
	return 0;
}

static void commit_locked(struct mirror_ring *ring, uint64_t at, uint64_t skip)
{
	if (skip) {
		struct place *place = place_at(ring, at - skip);

		place->committed = place->done = true;
	}
	place_at(ring, at)->committed = true;
	while (ring->put < ring->reserved && place_at(ring, ring->put)->committed)
		ring->put += (uint64_t)place_at(ring, ring->put)->pages * MIRROR_ALIGN;
	__atomic_store_n(&ring->head->put, ring->put, __ATOMIC_RELEASE);
}

/* ---- entries ---- */

/* `len` bytes behind the first `skip`. */
static void copy_from(const struct iovec *iov, uint64_t skip, uint8_t *to, uint64_t len)
{
	for (; len; iov++) {
		uint64_t before = MIN(skip, iov->iov_len), n = MIN(len, iov->iov_len - before);

		if (n)
			memcpy(to, (const uint8_t *)iov->iov_base + before, n);
		skip -= before;
		to += n;
		len -= n;
	}
}

static bool iov_holds(const struct iovec *iov, unsigned int n_iov, uint64_t len)
{
	uint64_t all = 0;

	for (unsigned int i = 0; i < n_iov && all < len; i++)
		all += iov[i].iov_len;
	return all >= len;
}

int mirror_ring_put_part(struct mirror_ring *ring, const struct mirror_entry *entry,
			 const struct iovec *iov, unsigned int n_iov, uint64_t skip,
			 struct mirror_entry **ret_entry, void **ret_data)
{
	uint64_t size = mirror_entry_size(entry->kind, entry->len), at, unused;
	struct mirror_entry *placed;
	uint8_t *data;
	int r;

	if (!size || (entry->kind == MIRROR_WRITE && !iov_holds(iov, n_iov, skip + entry->len)))
		return -EFBIG;
	pthread_mutex_lock(&ring->lock);
	r = reserve_locked(ring, size, &at, &unused);
	pthread_mutex_unlock(&ring->lock);
	if (r < 0)
		return r;
	if (unused)
		*entry_at(ring, at - unused) =
			(struct mirror_entry){ .kind = MIRROR_SKIP, .size = unused, .done = 1 };
	placed = entry_at(ring, at);
	data = (uint8_t *)placed + MIRROR_ALIGN;
	*placed = *entry;
	placed->size = size;
	placed->done = 0;
	if (entry->kind == MIRROR_WRITE)
		copy_from(iov, skip, data, entry->len);
	pthread_mutex_lock(&ring->lock);
	commit_locked(ring, at, unused);
	pthread_mutex_unlock(&ring->lock);
	*ret_entry = placed;
	*ret_data = data;
	return 0;
}

int mirror_ring_put(struct mirror_ring *ring, const struct mirror_entry *entry,
		    const struct iovec *iov, unsigned int n_iov, struct mirror_entry **ret_entry,
		    void **ret_data)
{
	return mirror_ring_put_part(ring, entry, iov, n_iov, 0, ret_entry, ret_data);
}

void mirror_ring_done(struct mirror_ring *ring, struct mirror_entry *entry)
{
	uint64_t index = (uint64_t)((uint8_t *)entry - ring->data);

	__atomic_store_n(&entry->done, 1, __ATOMIC_RELEASE);
	pthread_mutex_lock(&ring->lock);
	ring->places[index / MIRROR_ALIGN].done = true;
	pthread_mutex_unlock(&ring->lock);
	__atomic_sub_fetch(&ring->n_busy, 1, __ATOMIC_RELEASE); /* last: the ring may go */
}

uint64_t mirror_ring_end(const struct mirror_ring *ring)
{
	return ring->put;
}

bool mirror_ring_idle(const struct mirror_ring *ring)
{
	return !__atomic_load_n(&ring->n_busy, __ATOMIC_ACQUIRE);
}

/* ---- life ---- */

/* A file that could shrink under our map would end the VM at the next touch. */
static int judge_file(int fd, uint64_t *ret_bytes)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < (off_t)MIRROR_HEAD ||
	    !mirror_is_ring_size((uint64_t)st.st_size - MIRROR_HEAD))
		return -EINVAL;
	*ret_bytes = (uint64_t)st.st_size - MIRROR_HEAD;
	return 0;
}

static int ring_make(int fd, struct mirror_ring **ret_ring)
{
	struct mirror_ring *ring;
	uint64_t bytes = 0;
	void *map;
	int r = judge_file(fd, &bytes);

	if (r < 0)
		return r;
	ring = calloc(1, sizeof(*ring) + bytes / MIRROR_ALIGN * sizeof(ring->places[0]));
	if (!ring)
		return -ENOMEM;
	map = mmap(NULL, MIRROR_HEAD + bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		r = -errno;
		free(ring);
		return r;
	}
	ring->head = map;
	ring->data = (uint8_t *)map + MIRROR_HEAD;
	ring->bytes = bytes;
	pthread_mutex_init(&ring->lock, NULL);
	__atomic_store_n(&ring->head->put, 0, __ATOMIC_RELEASE);
	*ret_ring = ring;
	return 0;
}

int mirror_ring_take(int fd, struct mirror_ring **ret_ring, struct error *err)
{
	int r = ring_make(fd, ret_ring);

	fd_close(fd);
	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED,
				 "the mirror's ring cannot be used: %s; both programs must be of "
				 "one installation",
				 strerror(-r))
		     : 0;
}

void mirror_ring_free(struct mirror_ring *ring)
{
	if (!ring)
		return;
	munmap(ring->head, MIRROR_HEAD + ring->bytes);
	pthread_mutex_destroy(&ring->lock);
	free(ring);
}
