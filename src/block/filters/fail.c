/* SPDX-License-Identifier: Apache-2.0 */

/* A bad disk: chosen requests fail without reaching what is below. */

#include "block/filters/filter.h"

#include <errno.h>

struct fail {
	struct block_filter filter;
	struct block_fail_params params;
	uint64_t count; /* atomic */
};

struct fail_queue {
	struct block_filter_queue queue;
	struct list failed; /* until the next kick: nothing completes inside submit */
};

static struct fail_queue *from_filter_queue(struct block_filter_queue *fq)
{
	return container_of(fq, struct fail_queue, queue);
}

static bool is_due(const struct block_fail_params *p, uint64_t n)
{
	uint64_t first = p->nth ? p->nth : p->every;

	if (!first || (p->sticky && n >= first))
		return true;
	return (p->nth && n == p->nth) || (p->every && n % p->every == 0);
}

static enum filter_verdict fail_submitted(struct block_filtered *twin)
{
	struct fail_queue *q = from_filter_queue(twin->queue);
	struct fail *fail = container_of(twin->queue->filter, struct fail, filter);

	if (!block_filter_wants(fail->params.ops, &twin->request) ||
	    !is_due(&fail->params, __atomic_add_fetch(&fail->count, 1, __ATOMIC_RELAXED)))
		return FILTER_PASS;
	twin->result = fail->params.error;
	list_append(&q->failed, &twin->link);
	return FILTER_HELD;
}

static void fail_kicked(struct block_filter_queue *fq)
{
	struct fail_queue *q = from_filter_queue(fq);
	struct list *last = q->failed.prev, *item;

	if (list_empty(&q->failed))
		return;
	block_filter_begin(fq);
	/* Only those of now: what their ends submit waits for the next kick. */
	do {
		item = q->failed.next;
		list_remove(item);
		block_filtered_complete(container_of(item, struct block_filtered, link));
	} while (item != last);
	block_filter_end(fq);
}

static int fail_opened(struct block_filter_queue *fq)
{
	list_init(&from_filter_queue(fq)->failed);
	return 0;
}

static const struct block_filter_hooks fail_hooks = {
	.queue_size = sizeof(struct fail_queue),
	.opened = fail_opened,
	.submitted = fail_submitted,
	.kicked = fail_kicked,
};

int block_fail_new(const struct block_fail_params *params, struct block *below,
		   struct block **ret_block)
{
	struct fail *fail = block_filter_new(sizeof(*fail), &fail_hooks, below);

	if (!fail)
		return -ENOMEM;
	fail->params = *params;
	*ret_block = &fail->filter.block;
	return 0;
}
