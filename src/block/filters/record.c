/* SPDX-License-Identifier: Apache-2.0 */

/* Shows what a disk was asked, what it answered, and when. */

#include "block/filters/filter.h"

#include <errno.h>

struct record {
	struct block_filter filter;
	struct block_record_params params;
};

static uint64_t now_of(const struct block_filtered *twin)
{
	return clock_now(loop_clock(twin->queue->loop));
}

static enum filter_verdict record_submitted(struct block_filtered *twin)
{
	twin->time_ns = now_of(twin);
	return FILTER_PASS;
}

static enum filter_verdict record_completed(struct block_filtered *twin)
{
	const struct record *record = container_of(twin->queue->filter, struct record, filter);
	const struct block_record line = {
		.op = twin->request.op,
		.fua = twin->request.fua,
		.offset = twin->request.offset,
		.len = twin->request.len,
		.result = twin->result,
		.submitted_ns = twin->time_ns,
		.done_ns = now_of(twin),
	};

	record->params.done(record->params.ctx, &line);
	return FILTER_PASS;
}

static const struct block_filter_hooks record_hooks = {
	.submitted = record_submitted,
	.completed = record_completed,
};

int block_record_new(const struct block_record_params *params, struct block *below,
		     struct block **ret_block)
{
	struct record *record = block_filter_new(sizeof(*record), &record_hooks, below);

	if (!record)
		return -ENOMEM;
	record->params = *params;
	*ret_block = &record->filter.block;
	return 0;
}
