/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a queue of the block device does, all on its worker's thread. Each queue has a worker, a block queue
 * on that worker's loop and a pool of requests, one for each descriptor, so that nothing is allocated
 * while the guest runs.
 *
 *   doorbell -> pop all -> block_submit each -> one block_kick
 *   completions -> push each -> one interrupt (batch_end)
 *
 * Requests in flight are state: they stand in the queue's `inflight` until they are pushed. After a load
 * they are issued again in their old order; one that overlaps an earlier one waits for it, and the
 * driver's new requests wait for all of them to be on their way.
 */

#include "virtio/blk_internal.h"

#include <errno.h>

#include "block/log.h"

#define CHAINS_PER_TURN 256 /* then others, and the barrier, have their turn */
#define POLL_MIN_NS 4000
#define POLL_MAX_NS 1000000
#define POLL_REQUESTS 16 /* looking takes no longer than serving so many: some 50 us today */
#define POLL_TURN_NS 500000
#define POLL_SPINS_MAX 4096 /* where the clock stands still, as in tests */
#define SPINS_PER_LOOK 8    /* at the clock */

static const enum request_operation operations[] = {
	[BLOCK_READ] = REQUEST_READ,
	[BLOCK_WRITE] = REQUEST_WRITE,
	[BLOCK_FLUSH] = REQUEST_FLUSH,
	[BLOCK_DISCARD] = REQUEST_DISCARD,
	[BLOCK_WRITE_ZEROES] = REQUEST_WRITE_ZEROES,
};

/* A request not in use; there must be one. Memory that no depth ever needed is never touched. */
static struct blk_request *request_get(struct blk_queue *q)
{
	struct blk_request *request;

	if (list_empty(&q->free)) {
		request = &q->requests[q->n_used++];
		request->queue = q;
		list_init(&request->link);
		return request;
	}
	request = container_of(q->free.next, struct blk_request, link);
	list_remove(&request->link);
	return request;
}

static void request_put(struct blk_request *request)
{
	list_append(request->queue->free.next, &request->link); /* first: its memory is warm */
}

/* As those see it who watch. */
static struct device_request request_shown(const struct blk_request *request, int result)
{
	const struct block_request *block = &request->block;
	const bool is_disk = request->verdict != BLK_FINISHED && block->op < ARRAY_SIZE(operations);

	return (struct device_request){
		.device = &request->queue->vq->vdev->device,
		.kind = REQUEST_DISK,
		.operation = is_disk ? operations[block->op] : REQUEST_NO_OPERATION,
		.queue = (uint16_t)request->queue->vq->index,
		.worker = request->queue->vq->worker,
		.status = MIN(result, 0),
		.begin = request->begin,
		.offset = is_disk ? block->offset : 0,
		.len = is_disk ? block->len : 0,
	};
}

/* Gives the chain back. All of its writable bytes may have been touched: the status is the last. */
static void request_finish(struct blk_request *request, int result)
{
	struct blk_queue *q = request->queue;

	if (request->begin) {
		const struct device_request shown = request_shown(request, result);

		request_answered(&shown);
	}
	blk_request_answer(request, result);
	virtio_queue_push(&q->vq->queue, &request->chain, (uint32_t)request->chain.in_len);
	q->pushed = true;
	request_put(request);
}

static void request_done(struct block_request *block, int result);
static void issue_again(struct blk_queue *q);
static void drain_step(struct blk_queue *q);

static void request_submit(struct blk_request *request)
{
	request->block.done = request_done;
	request->queue->in_flight++;
	if (request->block.op != BLOCK_READ && request->block.op != BLOCK_FLUSH)
		request->queue->unflushed = true;
	block_submit(request->queue->block, &request->block);
}

/* One that failed may have written a part. */
static void log_written(const struct blk_queue *q, const struct block_request *request)
{
	struct block_log *log = q->blk->block->log;

	if (log && request->op != BLOCK_READ && request->op != BLOCK_FLUSH)
		block_log_mark(log, request->offset, request->len);
}

static void request_done(struct block_request *block, int result)
{
	struct blk_request *request = container_of(block, struct blk_request, block);
	struct blk_queue *q = request->queue;

	q->in_flight--;
	log_written(q, block);
	if (request->again)
		list_remove(&request->link);
	if (q->vq->queue.started) {
		bool again = request->again;

		request_finish(request, result);
		if (again)
			issue_again(q);
	} else {
		/* Of an old life: guest memory is not ours any more. */
		request_put(request);
		if (q->stopping && !q->in_flight)
			virtio_queue_idle(q->vq);
	}
	drain_step(q);
}

/* ---- before a move: nothing in flight, everything on the disk ---- */

static void flush_done(struct block_request *flush, int result)
{
	struct blk_queue *q = container_of(flush, struct blk_queue, flush);

	q->flushing = false;
	if (result < 0) {
		q->unflushed = true;
		virtio_queue_drained(q->vq, result);
		return;
	}
	drain_step(q);
}

/* The host, too, may keep written data in a volatile cache: the disk's next owner reads past it. */
static void drain_step(struct blk_queue *q)
{
	if (!q->vq->drain || q->in_flight || q->flushing || !list_empty(&q->again_waiting))
		return;
	if (!q->unflushed) {
		virtio_queue_drained(q->vq, 0);
		return;
	}
	q->unflushed = false;
	q->flushing = true;
	q->flush = (struct block_request){ .op = BLOCK_FLUSH, .done = flush_done };
	block_submit(q->block, &q->flush);
}

void blk_queue_drain(struct virtio_vq *vq)
{
	struct blk_queue *q = vq->owner;

	drain_step(q);
	block_kick(q->block);
}

static void signal_if_pushed(struct blk_queue *q)
{
	if (!q->pushed)
		return;
	q->pushed = false;
	virtio_queue_signal(q->vq);
}

/* ---- after a load ---- */

static bool reads(const struct block_request *request)
{
	return request->op == BLOCK_READ;
}

static bool conflict(const struct block_request *a, const struct block_request *b)
{
	if (reads(a) && reads(b))
		return false;
	return a->offset < b->offset + b->len && b->offset < a->offset + a->len;
}

static bool must_wait(const struct blk_queue *q, const struct blk_request *request)
{
	struct list *item, *next;

	list_for_each(item, next, &q->again_flying) {
		const struct blk_request *earlier = container_of(item, struct blk_request, link);

		if (conflict(&earlier->block, &request->block))
			return true;
	}
	return false;
}

/* Issues in order, up to the first that must wait for an earlier one. */
static void issue_again(struct blk_queue *q)
{
	while (!list_empty(&q->again_waiting)) {
		struct blk_request *request = container_of(q->again_waiting.next,
							   struct blk_request, link);

		if (request->verdict == 0 && must_wait(q, request))
			return;
		list_remove(&request->link);
		if (request->verdict) {
			request_finish(request, request->verdict);
			continue;
		}
		request->again = true;
		list_append(&q->again_flying, &request->link);
		request_submit(request);
	}
	virtio_queue_again(q->vq); /* now the driver's new ones */
}

static int fetch_again(struct blk_queue *q)
{
	struct virtio_queue *queue = &q->vq->queue;

	for (uint32_t i = 0; i < queue->state->n_inflight; i++) {
		struct blk_request *request = request_get(q);
		int r = virtio_queue_refetch(queue, i, &request->chain);

		request->begin = request_begin(&q->vq->vdev->device);

		list_append(&q->again_waiting, &request->link);
		if (r == 0)
			r = blk_request_decode(request);
		if (r < 0)
			return r;
	}
	return 0;
}

int blk_queue_started(struct virtio_vq *vq)
{
	struct blk_queue *q = vq->owner;
	int r;

	q->stopping = q->pushed = false;
	q->poll_ns = 0;
	r = fetch_again(q);
	if (r < 0)
		return r;
	issue_again(q);
	block_kick(q->block);
	signal_if_pushed(q);
	return 0;
}

/* ---- the driver's new requests ---- */

/* Takes chains until there are none: 0, 1 when `*budget` ended before, -EPROTO. */
static int take_chains(struct blk_queue *q, unsigned int *budget)
{
	for (; *budget; --*budget) {
		struct blk_request *request;
		int r;

		/* All descriptors head a chain in flight: one more would be such a chain again. */
		if (list_empty(&q->free) && q->n_used == BLK_QUEUE_SIZE)
			return virtio_queue_has_avail(&q->vq->queue) ? -EPROTO : 0;
		request = request_get(q);
		r = virtio_queue_pop(&q->vq->queue, &request->chain);
		request->begin = request_begin(&q->vq->vdev->device);
		if (r > 0)
			r = blk_request_decode(request) < 0 ? -EPROTO : 1;
		if (r <= 0) {
			request_put(request);
			return r;
		}
		if (request->begin && request->verdict == 0) {
			const struct device_request shown = request_shown(request, 0);

			request->verdict = request_arrived(&shown);
		}
		if (request->verdict)
			request_finish(request, request->verdict);
		else
			request_submit(request);
	}
	return 1;
}

static uint64_t now_of(const struct blk_queue *q)
{
	return clock_now(loop_clock(q->loop));
}

/* A mean over the last ones. */
static void learn_cost(struct blk_queue *q, uint64_t ns)
{
	q->serve_ns = q->serve_ns ? (7 * q->serve_ns + ns) / 8 : ns;
}

/* Takes what is there and hands it on. Results as above. */
static int serve(struct blk_queue *q, unsigned int *budget)
{
	unsigned int before = *budget;
	uint64_t begin = virtio_queue_has_avail(&q->vq->queue) ? now_of(q) : 0;
	int r = take_chains(q, budget);

	block_kick(q->block);
	signal_if_pushed(q);
	if (begin && before != *budget)
		learn_cost(q, (now_of(q) - begin) / (before - *budget));
	return r;
}

/* ---- waiting ---- */

/* How long looking is worth its while: a machine that takes longer to serve takes longer to wake as well. */
static uint64_t poll_max(const struct blk_queue *q)
{
	return MIN(MAX(POLL_REQUESTS * q->serve_ns, (uint64_t)POLL_MIN_NS), (uint64_t)POLL_MAX_NS);
}

/* Waking a thread takes longer than a fast disk or a busy driver: where the last wait was short, the next is
 * spent looking. */
static void adapt_poll(struct blk_queue *q)
{
	uint64_t waited = now_of(q) - q->idle_since, most = poll_max(q);

	if (waited > most)
		q->poll_ns = 0;
	else if (waited > q->poll_ns)
		q->poll_ns = MIN(MAX(2 * q->poll_ns, (uint64_t)POLL_MIN_NS), most);
}

/* Serves and looks for more until nothing came for poll_ns; the barrier and others wait no longer than
 * POLL_TURN_NS. Results as above. */
static int serve_polling(struct blk_queue *q, unsigned int *budget)
{
	uint64_t begin = now_of(q), last = begin;

	for (unsigned int spins = 1; spins < POLL_SPINS_MAX; spins++) {
		unsigned int before = *budget;
		bool found = block_poll(q->block, true);
		int r = serve(q, budget);

		if (r || quiesce_requested(q->blk->quiesce))
			return r;
		if (found || *budget != before) {
			last = now_of(q);
			spins = 0;
			if (last - begin > POLL_TURN_NS)
				return 1;
		} else if (spins % SPINS_PER_LOOK == 0 && now_of(q) - last >= q->poll_ns) {
			return 0;
		}
		__builtin_ia32_pause();
	}
	return 0;
}

/* Before the loop waits: completions and the driver shall wake it. True when some came meanwhile. */
static bool ask_to_be_woken(struct blk_queue *q)
{
	bool completed = block_poll(q->block, false);

	return virtio_queue_enable_kicks(&q->vq->queue) || completed;
}

static void work(struct blk_queue *q)
{
	unsigned int budget = CHAINS_PER_TURN;
	int r;

	q->working = true;
	virtio_queue_disable_kicks(&q->vq->queue);
	do {
		r = q->poll_ns ? serve_polling(q, &budget) : serve(q, &budget);
		if (r == 0 && quiesce_requested(q->blk->quiesce))
			r = 1;
	} while (r == 0 && ask_to_be_woken(q));
	if (r)
		block_poll(q->block, false);
	q->working = false;
	if (r < 0)
		virtio_device_broken(q->vq->vdev);
	else if (r > 0)
		virtio_queue_again(q->vq);
	q->idle_since = now_of(q);
}

void blk_queue_kicked(struct virtio_vq *vq)
{
	struct blk_queue *q = vq->owner;

	if (!list_empty(&q->again_waiting) || vq->drain)
		return;
	adapt_poll(q);
	work(q);
}

void blk_queue_poll(struct loop_timer *timer)
{
	struct blk_queue *q = container_of(timer, struct blk_queue, poll);

	if (q->vq->queue.started && list_empty(&q->again_waiting) && !q->vq->drain)
		work(q);
}

void blk_queue_batch_end(struct block_queue *block)
{
	struct blk_queue *q = block->owner;

	signal_if_pushed(q);
	block_kick(block); /* what was issued again behind a completion */
	if (q->working)
		return;
	/* The loop was woken by the disk. The driver, too, answers soon. */
	adapt_poll(q);
	q->idle_since = now_of(q);
	if (q->poll_ns)
		loop_timer_arm(q->loop, &q->poll, 0);
}

void blk_queue_stopping(struct virtio_vq *vq)
{
	struct blk_queue *q = vq->owner;

	while (!list_empty(&q->again_waiting)) {
		struct blk_request *request = container_of(q->again_waiting.next,
							   struct blk_request, link);

		list_remove(&request->link);
		request_put(request);
	}
	loop_timer_cancel(&q->poll);
	q->stopping = true;
	if (!q->in_flight)
		virtio_queue_idle(vq);
}
