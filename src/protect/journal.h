/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The journal of a backup: what a protected VM wrote to its disks, epoch by epoch, before it may reach the backup's own disks. One for a
 * VM, in a file of fixed size that is used as a ring (docs/journal-format.md).
 *
 *   begin -> append ... -> seal: trailer, sync | the epoch may be acknowledged | apply: disks, their sync, the mark, its sync | place is free
 *
 * What it promises, wherever the power is cut:
 *   1 An epoch whose seal returned 0 is found again, whole. One that was not sealed is never applied; nor is one that is damaged.
 *   2 Epochs are applied in order and as a whole, and only up to where the caller says: to the last one whose memory is there, too.
 *   3 What the mark calls applied is durable on the disks; what it does not is in the journal, and is applied again, which changes nothing.
 *   4 Once ended, nothing is ever applied again: the VM writes to the disks itself.
 *   5 It never grows. An append that has no place is -ENOSPC before anything of it is kept; the owner waits or is told.
 *
 * Threads: one writes (begin, append, seal, drop), another may apply at the same time (apply, mark, end); both wait for devices. The rest from any.
 * What is read back is judged like a stranger's.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/limits.h"
#include "protect/ownership.h"
#include "protect/storage.h"

#define JOURNAL_UUID_BYTES 16

/* Whose it is. Written once. */
struct journal_head {
	uint8_t uuid[JOURNAL_UUID_BYTES]; /* the VM's */
	struct ownership_id session;	  /* the copy's; random: no guest may know it */
	uint64_t base;			  /* epochs in it are above */
	uint64_t ring_bytes;		  /* multiple of JOURNAL_BLOCK */
	uint32_t n_disks;		  /* 1..LIMIT_DISKS */
	uint64_t disk_bytes[LIMIT_DISKS]; /* multiples of STORAGE_SECTOR */
};

#define JOURNAL_BLOCK 4096U /* what is durable shares none with what is still written */
#define JOURNAL_RING_MIN (16ULL * JOURNAL_BLOCK)
#define JOURNAL_RING_AT (3ULL * JOURNAL_BLOCK)

/* Bytes of the file that holds a ring of this size. */
static inline uint64_t journal_bytes(uint64_t ring_bytes)
{
	return JOURNAL_RING_AT + ring_bytes;
}

/* What the disks are, durably. Only upwards. */
enum journal_state {
	JOURNAL_FILLING, /* they are being filled: of no use without their owner */
	JOURNAL_WHOLE,	 /* with what is sealed, they are the VM's at an epoch */
	JOURNAL_ENDED, /* the VM may run on them, or nobody wants them: nothing is applied any more */
	JOURNAL_STATES,
};
const char *journal_state_name(enum journal_state state);

enum journal_kind {
	JOURNAL_WRITE = 1,
	JOURNAL_ZEROES,
	/* Applied as zeroes that take no place. The owner does the same with its own disk, or the two would differ. */
	JOURNAL_DISCARD,
};

struct journal_write {
	enum journal_kind kind;
	uint32_t disk;
	uint64_t offset, len; /* bytes, multiples of STORAGE_SECTOR; len is not 0 */
	const void *data;     /* WRITE: borrowed */
};

/* Whether it is one that disks of these sizes can take. */
static inline bool journal_write_is_on(const struct journal_write *write, uint32_t n_disks,
				       const uint64_t *disk_bytes)
{
	return write->kind >= JOURNAL_WRITE && write->kind <= JOURNAL_DISCARD &&
	       write->disk < n_disks && write->len &&
	       IS_ALIGNED(write->offset | write->len, STORAGE_SECTOR) &&
	       range_fits(write->offset, write->len, disk_bytes[write->disk]);
}

struct journal;

/*
 * Makes one in `file`, over whatever was there, durably. `disks`: as many as `head` says; they and `file` are borrowed until
 * journal_free. -EINVAL with `err`: sizes. Allocates the file's place nowhere: the caller has done that (posix_fallocate).
 */
_must_check_ int journal_create(struct storage *file, const struct journal_head *head,
				struct storage *const *disks, struct journal **ret_journal,
				struct error *err);
/*
 * Reads one back after a crash: finds what is sealed, makes it durable, and drops what is torn behind it. `uuid`, `disks`, `n_disks`: must be the
 * journal's: -EMEDIUMTYPE. -EBADMSG with `err`: damaged, at which byte; nothing was applied. It can go on being written.
 */
_must_check_ int journal_open(struct storage *file, const uint8_t uuid[JOURNAL_UUID_BYTES],
			      struct storage *const *disks, uint32_t n_disks,
			      struct journal **ret_journal, struct error *err);
void journal_free(struct journal *journal); /* NULL is accepted */

const struct journal_head *journal_head(const struct journal *journal);
enum journal_state journal_state(struct journal *journal);
/* The last sealed epoch; head->base when there is none. An epoch that wrote nothing is sealed without a write, so after a crash it may
 * be an earlier one with the same content. */
uint64_t journal_sealed(struct journal *journal);
uint64_t journal_applied(struct journal *journal);
/* Bytes that writes and their data may still take in the epoch that is open (JOURNAL_WRITE_BYTES each besides its data). */
uint64_t journal_room(struct journal *journal);
#define JOURNAL_WRITE_BYTES 24U

/*
 * The writer. After an error other than -ENOSPC, -EFBIG and -EINVAL nothing more is taken (-EIO): what of it is durable is not known. That of a seal
 * too: the epoch must not be acknowledged.
 */

/* Epochs ascend: -EINVAL. One that was begun and not sealed is dropped by it. */
_must_check_ int journal_begin(struct journal *journal, uint64_t epoch);
/* Copies `write`. -ENOSPC: no place before older epochs are applied; the epoch stays as it was. -EFBIG: there will be none even then.
 * -EINVAL: no epoch is open, or it is no write to a disk of it. */
_must_check_ int journal_append(struct journal *journal, const struct journal_write *write);
/* When it returns 0, the epoch is durable, and not before. */
_must_check_ int journal_seal(struct journal *journal);
/* Forgets the epoch that is open, if one is. */
void journal_drop(struct journal *journal);

/*
 * The applier. `up_to`: the last epoch whose memory is there, too; -EINVAL: that one is not sealed. On failure, told in `err`, what was written may be
 * there or not, and the same or more is to be applied before the disks are an epoch's again; -EBADMSG: the journal is damaged, and what is damaged was not applied.
 */
_must_check_ int journal_apply(struct journal *journal, uint64_t up_to, struct error *err);
/* The disks are whole from now on, durably: WHOLE. */
_must_check_ int journal_mark_whole(struct journal *journal, struct error *err);
/* Applies up to `up_to`, and then ends the journal, durably: before the VM's first write to the disks. Later epochs are dropped. While nobody writes. */
_must_check_ int journal_end(struct journal *journal, uint64_t up_to, struct error *err);
