/* SPDX-License-Identifier: Apache-2.0 */
#include "block/filters/filter.h"

#include <errno.h>
#include <stdlib.h>

static struct block_filter_queue *from_queue(struct block_queue *queue)
{
	return container_of(queue, struct block_filter_queue, queue);
}

static void twin_done(struct block_request *request, int result)
{
	struct block_filtered *twin = container_of(request, struct block_filtered, request);
	const struct block_filter_hooks *hooks = twin->queue->filter->hooks;

	twin->result = result;
	if (!hooks->completed || hooks->completed(twin) == FILTER_PASS)
		block_filtered_complete(twin);
}

void block_filtered_pass(struct block_filtered *twin)
{
	block_submit(twin->queue->below, &twin->request);
}

static void twin_start(struct block_filter_queue *fq, struct block_request *above)
{
	struct block_filtered *twin = container_of(fq->free.next, struct block_filtered, link);
	const struct block_filter_hooks *hooks = fq->filter->hooks;

	list_remove(&twin->link);
	twin->above = above;
	twin->request = *above;
	twin->request.done = twin_done;
	if (!hooks->submitted || hooks->submitted(twin) == FILTER_PASS)
		block_filtered_pass(twin);
}

void block_filtered_complete(struct block_filtered *twin)
{
	struct block_filter_queue *fq = twin->queue;
	struct block_request *above = twin->above;
	int result = twin->result;

	twin->above = NULL;
	list_append(&fq->free, &twin->link);
	if (!list_empty(&fq->waiting)) {
		struct list *next = fq->waiting.next;

		list_remove(next);
		twin_start(fq, container_of(next, struct block_request, link));
		fq->kick_waiting = true;
	}
	above->done(above, result);
}

static void filter_submit(struct block_queue *queue, struct block_request *request)
{
	struct block_filter_queue *fq = from_queue(queue);

	if (list_empty(&fq->free))
		list_append(&fq->waiting, &request->link);
	else
		twin_start(fq, request);
}

static void filter_kick(struct block_queue *queue)
{
	struct block_filter_queue *fq = from_queue(queue);
	const struct block_filter_hooks *hooks = fq->filter->hooks;

	if (fq->completing) {
		fq->kick_waiting = true;
		return;
	}
	fq->kick_waiting = false;
	block_kick(fq->below);
	if (hooks->kicked)
		hooks->kicked(fq);
}

void block_filter_begin(struct block_filter_queue *fq)
{
	fq->completing = true;
}

void block_filter_end(struct block_filter_queue *fq)
{
	block_batch_end(&fq->queue);
	fq->completing = false;
	if (fq->kick_waiting)
		filter_kick(&fq->queue);
}

static void below_batch_end(struct block_queue *below)
{
	block_filter_begin(below->owner);
	block_filter_end(below->owner);
}

static bool filter_poll(struct block_queue *queue, bool more)
{
	return block_poll(from_queue(queue)->below, more);
}

static void filter_close(struct block_queue *queue)
{
	struct block_filter_queue *fq = from_queue(queue);

	block_queue_close(fq->below);
	if (fq->filter->hooks->closing)
		fq->filter->hooks->closing(fq);
	free(fq->twins);
	free(fq);
}

static const struct block_queue_ops filter_queue_ops = {
	.submit = filter_submit,
	.kick = filter_kick,
	.poll = filter_poll,
	.close = filter_close,
};

static int make_twins(struct block_filter_queue *fq, unsigned int depth)
{
	list_init(&fq->free);
	list_init(&fq->waiting);
	fq->twins = calloc(depth, sizeof(fq->twins[0]));
	if (!fq->twins)
		return -ENOMEM;
	for (unsigned int i = 0; i < depth; i++) {
		fq->twins[i].queue = fq;
		list_append(&fq->free, &fq->twins[i].link);
	}
	return 0;
}

static int prepare_queue(struct block_filter_queue *fq, unsigned int depth)
{
	const struct block_filter_hooks *hooks = fq->filter->hooks;
	int r = make_twins(fq, depth);

	if (r == 0)
		r = block_queue_open(fq->filter->below, fq->loop, depth, &fq->below);
	if (r < 0)
		return r;
	fq->below->owner = fq;
	fq->below->batch_end = below_batch_end;
	r = hooks->opened ? hooks->opened(fq) : 0;
	if (r < 0)
		block_queue_close(fq->below);
	return r;
}

static int filter_queue_open(struct block *block, struct loop *loop, unsigned int depth,
			     struct block_queue **ret_queue)
{
	struct block_filter *filter = container_of(block, struct block_filter, block);
	size_t size = MAX(filter->hooks->queue_size, sizeof(struct block_filter_queue));
	struct block_filter_queue *fq = calloc(1, size);
	int r;

	if (!fq)
		return -ENOMEM;
	fq->queue = (struct block_queue){ .ops = &filter_queue_ops, .block = block };
	fq->filter = filter;
	fq->loop = loop;
	fq->depth = depth;
	r = prepare_queue(fq, depth);
	if (r < 0) {
		free(fq->twins);
		free(fq);
		return r;
	}
	*ret_queue = &fq->queue;
	return 0;
}

static void filter_destroy(struct block *block)
{
	struct block_filter *filter = container_of(block, struct block_filter, block);

	if (filter->hooks->destroying)
		filter->hooks->destroying(filter);
	block_free(filter->below);
	free(filter);
}

static int filter_own(struct block *block, bool own, struct error *err)
{
	return block_own(container_of(block, struct block_filter, block)->below, own, err);
}

static const struct block_ops filter_ops = {
	.queue_open = filter_queue_open,
	.own = filter_own,
	.destroy = filter_destroy,
};

void *block_filter_new(size_t size, const struct block_filter_hooks *hooks, struct block *below)
{
	struct block_filter *filter = calloc(1, size);

	if (!filter)
		return NULL;
	filter->block = (struct block){ .ops = &filter_ops, .geometry = below->geometry };
	filter->below = below;
	filter->hooks = hooks;
	return filter;
}
