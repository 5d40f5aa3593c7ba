/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/loop.h"

#define MEASURE_NS (10 * NSEC_PER_MSEC)

struct store {
	struct store_header *header;
	size_t len;
	/* The writer's own copies: what is mapped, readers may change. */
	uint32_t n_rings, ring_records;
	pthread_mutex_t lock; /* guards the devices; leaf */
	uint32_t n_devices;
	char devices[STORE_DEVICES_MAX][STORE_NAME];
	struct ring rings[];
};

static uint64_t store_len(uint32_t n_rings, uint32_t ring_records)
{
	return STORE_HEADER +
	       n_rings * (STORE_RING_HEADER + (uint64_t)ring_records * sizeof(struct watch_record));
}

uint64_t store_records_offset(uint32_t n_rings)
{
	return STORE_HEADER + (uint64_t)n_rings * STORE_RING_HEADER;
}

static bool shape_is_valid(uint32_t n_rings, uint32_t ring_records)
{
	return n_rings && n_rings <= STORE_RINGS_MAX && ring_records &&
	       ring_records <= STORE_RING_RECORDS_MAX && !(ring_records & (ring_records - 1));
}

int store_make_fd(const char *vm, uint32_t n_rings, uint32_t n_vcpus, uint32_t ring_records)
{
	struct store_header header = {
		.magic = STORE_MAGIC,
		.version = STORE_VERSION,
		.record_size = sizeof(struct watch_record),
		.n_rings = n_rings,
		.ring_records = ring_records,
		.n_vcpus = n_vcpus,
	};
	_cleanup_(fd_closep) int fd = -1;
	int r;

	if (!shape_is_valid(n_rings, ring_records) || n_vcpus > n_rings)
		return -EINVAL;
	fd = memfd_create("requests", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)store_len(n_rings, ring_records)) < 0)
		return -errno;
	snprintf(header.vm, sizeof(header.vm), "%s", vm);
	r = fd_write_at(fd, &header, sizeof(header), 0);
	if (r < 0)
		return r;
	/* A file that a reader made shorter would end the VM's process by a signal. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* A store that an earlier process of the VM wrote: its devices keep their numbers. Whatever stands there is text of some length. */
static void take_devices(struct store *store, const struct store_header *header)
{
	store->n_devices = MIN(header->n_devices, (uint32_t)STORE_DEVICES_MAX);
	for (uint32_t i = 0; i < store->n_devices; i++)
		snprintf(store->devices[i], STORE_NAME, "%.*s", STORE_NAME - 1, header->devices[i]);
}

static struct store *store_new(void *mapped, size_t len, const struct store_header *header)
{
	struct store *store = calloc(1, sizeof(*store) + header->n_rings * sizeof(store->rings[0]));

	if (!store)
		return NULL;
	store->header = mapped;
	store->len = len;
	store->n_rings = header->n_rings;
	store->ring_records = header->ring_records;
	take_devices(store, header);
	pthread_mutex_init(&store->lock, NULL);
	return store;
}

/* A file that a reader could still make shorter is none: it would end the VM's process by a signal. */
static bool is_store(int fd, const struct store_header *header, const struct stat *st)
{
	const int seals = fcntl(fd, F_GET_SEALS);

	return header->magic == STORE_MAGIC && header->version == STORE_VERSION &&
	       header->record_size == sizeof(struct watch_record) &&
	       shape_is_valid(header->n_rings, header->ring_records) &&
	       (uint64_t)st->st_size == store_len(header->n_rings, header->ring_records) &&
	       seals >= 0 && (seals & F_SEAL_SHRINK);
}

int store_open(int fd, struct store **ret_store)
{
	struct store_header header;
	struct store *store;
	struct stat st;
	void *mapped;
	int r = fd_read_at(fd, &header, sizeof(header), 0);

	if (r < 0)
		return r == -ENODATA ? -EPROTO : r;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!is_store(fd, &header, &st))
		return -EPROTO;
	mapped = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		return -errno;
	store = store_new(mapped, (size_t)st.st_size, &header);
	if (!store) {
		munmap(mapped, (size_t)st.st_size);
		return -ENOMEM;
	}
	*ret_store = store;
	return 0;
}

void store_free(struct store *store)
{
	if (!store)
		return;
	munmap(store->header, store->len);
	pthread_mutex_destroy(&store->lock);
	free(store);
}

struct store_header *store_header(struct store *store)
{
	return store->header;
}

/* Goes on where an earlier process of the VM ended. Any number does no harm, but 0 would not count as one. */
static uint64_t first_sequence(const struct ring *ring)
{
	const uint64_t head = __atomic_load_n(&ring->header->head, __ATOMIC_ACQUIRE);

	return head < STORE_SEQUENCE_MAX ? head + 1 : 1;
}

static void ring_catch_up(struct ring *ring)
{
	ring->next = first_sequence(ring);
	ring->dropped = __atomic_load_n(&ring->header->dropped, __ATOMIC_ACQUIRE);
}

struct ring *store_ring(struct store *store, uint32_t index, const char *name)
{
	uint8_t *headers = (uint8_t *)store->header + STORE_HEADER;
	uint8_t *records = headers + (size_t)store->n_rings * STORE_RING_HEADER;
	struct ring *ring;

	if (index >= store->n_rings)
		return NULL;
	ring = &store->rings[index];
	ring->store = store;
	ring->header = (void *)(headers + (size_t)index * STORE_RING_HEADER);
	ring->records = (struct watch_record *)records + (size_t)index * store->ring_records;
	ring->mask = store->ring_records - 1;
	if (!ring->next)
		ring_catch_up(ring);
	snprintf(ring->header->name, sizeof(ring->header->name), "%s", name);
	return ring;
}

void store_catch_up(struct store *store)
{
	for (uint32_t i = 0; i < store->n_rings; i++)
		if (store->rings[i].header)
			ring_catch_up(&store->rings[i]);
}

static uint16_t find_device(const struct store *store, const char *name)
{
	for (uint32_t i = 0; i < store->n_devices; i++)
		if (strncmp(store->devices[i], name, STORE_NAME - 1) == 0)
			return (uint16_t)i;
	return STORE_NO_DEVICE;
}

static uint16_t add_device_locked(struct store *store, const char *name)
{
	uint32_t index = store->n_devices;

	if (index == STORE_DEVICES_MAX)
		return STORE_NO_DEVICE;
	snprintf(store->devices[index], STORE_NAME, "%s", name);
	memcpy(store->header->devices[index], store->devices[index], STORE_NAME);
	__atomic_store_n(&store->n_devices, index + 1, __ATOMIC_RELEASE);
	__atomic_store_n(&store->header->n_devices, index + 1, __ATOMIC_RELEASE);
	return (uint16_t)index;
}

uint16_t store_device(struct store *store, const char *name)
{
	uint16_t index;

	pthread_mutex_lock(&store->lock);
	index = find_device(store, name);
	if (index == STORE_NO_DEVICE)
		index = add_device_locked(store, name);
	pthread_mutex_unlock(&store->lock);
	return index;
}

const char *store_device_name(const struct store *store, uint16_t device)
{
	return device < __atomic_load_n(&store->n_devices, __ATOMIC_ACQUIRE)
		       ? store->devices[device]
		       : "-";
}

static uint64_t measure_tsc(void)
{
	const struct timespec nap = { .tv_nsec = MEASURE_NS };
	uint64_t begin_ns = clock_now(&clock_host), begin = __rdtsc();

	nanosleep(&nap, NULL);
	return (uint64_t)((double)(__rdtsc() - begin) * NSEC_PER_SEC /
			  (double)(clock_now(&clock_host) - begin_ns));
}

void store_set_clock(struct store *store, uint64_t tsc_hz)
{
	struct store_header *header = store->header;

	header->tsc_hz = tsc_hz ? tsc_hz : measure_tsc();
	header->anchor_monotonic_ns = clock_now(&clock_host);
	header->anchor_tsc = __rdtsc();
	header->anchor_wall_ns = clock_wall(&clock_host);
}

bool ring_has_room(const struct ring *ring, uint32_t n, uint64_t *ret_owner)
{
	for (unsigned int i = 0; i < STORE_FOLLOWERS; i++) {
		struct ring_follower *follower = &ring->header->followers[i];
		const uint64_t owner = __atomic_load_n(&follower->owner, __ATOMIC_ACQUIRE);
		const uint64_t tail = __atomic_load_n(&follower->tail, __ATOMIC_ACQUIRE);

		/* A tail from the future is a lie: it holds nobody up. */
		if (owner && tail < ring->next && ring->next - 1 - tail + n > ring->mask + 1) {
			*ret_owner = owner;
			return false;
		}
	}
	return true;
}

void ring_expel(struct ring *ring, uint64_t owner)
{
	for (unsigned int i = 0; i < STORE_FOLLOWERS; i++) {
		uint64_t expected = owner;

		(void)__atomic_compare_exchange_n(&ring->header->followers[i].owner, &expected, 0,
						  false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
	}
}
