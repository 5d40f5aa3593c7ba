/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a VM writes to its mirrored disks, in the order in which its queues' threads submit it: a ring in memory that another process maps
 * and takes from. One for all disks of a VM.
 *
 *   queues' threads --mirror_ring_put--> [ entry data | entry data | ... ] --mirror_reader_next, _took--> the process that sends them
 *          `--- the disk is written from the ring's copy: what is mirrored is what was written, whatever the guest does to its buffers
 *
 * A place is free again when it was taken *and* its own write has ended, as the disk may read from it until then.
 *
 * Of writes that overlap none is below before the one before it has ended, on whatever queues they came: so the disk has them in the ring's order.
 *
 * The file: [head: MIRROR_HEAD bytes][ring: a power of two]. Who takes may be killed at any time, and is not trusted by the VM further than its own
 * count goes: a nonsensical one counts as nothing taken. (It could alter what is written from the ring; but it has the disks' content in its hands anyway.)
 */

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
#define MIRROR_DATA_MAX                                                                            \
	(1U << 20) /* bytes of one entry's data: larger writes are several entries */

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

/* Takes `fd` (also on failure), a fresh memfd of mirror_reader_make: sealed against shrinking. -EINVAL and others with `err`. */
_must_check_ int mirror_ring_take(int fd, struct mirror_ring **ret_ring, struct error *err);
/* No queue uses it any more, and it is idle. */
void mirror_ring_free(struct mirror_ring *ring);

/* Any thread. Copies what is written from `iov` (len bytes of it; nothing of ZEROES, whose `len` no data stands for) into the ring, behind all that
 * was put before; `kind`, `disk`, `offset`, `len`, `unmap` of `entry` count. `*ret_entry`: for mirror_ring_done. `*ret_data`: the copy, aligned; it stays
 * until then. -EAGAIN: no room, the request waits (look again soon). -EFBIG: there will never be, or it is no entry. */
_must_check_ int mirror_ring_put(struct mirror_ring *ring, const struct mirror_entry *entry,
				 const struct iovec *iov, unsigned int n_iov,
				 struct mirror_entry **ret_entry, void **ret_data);
/* The same of the bytes behind the first `skip` of `iov`. */
_must_check_ int mirror_ring_put_part(struct mirror_ring *ring, const struct mirror_entry *entry,
				      const struct iovec *iov, unsigned int n_iov, uint64_t skip,
				      struct mirror_entry **ret_entry, void **ret_data);
/* Any thread. The write of `entry` has ended, well or not: its place may be used again once it was taken. */
void mirror_ring_done(struct mirror_ring *ring, struct mirror_entry *entry);
/* While the queues' threads stand: bytes put so far. */
uint64_t mirror_ring_end(const struct mirror_ring *ring);
/* Any thread. Whether no write that has an entry is still under way. */
bool mirror_ring_idle(const struct mirror_ring *ring);

/* ---- the side that takes (block/mirror_reader.c) ---- */

struct mirror_reader {
	int fd; /* owned */
	void *map;
	uint64_t ring_bytes;
	uint64_t taken; /* ours */
	uint64_t shown; /* bytes of the entry that mirror_reader_next gave last */
};

/* Makes the file. `ring_bytes`: a power of two, MIRROR_RING_MIN..MIRROR_RING_MAX. */
_must_check_ int mirror_reader_make(uint64_t ring_bytes, struct mirror_reader *ret_reader);
void mirror_reader_release(struct mirror_reader *reader);
/* The next entry before byte count `end` (mirror_ring_end's, or UINT64_MAX: what there is): 1, 0 there is none (or it is not `done` where `only_done`), -EBADMSG: the
 * ring makes no sense. `*ret_data` is valid until mirror_reader_took. SKIPs are left out. Whether the disk exists and is as large is the caller's to judge. */
_must_check_ int mirror_reader_next(struct mirror_reader *reader, uint64_t end, bool only_done,
				    struct mirror_entry *ret_entry, const void **ret_data);
void mirror_reader_took(struct mirror_reader *reader);

/* ---- the filter (block/filters/mirror.c) ---- */

struct block;

/* Stands nearest to the guest, below nothing but the device. Passes everything until it is given a ring. */
_must_check_ int block_mirror_new(uint32_t disk, struct block *below, struct block **ret_block);
/* While the queues' threads stand (base/quiesce.h): from now on what is written goes through `ring` (borrowed); NULL: no more. What waits
 * for room then passes. The ring is still in use until mirror_ring_idle. */
void block_mirror_set(struct block *mirror, struct mirror_ring *ring);
/* Any thread. Whether all that was written before the last block_mirror_set has ended: what is under way then has no entry in the new ring, so the disk
 * must not be read for the mirror before. (New writes wait meanwhile: a moment, as long as the disk takes.) */
bool block_mirror_settled(const struct block *mirror);
