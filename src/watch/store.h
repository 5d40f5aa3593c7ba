/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The Data Store, the writers' side: rings of records (watch/record.h) in a file in memory that the keeper holds, so
 * that the last requests outlive the VM's process. Sparse: a VM that nobody watches has touched its first pages
 * only.
 *
 *   struct watch_record *r = ring_begin(ring);       the writer's own thread
 *   r->kind = ...                                    fill all fields but `sequence`
 *   ring_commit(ring);
 *
 * Overwrites the oldest by default; readers know exactly what they lost from the sequence numbers. What is in the
 * mapping may be changed by readers at any moment: the writer keeps its own copy of where it is.
 */

#include <stdbool.h>

#include "base/macros.h"
#include "watch/record.h"

struct store;

/* One writer's ring; fields are private to store.c and the inline functions below. */
struct ring {
	struct watch_record *records;
	struct ring_header *header;
	uint64_t mask;
	uint64_t next;	  /* sequence of the record to be written */
	uint64_t dropped; /* so far */
	struct store *store;
};

/* A file in memory for `n_rings` rings: its descriptor, the caller's, or a negative errno. `vm` is the VM's name. */
_must_check_ int store_make_fd(const char *vm, uint32_t n_rings, uint32_t n_vcpus,
			       uint32_t ring_records);
/* Where in the file the records of a store of `n_rings` rings begin. */
uint64_t store_records_offset(uint32_t n_rings);
/* Maps it for writing. `fd` is borrowed. Rings and devices go on where an earlier process of the VM ended. -EPROTO: it is
 * no store of this version, or not sealed against being made shorter. */
_must_check_ int store_open(int fd, struct store **ret_store);
void store_free(struct store *store);

/* The same once more, before anything is written: an earlier process wrote after it was opened here. */
void store_catch_up(struct store *store);

/* The mapped header, to be written only: readers may change it at any moment. */
struct store_header *store_header(struct store *store);
/* Ring `index`, named for people. Before its thread writes. NULL when there is no such ring. */
struct ring *store_ring(struct store *store, uint32_t index, const char *name);
/* The index of a device's name, added when new; STORE_NO_DEVICE when the table is full. Any thread. */
uint16_t store_device(struct store *store, const char *name);
/* The name of an index, "-" for others: the writer's own copy. Any thread. */
const char *store_device_name(const struct store *store, uint16_t device);
/* Sets the header's clocks: now. `tsc_hz` 0: measures it (takes some ms). Control thread. */
void store_set_clock(struct store *store, uint64_t tsc_hz);

/* The slot of the next record, marked as being written. The ring's thread. */
static inline struct watch_record *ring_begin(struct ring *ring)
{
	struct watch_record *record = &ring->records[(ring->next - 1) & ring->mask];

	__atomic_store_n(&record->sequence, 0, __ATOMIC_RELAXED);
	/* The 0 before what is filled in: x86 keeps stores in order, the compiler is told here. */
	__asm__ volatile("" ::: "memory");
	return record;
}

static inline void ring_commit(struct ring *ring)
{
	struct watch_record *record = &ring->records[(ring->next - 1) & ring->mask];

	__atomic_store_n(&record->sequence, ring->next, __ATOMIC_RELEASE);
	__atomic_store_n(&ring->header->head, ring->next, __ATOMIC_RELEASE);
	ring->next++;
}

/*
 * Lossless mode: whether the ring has room for `n` more records before the slowest follower. True when nobody follows.
 * A follower that stands in the way is in `*ret_owner`, for ring_expel. The ring's thread.
 */
bool ring_has_room(const struct ring *ring, uint32_t n, uint64_t *ret_owner);
/* Counts a record that was given up for want of room. The ring's thread. */
static inline void ring_drop(struct ring *ring)
{
	__atomic_store_n(&ring->header->dropped, ++ring->dropped, __ATOMIC_RELEASE);
}
/* Ends a follower's hold on this ring: it took too long, or is gone. It sees so by `owner`. */
void ring_expel(struct ring *ring, uint64_t owner);
