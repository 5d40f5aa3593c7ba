/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Items of bytes, each of an epoch, oldest first, in one ring of a fixed size: what a guest put out and may not leave yet
 * (base/hold.h). Epochs never fall from one item to the next. The caller sees to it that one thread is here at a time.
 *
 *   head                                  last                   tail
 *    | epoch at len | bytes ...| ...      | epoch at len | bytes  |
 *
 * Positions count bytes since the beginning and never wrap; their remainder is the place in the ring.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/macros.h"

#define EPOCH_ITEM_OVERHEAD 24 /* bytes of the ring for each item, besides its own */

struct epoch_item {
	uint64_t epoch;
	uint64_t at_ns; /* when it was put here */
	uint64_t len;	/* bytes */
};

struct epoch_queue {
	uint8_t *ring; /* owned */
	size_t size;
	uint64_t head, tail;
	uint64_t last; /* the newest item; means something while there is one */
	size_t n_items, n_bytes;
};

/* `size`: bytes of the ring. The host gives memory only where something was put. */
_must_check_ int epoch_queue_init(struct epoch_queue *queue, size_t size);
void epoch_queue_release(struct epoch_queue *queue);

/* Bytes of the ring that are free. */
static inline size_t epoch_queue_left(const struct epoch_queue *queue)
{
	return queue->size - (size_t)(queue->tail - queue->head);
}
/* The longest item that there is room for, or 0. */
static inline size_t epoch_queue_room(const struct epoch_queue *queue)
{
	return epoch_queue_left(queue) - MIN(epoch_queue_left(queue), (size_t)EPOCH_ITEM_OVERHEAD);
}

/* Appends a copy of the buffers' first item->len bytes, for which there is room. */
void epoch_queue_put(struct epoch_queue *queue, const struct epoch_item *item,
		     const struct iovec *iov, unsigned int n_iov);
/* Of a stream of bytes: makes the newest item longer where it is of this epoch; how many bytes it took, at most `len`. */
size_t epoch_queue_extend(struct epoch_queue *queue, uint64_t epoch, const void *bytes, size_t len);

/* Walks: the item at `*position` (begin with queue->head), which moves to the next; its bytes in one or two buffers, valid
 * until the queue changes. How many; 0 at the end. */
unsigned int epoch_queue_at(const struct epoch_queue *queue, uint64_t *position,
			    struct epoch_item *ret_item, struct iovec ret_iov[2]);

/* Takes away the first `n` bytes (1..its length) of the first item, which there is. */
void epoch_queue_take(struct epoch_queue *queue, size_t n);
void epoch_queue_clear(struct epoch_queue *queue);
