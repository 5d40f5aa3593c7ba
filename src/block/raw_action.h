/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How requests go to the host, step by step (raw_action.c), for the ring that carries them (raw_queue.c). */

#include "block/raw_internal.h"

struct io_uring_sqe;
struct raw_queue;

#define RAW_AGAIN 1 /* the request needs another step */

/* Where in an iovec a transfer is. */
struct position {
	const struct iovec *iov;
	size_t skip; /* bytes of *iov that are done */
};

struct raw_slot {
	struct list link; /* free, or waiting for the bounce buffer */
	struct raw_queue *queue;
	struct raw *raw;
	uint8_t *bounce; /* the queue's RAW_BOUNCE bytes, used by one slot at a time */
	struct block_request *request; /* NULL: free */
	uint64_t done;		       /* bytes */
	struct position at;
	struct iovec part; /* of one step, when that is not a tail of request->iov */
	bool bounced;
	uint8_t step; /* WRITE_ZEROES */
	uint8_t tries;
};

/* How an operation goes to the host, and what to make of an answer: RAW_AGAIN, 0 or a negative errno. */
struct raw_action {
	void (*issue)(struct raw_slot *slot, struct io_uring_sqe *sqe);
	int (*answered)(struct raw_slot *slot, int result);
};

/* By enum block_op. */
extern const struct raw_action raw_actions[];
