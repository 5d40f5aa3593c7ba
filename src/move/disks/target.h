/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A disk of this host that another host's is copied into. What comes is a peer's: every number is judged. Each chunk may come once in
 * a pass; so two threads never write the same one, and a pass cannot make this side work without end.
 *
 *   frame -> judge, claim the chunk -> write -> (end of the pass) holes, sync -> read back, hash, compare
 */

#include "base/error.h"
#include "move/disks/tree.h"
#include "move/protocol.h"

struct disk_target;

/* `fd` is borrowed; its disk is `index` in the VM's configuration. A file is made one hole; a device's old content goes with the first
 * pass, which tells of every chunk. */
_must_check_ int disk_target_new(uint32_t index, int fd, struct disk_target **ret_target,
				 struct error *err);
void disk_target_free(struct disk_target *target); /* NULL is accepted */
uint32_t disk_target_index(const struct disk_target *target);

/* What one thread needs: made once. */
struct disk_hands;
_must_check_ int disk_hands_new(struct disk_hands **ret_hands);
void disk_hands_free(struct disk_hands *hands); /* NULL is accepted */

/* The payload of a DISK, DISK_PACKED or DISK_HOLE behind the disk's number. Any thread, each with its hands. -EBADMSG, -ENOSPC and
 * others with `err`. */
_must_check_ int disk_target_apply(struct disk_target *target, struct disk_hands *hands,
				   enum move_frame kind, const uint8_t *payload, size_t len,
				   struct error *err);

/* The rest is for after a pass, while nobody applies. Zeroes what came as holes, makes all durable, and has later reads come from the
 * disk. `stop` (atomic) ends it early: -ECANCELED. */
_must_check_ int disk_target_sync(struct disk_target *target, const bool *stop, struct error *err);
/* Reads back one chunk of the pass and compares it: 1; 0 when there is none left. Any thread. -EIO with `err`: it is not what came. */
_must_check_ int disk_target_check(struct disk_target *target, struct disk_hands *hands,
				   struct error *err);
/* Chunks of the pass that are not checked yet. Any thread. */
uint64_t disk_target_unchecked(const struct disk_target *target);
/* All of the pass are checked; another may begin. */
void disk_target_end_pass(struct disk_target *target);

/* Compares the root of all: -EIO with `err`, or 0: then disk_target_is_whole. */
_must_check_ int disk_target_judge(struct disk_target *target, const uint8_t root[DIGEST_BYTES],
				   struct error *err);
bool disk_target_is_whole(const struct disk_target *target);

/* Bytes that came, holes not counted. Any thread. */
uint64_t disk_target_bytes(const struct disk_target *target);
