/* SPDX-License-Identifier: Apache-2.0 */
#include "ram_block.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ram_queue {
	struct block_queue queue;
	struct ram_block *ram;
	struct list pending;
	bool busy;
};

static struct ram_queue *from_queue(struct block_queue *queue)
{
	return container_of(queue, struct ram_queue, queue);
}

static void ram_submit(struct block_queue *queue, struct block_request *request)
{
	if (block_check(queue->block, request) < 0)
		abort();
	list_append(&from_queue(queue)->pending, &request->link);
}

static void copy(struct ram_block *ram, const struct block_request *request)
{
	uint8_t *at = ram->bytes + request->offset;

	for (unsigned int i = 0; i < request->n_iov; i++) {
		const struct iovec *iov = &request->iov[i];

		if (request->op == BLOCK_READ)
			memcpy(iov->iov_base, at, iov->iov_len);
		else
			memcpy(at, iov->iov_base, iov->iov_len);
		at += iov->iov_len;
	}
}

static void complete(struct ram_queue *q, struct block_request *request)
{
	struct ram_block *ram = q->ram;

	if (!ram->error && (request->op == BLOCK_READ || request->op == BLOCK_WRITE))
		copy(ram, request);
	else if (!ram->error && request->op != BLOCK_FLUSH)
		memset(ram->bytes + request->offset, 0, request->len);
	request->done(request, ram->error);
}

static void run(struct ram_queue *q)
{
	if (q->busy || list_empty(&q->pending))
		return;
	q->busy = true;
	while (!list_empty(&q->pending)) {
		struct list *item = q->pending.next;

		list_remove(item);
		complete(q, container_of(item, struct block_request, link));
	}
	block_batch_end(&q->queue);
	q->busy = false;
}

static void ram_kick(struct block_queue *queue)
{
	struct ram_queue *q = from_queue(queue);

	if (!q->ram->hold)
		run(q);
}

static bool ram_poll(struct block_queue *queue _unused_, bool more _unused_)
{
	return false;
}

static void ram_close(struct block_queue *queue)
{
	struct ram_queue *q = from_queue(queue);

	for (unsigned int i = 0; i < q->ram->n_queues; i++)
		if (q->ram->queues[i] == q)
			q->ram->queues[i] = q->ram->queues[--q->ram->n_queues];
	free(q);
}

static const struct block_queue_ops ram_queue_ops = {
	.submit = ram_submit,
	.kick = ram_kick,
	.poll = ram_poll,
	.close = ram_close,
};

static int ram_queue_open(struct block *block, struct loop *loop _unused_,
			  unsigned int depth _unused_, struct block_queue **ret_queue)
{
	struct ram_block *ram = container_of(block, struct ram_block, block);
	struct ram_queue *q = calloc(1, sizeof(*q));

	if (!q || ram->n_queues == LIMIT_QUEUES) {
		free(q);
		return -ENOMEM;
	}
	q->queue = (struct block_queue){ .ops = &ram_queue_ops, .block = block };
	q->ram = ram;
	list_init(&q->pending);
	ram->queues[ram->n_queues++] = q;
	*ret_queue = &q->queue;
	return 0;
}

static void ram_destroy(struct block *block)
{
	struct ram_block *ram = container_of(block, struct ram_block, block);

	free(ram->bytes);
	free(ram);
}

static const struct block_ops ram_ops = { .queue_open = ram_queue_open, .destroy = ram_destroy };

struct ram_block *ram_block_new(uint64_t size, uint32_t logical_block, bool readonly)
{
	struct ram_block *ram = calloc(1, sizeof(*ram));

	if (!ram)
		return NULL;
	ram->block.ops = &ram_ops;
	ram->block.geometry = (struct block_geometry){
		.size = size,
		.logical_block = logical_block,
		.physical_block = 4096,
		.memory_alignment = 1,
		.readonly = readonly,
		.can_discard = !readonly,
		.can_write_zeroes = !readonly,
		.max_discard = size,
		.max_transfer = size,
	};
	ram->bytes = calloc(1, size);
	if (!ram->bytes) {
		free(ram);
		return NULL;
	}
	return ram;
}

void ram_block_run(struct ram_block *ram)
{
	for (unsigned int i = 0; i < ram->n_queues; i++)
		run(ram->queues[i]);
}
