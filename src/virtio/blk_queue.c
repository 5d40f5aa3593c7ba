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

#define CHAINS_PER_TURN 256 /* then others, and the barrier, have their turn */
#define POLL_MIN_NS 4000
#define POLL_MAX_NS 32000
#define POLL_TURN_NS 500000
#define POLL_SPINS_MAX 4096 /* where the clock stands still, as in tests */
#define SPINS_PER_LOOK 8    /* at the clock */

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

/* Gives the chain back. All of its writable bytes may have been touched: the status is the last. */
static void request_finish(struct blk_request *request, int result)
{
	struct blk_queue *q = request->queue;

	blk_request_answer(request, result);
	virtio_queue_push(&q->vq->queue, &request->chain, (uint32_t)request->chain.in_len);
	q->pushed = true;
	request_put(request);
}

static void request_done(struct block_request *block, int result);
static void issue_again(struct blk_queue *q);

static void request_submit(struct blk_request *request)
{
	request->block.done = request_done;
	request->queue->in_flight++;
	block_submit(request->queue->block, &request->block);
}

static void request_done(struct block_request *block, int result)
{
	struct blk_request *request = container_of(block, struct blk_request, block);
	struct blk_queue *q = request->queue;

	q->in_flight--;
	if (request->again)
		list_remove(&request->link);
	if (q->vq->queue.started) {
		bool again = request->again;

		request_finish(request, result);
		if (again)
			issue_again(q);
		return;
	}
	/* Of an old life: guest memory is not ours any more. */
	request_put(request);
	if (q->stopping && !q->in_flight)
		virtio_queue_idle(q->vq);
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
		if (r > 0)
			r = blk_request_decode(request) < 0 ? -EPROTO : 1;
		if (r <= 0) {
			request_put(request);
			return r;
		}
		if (request->verdict)
			request_finish(request, request->verdict);
		else
			request_submit(request);
	}
	return 1;
}

/* Takes what is there and hands it on. Results as above. */
static int serve(struct blk_queue *q, unsigned int *budget)
{
	int r = take_chains(q, budget);

	block_kick(q->block);
	signal_if_pushed(q);
	return r;
}

/* ---- waiting ---- */

static uint64_t now_of(const struct blk_queue *q)
{
	return clock_now(loop_clock(q->loop));
}

/* Waking a thread takes longer than a fast disk or a busy driver: where the last wait was short, the next is
 * spent looking. */
static void adapt_poll(struct blk_queue *q)
{
	uint64_t waited = now_of(q) - q->idle_since;

	if (waited > POLL_MAX_NS)
		q->poll_ns = 0;
	else if (waited > q->poll_ns)
		q->poll_ns = MIN(MAX(2 * q->poll_ns, POLL_MIN_NS), POLL_MAX_NS);
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

	if (!list_empty(&q->again_waiting))
		return;
	adapt_poll(q);
	work(q);
}

void blk_queue_poll(struct loop_timer *timer)
{
	struct blk_queue *q = container_of(timer, struct blk_queue, poll);

	if (q->vq->queue.started && list_empty(&q->again_waiting))
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
