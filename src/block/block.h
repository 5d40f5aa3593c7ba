/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The disk interface. A `block` is a disk as one piece of software sees it; a back end (raw) talks to the
 * host, a filter stands on another block and looks the same. Requests go through a `block_queue`, opened
 * by the thread that will use it; a request completes on that same thread.
 *
 *   virtio-blk queue thread -> block_queue (filter) -> block_queue (raw, io_uring) -> host
 *
 * Durability: a FLUSH that completed with 0 means that every write completed before it was submitted
 * survives a power cut (as far as the host's own device keeps its word); a write with `fua` means it of
 * itself.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/macros.h"

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

struct block;
struct block_queue;

/* One request. Owned by the submitter, who keeps it and its buffers in place until `done`. */
struct block_request {
	struct list link; /* for the layer that holds it at the moment */
	enum block_op op;
	bool fua;		 /* WRITE, WRITE_ZEROES: durable before `done` */
	bool unmap;		 /* WRITE_ZEROES: the range may be deallocated */
	uint64_t offset;	 /* bytes, a multiple of the logical block size */
	uint64_t len;		 /* bytes; the iovec's total for READ and WRITE; 0 for FLUSH */
	const struct iovec *iov; /* borrowed */
	unsigned int n_iov;
	/* Called once, on the queue's thread, never from inside block_submit. 0 or a negative errno. */
	void (*done)(struct block_request *request, int result);
	void *layer; /* scratch of the layer that holds it */
};

struct block_geometry {
	uint64_t size;		   /* bytes; a multiple of logical_block */
	uint32_t logical_block;	   /* bytes: 512 or 4096 */
	uint32_t physical_block;   /* bytes */
	uint32_t memory_alignment; /* bytes that buffers must be aligned to */
	bool readonly;
	bool rotational;
	bool can_discard, can_write_zeroes;
	uint64_t max_discard;  /* bytes of one request */
	uint64_t max_transfer; /* bytes of one READ or WRITE */
};

struct block_ops {
	/* Opens a queue whose completions run on `loop`'s thread. `depth` (1..LIMIT_QUEUE_SIZE): requests
	 * in flight at once. Another thread may open it while that one does not run yet. */
	int (*queue_open)(struct block *block, struct loop *loop, unsigned int depth,
			  struct block_queue **ret_queue);
	void (*destroy)(struct block *block);
	/* See block_own. NULL: nobody else can have it. */
	int (*own)(struct block *block, bool own, struct error *err);
};

struct block_log;

struct block {
	const struct block_ops *ops;
	struct block_geometry geometry;
	/* Of the uppermost: what its user writes is marked there (block/log.h). NULL: nobody wants to know. Borrowed; changed while
	 * the user's threads are parked. */
	struct block_log *log;
};

struct block_queue_ops {
	/* Takes a checked request; never completes it before returning. More than `depth` in flight is the
	 * layer's to keep waiting, not an error. */
	void (*submit)(struct block_queue *queue, struct block_request *request);
	/* Tells the host about everything submitted since the last kick (batching). Requests may complete
	 * inside a kick; a kick from inside `done` or `batch_end` takes effect when those have returned. */
	void (*kick)(struct block_queue *queue);
	/* Handles completions that have come: true when there were any. Costs no system call when there are
	 * none. `more`: the caller looks again before its loop waits, so completions need not wake that. Not
	 * from inside `done` or `batch_end`. */
	bool (*poll)(struct block_queue *queue, bool more);
	/* Closes, on the queue's thread. What is in flight is waited for as long as the host may still touch
	 * its buffers, and is never `done`. */
	void (*close)(struct block_queue *queue);
};

struct block_queue {
	const struct block_queue_ops *ops;
	struct block *block;
	/* Set by the opener after opening; NULL: not wanted. Called on the queue's thread after each batch of
	 * completions, so that one signal or one kick serves all of them. */
	void (*batch_end)(struct block_queue *queue);
	void *owner; /* the opener's */
};

/* Judges a request against the geometry: 0, -EINVAL (range, alignment, length), -EROFS, -EOPNOTSUPP. */
_must_check_ int block_check(const struct block *block, const struct block_request *request);

static inline int block_queue_open(struct block *block, struct loop *loop, unsigned int depth,
				   struct block_queue **ret_queue)
{
	return block->ops->queue_open(block, loop, depth, ret_queue);
}

static inline void block_submit(struct block_queue *queue, struct block_request *request)
{
	queue->ops->submit(queue, request);
}

static inline void block_kick(struct block_queue *queue)
{
	queue->ops->kick(queue);
}

static inline bool block_poll(struct block_queue *queue, bool more)
{
	return queue->ops->poll(queue, more);
}

/* For layers: the present batch of completions is over. */
static inline void block_batch_end(struct block_queue *queue)
{
	if (queue->batch_end)
		queue->batch_end(queue);
}

static inline void block_queue_close(struct block_queue *queue)
{
	if (queue)
		queue->ops->close(queue);
}

/*
 * Takes the disk for this VM (what keeps others from it, and forgets what this host may have cached of it), or lets it go while
 * the queues stay open; nothing is submitted meanwhile. -EBUSY: another has it. Taking what one has is fine.
 */
_must_check_ static inline int block_own(struct block *block, bool own, struct error *err)
{
	return block->ops->own ? block->ops->own(block, own, err) : 0;
}

/* Frees the block and, for a filter, everything below it. All queues are closed before. */
static inline void block_free(struct block *block)
{
	if (block)
		block->ops->destroy(block);
}
