/* SPDX-License-Identifier: Apache-2.0 */

/* A slow disk: results are held for a fixed time, so they come in the order in which the disk gave them. */

#include "block/filters/filter.h"

#include <errno.h>

struct delay {
	struct block_filter filter;
	struct block_delay_params params;
};

struct delay_queue {
	struct block_filter_queue queue;
	struct list held; /* by time_ns */
	struct loop_timer timer;
};

static struct delay_queue *from_filter_queue(struct block_filter_queue *fq)
{
	return container_of(fq, struct delay_queue, queue);
}

static void arm(struct delay_queue *dq)
{
	if (!list_empty(&dq->held))
		loop_timer_arm(dq->queue.loop, &dq->timer,
			       container_of(dq->held.next, struct block_filtered, link)->time_ns);
}

static void delay_expired(struct loop_timer *timer)
{
	struct delay_queue *dq = container_of(timer, struct delay_queue, timer);
	uint64_t now = clock_now(loop_clock(dq->queue.loop));

	block_filter_begin(&dq->queue);
	while (!list_empty(&dq->held)) {
		struct block_filtered *twin = container_of(dq->held.next, struct block_filtered,
							   link);

		if (twin->time_ns > now)
			break;
		list_remove(&twin->link);
		block_filtered_complete(twin);
	}
	arm(dq);
	block_filter_end(&dq->queue);
}

static enum filter_verdict delay_completed(struct block_filtered *twin)
{
	struct delay_queue *dq = from_filter_queue(twin->queue);
	const struct delay *delay = container_of(dq->queue.filter, struct delay, filter);

	if (!block_filter_wants(delay->params.ops, &twin->request))
		return FILTER_PASS;
	twin->time_ns = clock_now(loop_clock(dq->queue.loop)) + delay->params.ns;
	list_append(&dq->held, &twin->link);
	if (dq->held.next == &twin->link)
		arm(dq);
	return FILTER_HELD;
}

static int delay_opened(struct block_filter_queue *fq)
{
	struct delay_queue *dq = from_filter_queue(fq);

	list_init(&dq->held);
	loop_timer_init(&dq->timer, delay_expired);
	return 0;
}

static void delay_closing(struct block_filter_queue *fq)
{
	loop_timer_cancel(&from_filter_queue(fq)->timer);
}

static const struct block_filter_hooks delay_hooks = {
	.queue_size = sizeof(struct delay_queue),
	.opened = delay_opened,
	.closing = delay_closing,
	.completed = delay_completed,
};

int block_delay_new(const struct block_delay_params *params, struct block *below,
		    struct block **ret_block)
{
	struct delay *delay = block_filter_new(sizeof(*delay), &delay_hooks, below);

	if (!delay)
		return -ENOMEM;
	delay->params = *params;
	*ret_block = &delay->filter.block;
	return 0;
}
