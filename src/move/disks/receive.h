/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Receives passes over disks: of a pass over all streams the caller serves stream 0 and a thread each of the others; later passes are
 * the caller's alone. After each, what came is made durable, read back and compared, by threads.
 */

#include "base/thread.h"
#include "move/disks/target.h"
#include "wire/frame.h"

struct disk_receiver;

struct disk_receive_settings {
	struct disk_target **targets; /* borrowed */
	uint32_t n_targets;
	struct frame_reader *readers; /* borrowed, `n_streams` of them */
	uint32_t n_streams;
	const struct thread_entry *entry; /* of each thread; may be NULL */
};

_must_check_ int disk_receive_new(const struct disk_receive_settings *settings,
				  struct disk_receiver **ret_receiver);
/* Ends threads that still run, with the streams that they serve. NULL is accepted. */
void disk_receive_free(struct disk_receiver *receiver);

struct disk_pass {
	uint32_t number;
	bool last; /* over all streams */
};

/* Begins a pass over all streams: threads serve all but stream 0. */
_must_check_ int disk_receive_begin(struct disk_receiver *receiver, struct error *err);
/* A checked frame of stream 0, its payload in readers[0].payload: 1: applied; 2: it ended the pass there, `*ret_pass`; 0: of another
 * kind; -EBADMSG and others with `err`. */
_must_check_ int disk_receive_frame(struct disk_receiver *receiver, const struct frame *frame,
				    struct disk_pass *ret_pass, struct error *err);
/* The first error of a thread, as it was told in `err`, or 0. */
_must_check_ int disk_receive_failed(struct disk_receiver *receiver, struct error *err);
/* Waits until all other streams have ended the pass as well: 1, 0 after `timeout_ms`, the first thread's error. */
_must_check_ int disk_receive_wait(struct disk_receiver *receiver, const struct disk_pass *pass,
				   unsigned int timeout_ms, struct error *err);
/* Makes all of the pass durable and reads it back. `tick` is called some times a second with how many chunks are left: a negative errno
 * of it ends all, and is returned. */
_must_check_ int disk_receive_settle(struct disk_receiver *receiver,
				     int (*tick)(void *ctx, uint64_t left), void *ctx,
				     struct error *err);
