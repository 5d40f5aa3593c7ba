/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sends chunks of disks, pass by pass: over all streams, one thread each, or over stream 0 by the caller.
 *
 *   claim -> read (past the page cache) -> zero? -> DISK_HOLE
 *                                          hash, packing pays -> DISK_PACKED
 *                                          hash -> DISK
 *
 * Each chunk's hash is of the very bytes that are sent, so it is that of what the receiver shall have, whatever the guest writes
 * meanwhile. Memory: two chunks for each thread.
 */

#include "base/clock.h"
#include "base/thread.h"
#include "move/disks/map.h"
#include "move/disks/tree.h"
#include "move/job.h"
#include "wire/frame.h"

/* One disk, at the source. */
struct disk_source {
	uint32_t index; /* in the VM's configuration */
	int fd;		/* borrowed; O_DIRECT where its file system has that */
	struct disk_map *map;
	struct disk_tree *tree;
};

struct disk_send_settings {
	struct disk_source *disks; /* borrowed */
	uint32_t n_disks;
	struct frame_writer
		*writers; /* borrowed; `n_streams` of them, the threads' while a pass runs */
	uint32_t n_streams;
	enum move_compress compress;
	uint64_t max_bandwidth; /* bytes per second of all streams; 0: no limit */
	const struct clock *clock;
	const struct thread_entry *entry; /* of each thread; may be NULL */
};

struct disk_sender;

_must_check_ int disk_send_new(const struct disk_send_settings *settings,
			       struct disk_sender **ret_sender);
/* Ends a pass that still runs, with its streams. NULL is accepted. */
void disk_send_free(struct disk_sender *sender);

/* All that is not pending is told as holes, on stream 0: once, before the first pass. */
_must_check_ int disk_send_holes(struct disk_sender *sender, struct error *err);

/* Begins a pass over what is pending, on all streams, or on stream 0 alone. `last`: later ones do the latter. */
_must_check_ int disk_send_begin(struct disk_sender *sender, uint32_t number, bool all, bool last,
				 struct error *err);
/* 1 when it has ended, 0 after `timeout_ms`, or the first thread's error. */
_must_check_ int disk_send_wait(struct disk_sender *sender, unsigned int timeout_ms,
				struct error *err);
/* The threads are to end soon, at the end of a frame; wait for them. */
void disk_send_stop(struct disk_sender *sender);

/* A whole pass on stream 0, by the caller: the guest stands, and no limit of bandwidth holds. */
_must_check_ int disk_send_rest(struct disk_sender *sender, uint32_t number, struct error *err);

/* Bytes of the disks that were sent so far, holes not counted; bytes that are pending. Any thread. */
uint64_t disk_send_sent(const struct disk_sender *sender);
uint64_t disk_send_left(const struct disk_sender *sender);
