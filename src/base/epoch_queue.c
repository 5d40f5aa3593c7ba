/* SPDX-License-Identifier: Apache-2.0 */
#include "base/epoch_queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(struct epoch_item) == EPOCH_ITEM_OVERHEAD, "as it lies in the ring");

int epoch_queue_init(struct epoch_queue *queue, size_t size)
{
	assert(size > EPOCH_ITEM_OVERHEAD);
	*queue = (struct epoch_queue){ .ring = malloc(size), .size = size };
	return queue->ring ? 0 : -ENOMEM;
}

void epoch_queue_release(struct epoch_queue *queue)
{
	free(queue->ring);
	*queue = (struct epoch_queue){ 0 };
}

/* The `len` bytes at a position, as one or two buffers. */
static unsigned int span(const struct epoch_queue *queue, uint64_t position, size_t len,
			 struct iovec ret_iov[2])
{
	size_t at = (size_t)(position % queue->size);
	size_t first = MIN(len, queue->size - at);

	ret_iov[0] = (struct iovec){ queue->ring + at, first };
	ret_iov[1] = (struct iovec){ queue->ring, len - first };
	return len > first ? 2 : 1;
}

static void write_at(struct epoch_queue *queue, uint64_t position, const void *from, size_t len)
{
	struct iovec iov[2];

	span(queue, position, len, iov);
	memcpy(iov[0].iov_base, from, iov[0].iov_len);
	memcpy(iov[1].iov_base, (const uint8_t *)from + iov[0].iov_len, iov[1].iov_len);
}

static struct epoch_item read_item(const struct epoch_queue *queue, uint64_t position)
{
	struct epoch_item item;
	struct iovec iov[2];

	span(queue, position, sizeof(item), iov);
	memcpy(&item, iov[0].iov_base, iov[0].iov_len);
	memcpy((uint8_t *)&item + iov[0].iov_len, iov[1].iov_base, iov[1].iov_len);
	return item;
}

void epoch_queue_put(struct epoch_queue *queue, const struct epoch_item *item,
		     const struct iovec *iov, unsigned int n_iov)
{
	size_t missing = item->len;

	assert(item->len && item->len <= epoch_queue_room(queue));
	queue->last = queue->tail;
	write_at(queue, queue->tail, item, sizeof(*item));
	queue->tail += sizeof(*item);
	for (unsigned int i = 0; i < n_iov && missing; i++) {
		size_t n = MIN(iov[i].iov_len, missing);

		if (!n)
			continue;
		write_at(queue, queue->tail, iov[i].iov_base, n);
		queue->tail += n;
		missing -= n;
	}
	assert(!missing);
	queue->n_items++;
	queue->n_bytes += item->len;
}

size_t epoch_queue_extend(struct epoch_queue *queue, uint64_t epoch, const void *bytes, size_t len)
{
	struct epoch_item item;
	size_t n = MIN(len, epoch_queue_left(queue));

	if (!queue->n_items || !n)
		return 0;
	item = read_item(queue, queue->last);
	if (item.epoch != epoch)
		return 0;
	item.len += n;
	write_at(queue, queue->last, &item, sizeof(item));
	write_at(queue, queue->tail, bytes, n);
	queue->tail += n;
	queue->n_bytes += n;
	return n;
}

unsigned int epoch_queue_at(const struct epoch_queue *queue, uint64_t *position,
			    struct epoch_item *ret_item, struct iovec ret_iov[2])
{
	uint64_t bytes = *position + sizeof(*ret_item);

	if (*position == queue->tail)
		return 0;
	*ret_item = read_item(queue, *position);
	*position = bytes + ret_item->len;
	return span(queue, bytes, ret_item->len, ret_iov);
}

void epoch_queue_take(struct epoch_queue *queue, size_t n)
{
	struct epoch_item item = read_item(queue, queue->head);

	assert(queue->n_items && n && n <= item.len);
	queue->n_bytes -= n;
	if (n == item.len) {
		queue->head += sizeof(item) + n;
		/* From the beginning again: what is used seldom stays out of memory. */
		if (--queue->n_items == 0)
			queue->head = queue->tail = 0;
		return;
	}
	/* Its head moves up, over the bytes that are gone. */
	if (queue->last == queue->head)
		queue->last += n;
	queue->head += n;
	item.len -= n;
	write_at(queue, queue->head, &item, sizeof(item));
}

void epoch_queue_clear(struct epoch_queue *queue)
{
	queue->head = queue->tail = 0;
	queue->n_items = queue->n_bytes = 0;
}
