/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of the raw back end share: opening (raw.c), its lock (raw_lock.c), its rings
 * (raw_queue.c). */

#include "block/raw.h"

/* Zeros to write where the host cannot zero a range by itself: never touched, so they cost no memory. */
#define RAW_ZEROS MIB(1)
/* Buffer of a queue for what O_DIRECT does not take as it is. */
#define RAW_BOUNCE KIB(256)

struct raw {
	struct block block;
	int fd;
	char *path; /* for messages; owned */
	bool is_device;
	bool direct;
	const void *zeros; /* RAW_ZEROS bytes */
	/* Atomic, set once by any queue: the host refused this way of zeroing a range. */
	bool cannot_punch, cannot_zero;
};

_must_check_ int raw_queue_open(struct block *block, struct loop *loop, unsigned int depth,
				struct block_queue **ret_queue);

/* Locks `fd` as raw_open promises; -EBUSY with the holder named. */
_must_check_ int raw_lock(int fd, const char *path, bool readonly, struct error *err);
/* block_own's part: makes no call but on `raw->fd`, for it is used inside the sandbox. */
_must_check_ int raw_own(struct block *block, bool own, struct error *err);
/* Fills `err` for a disk that another process has locked or opened exclusively; -EBUSY. */
int raw_busy(int fd, const char *path, bool readonly, struct error *err);
