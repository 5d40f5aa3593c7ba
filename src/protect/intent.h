/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where a protected VM's disk may differ from its mirror: a bit for each region of 1 MiB, durable before a write goes into a region that was
 * clean. A machine that comes back after a power cut copies what its own map and what the survivor has changed since name, over the whole disk.
 *
 *   write -> intent_mark: durable already? -> yes: write
 *                              | no: wait; intent_flush writes all that wait with one sync -> write
 *   an epoch is committed at the mirror -> intent_commit, once in a while: this disk is synced, then old bits go
 *
 * What it promises, wherever the power is cut:
 *   1 A region whose mark was durable when a write into it began is found set, until that write is durable on both sides.
 *   2 Damage makes more bits, never fewer: each sector of the map is judged by itself, and one that is damaged or torn counts as full of bits.
 *
 * A bit that is set stays for INTENT_EPOCHS and more after the last write: a region that is written all the time costs one sync once. What a
 * lost write of the drive itself takes away (acknowledged, synced, and not there) is beyond it.
 *
 * Threads: intent_mark and intent_is_durable from any; intent_flush and intent_commit from one worker, as they wait for the device.
 * In a VM's process: no library is needed.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"
#include "protect/storage.h"

#define INTENT_UUID_BYTES 16
#define INTENT_REGION_SHIFT 20 /* 1 MiB */
#define INTENT_EPOCHS 256      /* between two clearings: some seconds */

struct intent_head {
	uint8_t uuid[INTENT_UUID_BYTES]; /* the VM's */
	uint32_t disk;			 /* which of its disks */
	uint64_t disk_bytes;		 /* at most LIMIT_MIRRORED_DISK */
};

/* Bytes of the file for a disk of this size: 2 MiB for the largest. */
uint64_t intent_bytes(uint64_t disk_bytes);
static inline uint64_t intent_regions(uint64_t disk_bytes)
{
	return (disk_bytes + (1ULL << INTENT_REGION_SHIFT) - 1) >> INTENT_REGION_SHIFT;
}

struct intent;

/*
 * Makes a map in `file` over whatever was there, durably. `all`: every region may differ; else the two disks are known to be equal. `disk`: the
 * disk itself, for its syncs. Both are borrowed until intent_free.
 */
_must_check_ int intent_create(struct storage *file, const struct intent_head *head, bool all,
			       struct storage *disk, struct intent **ret_intent, struct error *err);
/* After a crash. `head`: must be the map's: -EMEDIUMTYPE. -EBADMSG: it has no head: the whole disk is to be copied. `*ret_damaged`: sectors
 * that count as full. */
_must_check_ int intent_open(struct storage *file, const struct intent_head *head,
			     struct storage *disk, struct intent **ret_intent,
			     uint64_t *ret_damaged, struct error *err);
void intent_free(struct intent *intent); /* NULL is accepted */

/* A write to [offset, offset + len) of the disk, which is not 0 bytes, belongs to `epoch` (never lower than the one before). True: it may begin. False: only
 * after a flush that began later, when intent_is_durable says so. */
_must_check_ bool intent_mark(struct intent *intent, uint64_t offset, uint64_t len, uint64_t epoch);
_must_check_ bool intent_is_durable(struct intent *intent, uint64_t offset, uint64_t len);
/* Makes all that was marked before the call durable, with one sync; none when all is. After a failure no write may go into a clean
 * region ever again: -EIO. */
_must_check_ int intent_flush(struct intent *intent);
/*
 * `epoch` is committed: durable at a mirror that is whole (while there is none, this is not called, and bits only come); and every write here
 * that was marked with it or an earlier one has ended. Does nothing most of the time; every INTENT_EPOCHS it syncs the disk, and clears what
 * was last written in the time before. After a failed sync no bit goes any more: -EIO.
 */
_must_check_ int intent_commit(struct intent *intent, uint64_t epoch);

/* The first region from `from` on that is set, and how many are in a row: 0 when there is none. */
uint64_t intent_next(struct intent *intent, uint64_t from, uint64_t *ret_first);
