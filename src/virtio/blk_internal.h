/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of the virtio block device share: requests (blk_request.c), queues (blk_queue.c),
 * configuration and life (blk.c). */

#include "base/limits.h"
#include "block/block.h"
#include "bus/request.h"
#include "virtio/virtio.h"

/* Feature bits (virtio 1.2, 5.2.3). */
#define BLK_F_SEG_MAX (1ULL << 2)
#define BLK_F_RO (1ULL << 5)
#define BLK_F_BLK_SIZE (1ULL << 6)
#define BLK_F_FLUSH (1ULL << 9)
#define BLK_F_TOPOLOGY (1ULL << 10)
#define BLK_F_CONFIG_WCE (1ULL << 11)
#define BLK_F_MQ (1ULL << 12)
#define BLK_F_DISCARD (1ULL << 13)
#define BLK_F_WRITE_ZEROES (1ULL << 14)

#define BLK_QUEUE_SIZE 256
#define BLK_SECTOR 512 /* bytes, whatever the disk's blocks are (virtio 1.2, 5.2.4) */
#define BLK_FINISHED 1 /* verdict on a request: answered without the disk */

struct blk_request {
	struct block_request block;
	struct blk_queue *queue;
	uint64_t begin;	  /* for who watches: request_begin */
	struct list link; /* free, or to be issued again, or issued again and in flight */
	int verdict;	  /* 0: for the disk; FINISHED; or a negative errno */
	bool again;	  /* issued again after a load */
	/* The one buffer that holds more than data, and what it was before that was cut off. */
	struct iovec *cut;
	struct iovec whole;
	struct virtio_chain chain;
};

/* All on the worker's thread. */
struct blk_queue {
	struct virtio_blk *blk;
	struct virtio_vq *vq;
	struct block_queue *block;
	struct loop *loop;
	struct blk_request *requests;		 /* BLK_QUEUE_SIZE, owned */
	unsigned int n_used;			 /* of them, ever */
	struct list free;			 /* of those */
	struct list again_waiting, again_flying; /* after a load, in their old order */
	unsigned int in_flight;			 /* given to the disk */
	bool pushed;				 /* since the last signal */
	bool stopping;
	struct block_request flush; /* of a drain */
	bool flushing;		    /* it is on its way */
	bool unflushed;		    /* something was written since the last one */
	bool working;		    /* looks at everything anyway: nothing needs to wake it */
	struct loop_timer poll;
	uint64_t poll_ns;    /* how long to look for more before waiting; 0: not at all */
	uint64_t idle_since; /* ns */
	uint64_t serve_ns;   /* what a request takes on this thread, about */
};

struct virtio_blk {
	struct virtio_device vdev;
	struct virtio_state state;
	struct block *block;	 /* owned */
	struct quiesce *quiesce; /* borrowed */
	char serial[LIMIT_SERIAL];
	bool writethrough; /* atomic: the driver counts on every write being durable */
	unsigned int n_queues;
	struct blk_queue queues[LIMIT_QUEUES];
};

/* Decodes request->chain, just read, into request->block and request->verdict. -EPROTO: it has no room for
 * a status, or more than a used element can tell; the device needs a reset. */
_must_check_ int blk_request_decode(struct blk_request *request);
/* Writes the status that tells `result` (0 or a negative errno) behind the data. */
void blk_request_answer(struct blk_request *request, int result);

/* The queue's part of virtio_ops, of the block queue, and of the timer that polls. */
int blk_queue_started(struct virtio_vq *vq);
void blk_queue_kicked(struct virtio_vq *vq);
void blk_queue_stopping(struct virtio_vq *vq);
void blk_queue_drain(struct virtio_vq *vq);
void blk_queue_batch_end(struct block_queue *block);
void blk_queue_poll(struct loop_timer *timer);
