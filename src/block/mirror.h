/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a VM writes to its mirrored disks, in the order in which its queues' threads submit it: a ring in memory that another process maps
 * and takes from. One for all disks of a VM.
 *
 *   queues' threads --mirror_put--> [ entry data | entry data | ... ] --mirror_next, mirror_took--> the process that sends them
 *          `--- the disk is written from the ring's copy: what is mirrored is what was written, whatever the guest does to its buffers
 *
 * A place is free again when it was taken *and* its own write has ended, as the disk may read from it until then.
 *
 * The file: [head: MIRROR_HEAD bytes][ring: a power of two]. Who takes may be killed at any time, and is not trusted by the VM further than its own
 * count goes: a nonsensical one counts as nothing taken.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/macros.h"

#define MIRROR_HEAD 4096U
#define MIRROR_ALIGN 4096U /* of data in the ring: disks are written from there */
#define MIRROR_RING_MIN (4U << 20)
#define MIRROR_RING_MAX (1U << 30)

enum mirror_kind { MIRROR_WRITE = 1, MIRROR_ZEROES = 2, MIRROR_SKIP = 3 };

/* At a multiple of MIRROR_ALIGN; its data begins at the next one. SKIP: nothing more before the ring's end. */
struct mirror_entry {
	uint32_t kind; /* enum mirror_kind */
	uint32_t disk;
	uint64_t offset, len; /* bytes of the disk */
	uint64_t size;	      /* bytes of this entry in the ring, all told */
	uint32_t unmap;	      /* ZEROES: the place may be given back */
	uint32_t done;	      /* atomic: the VM's own write has ended */
};

/* Bytes that went in and out since the beginning; each written by one side alone, atomically. */
struct mirror_head {
	uint64_t put;
	uint8_t apart[64 - 8];
	uint64_t taken;
};

/* ---- the VM's side ---- */

struct mirror_ring;

/* Takes `fd` (also on failure), a memfd sealed against shrinking of MIRROR_HEAD and a ring. -EINVAL with `err`. */
_must_check_ int mirror_ring_take(int fd, struct mirror_ring **ret_ring, struct error *err);
void mirror_ring_free(struct mirror_ring *ring); /* no queue uses it any more */

/* Any thread. Room for `len` bytes and the entry, or -EAGAIN: the request waits (look again soon). -EFBIG: never. `*ret_data`: where its `len` bytes go (WRITE), aligned. The entry
 * counts from mirror_ring_commit on; between the two the caller copies. `len` of data: 0 for ZEROES. */
_must_check_ int mirror_ring_put(struct mirror_ring *ring, const struct mirror_entry *entry,
				 const struct iovec *iov, unsigned int n_iov,
				 struct mirror_entry **ret_entry, void **ret_data);
/* The write of `entry` has ended, well or not: its place may be used again once it was taken. */
void mirror_ring_done(struct mirror_ring *ring, struct mirror_entry *entry);
/* While the queues' threads stand: bytes put so far. */
uint64_t mirror_ring_end(const struct mirror_ring *ring);

/* ---- the side that takes ---- */

struct mirror_reader {
	int fd; /* owned */
	void *map;
	uint64_t ring_bytes;
	uint64_t taken; /* ours */
};

/* Makes the file. `ring_bytes`: a power of two. */
_must_check_ int mirror_reader_make(uint64_t ring_bytes, struct mirror_reader *ret_reader);
void mirror_reader_release(struct mirror_reader *reader);
/* The next entry before byte count `end` (mirror_ring_end's, or UINT64_MAX: what there is): 1, 0 there is none (or it is not `done` where `only_done`), -EBADMSG: the ring makes no sense. `*ret_data` is
 * valid until mirror_reader_took. SKIPs are left out. */
_must_check_ int mirror_reader_next(struct mirror_reader *reader, uint64_t end, bool only_done,
				    struct mirror_entry *ret_entry, const void **ret_data);
void mirror_reader_took(struct mirror_reader *reader);

/* ---- the filter (block/filters/mirror.c) ---- */

struct block;

/* Stands nearest to the guest, below nothing but the device. Passes everything until it is given a ring. */
_must_check_ int block_mirror_new(uint32_t disk, struct block *below, struct block **ret_block);
/* While the queues' threads stand (base/quiesce.h): from now on what is written goes through `ring` (borrowed); NULL: no more. What waits
 * for room then passes. A disk whose ring is taken away must have no entry that is not done: wait for mirror_ring_idle. */
void block_mirror_set(struct block *mirror, struct mirror_ring *ring);
/* Whether no write that has an entry is still under way. */
bool mirror_ring_idle(const struct mirror_ring *ring);
