/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A ring of io_uring per queue. A request takes a slot and goes to the host in steps (a short read goes on
 * where it stopped, a range that cannot be zeroed is written), each step one entry of the ring, so the
 * ring of `depth` entries is never full.
 *
 * Completions are looked for on the way back from submitting; only when there is nothing left to do may
 * they signal the loop, through an eventfd. (The ring's own descriptor would need no eventfd, but newer
 * kernels do not wake its poll when completions are deferred to the submitter.)
 */

#include "block/raw_action.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/limits.h"

#define REAP_BATCH 32
#define ROUNDS_PER_TURN 4 /* submissions in one go before the loop gets its turn */
#define TRIES_MAX 16	  /* of one step, when the host says "again" */

/* liburing 2.3 as packaged declares the functions for these two steps and does not export them. */
static int ring_register(const struct io_uring *ring, unsigned int opcode, const void *arg,
			 unsigned int n)
{
	return syscall(__NR_io_uring_register, ring->ring_fd, opcode, arg, n) < 0 ? -errno : 0;
}

struct raw_queue {
	struct block_queue queue;
	struct raw *raw;
	struct loop *loop;
	struct io_uring ring;
	bool ring_made, enabled, dead, closing;
	bool busy;    /* inside reaping or batch_end: kicks are collected */
	bool polling; /* the user looks for completions: they need not wake the loop */
	struct loop_watch watch;
	struct loop_timer retry;
	uint8_t *bounce; /* RAW_BOUNCE bytes, used by one slot at a time */
	struct raw_slot *bounce_user;
	struct list bounce_waiting;
	struct list waiting; /* requests without a slot */
	struct list free;
	unsigned int depth, n_used;
	struct raw_slot slots[];
};

static void slot_issue(struct raw_slot *slot)
{
	struct io_uring_sqe *sqe;

	if (slot->queue->dead)
		return;
	sqe = io_uring_get_sqe(&slot->queue->ring);
	assert(sqe); /* each slot has at most one entry in a ring of as many entries */
	raw_actions[slot->request->op].issue(slot, sqe);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, slot);
}

static bool is_transfer(const struct block_request *request)
{
	return request->op == BLOCK_READ || request->op == BLOCK_WRITE;
}

/* O_DIRECT wants each buffer aligned, and each length in whole blocks. */
static bool must_bounce(const struct raw *raw, const struct block_request *request)
{
	const struct block_geometry *g = &raw->block.geometry;

	if (!raw->direct || !is_transfer(request))
		return false;
	for (unsigned int i = 0; i < request->n_iov; i++) {
		const struct iovec *iov = &request->iov[i];

		if (!IS_ALIGNED((uintptr_t)iov->iov_base, g->memory_alignment) ||
		    !IS_ALIGNED(iov->iov_len, g->logical_block))
			return true;
	}
	return false;
}

static void slot_start(struct raw_queue *q, struct block_request *request)
{
	struct raw_slot *slot = container_of(q->free.next, struct raw_slot, link);

	list_remove(&slot->link);
	q->n_used++;
	slot->request = request;
	slot->done = 0;
	slot->at = (struct position){ .iov = request->iov };
	slot->step = 0;
	slot->tries = 0;
	slot->bounced = must_bounce(q->raw, request);
	if (slot->bounced && q->bounce_user) {
		list_append(&q->bounce_waiting, &slot->link);
		return;
	}
	if (slot->bounced)
		q->bounce_user = slot;
	slot_issue(slot);
}

static void raw_submit(struct block_queue *queue, struct block_request *request)
{
	struct raw_queue *q = container_of(queue, struct raw_queue, queue);

	if (list_empty(&q->free))
		list_append(&q->waiting, &request->link);
	else
		slot_start(q, request);
}

static void bounce_release(struct raw_queue *q)
{
	q->bounce_user = NULL;
	if (list_empty(&q->bounce_waiting))
		return;
	q->bounce_user = container_of(q->bounce_waiting.next, struct raw_slot, link);
	list_remove(&q->bounce_user->link);
	slot_issue(q->bounce_user);
}

static void slot_finish(struct raw_slot *slot, int result)
{
	struct raw_queue *q = slot->queue;
	struct block_request *request = slot->request;

	slot->request = NULL;
	list_append(q->free.next, &slot->link); /* first: its memory is warm */
	q->n_used--;
	if (q->closing)
		return;
	if (q->bounce_user == slot)
		bounce_release(q);
	if (!list_empty(&q->waiting)) {
		struct list *next = q->waiting.next;

		list_remove(next);
		slot_start(q, container_of(next, struct block_request, link));
	}
	request->done(request, result);
}

static void slot_answered(struct raw_slot *slot, int result)
{
	bool again = result == -EINTR || result == -EAGAIN;
	int r;

	if (slot->queue->closing) { /* nobody waits, and the buffers may go */
		slot_finish(slot, 0);
		return;
	}
	if (again && ++slot->tries < TRIES_MAX)
		r = RAW_AGAIN;
	else
		r = raw_actions[slot->request->op].answered(slot, again ? -EIO : result);
	if (r == RAW_AGAIN)
		slot_issue(slot);
	else
		slot_finish(slot, r);
}

/* Handles the completions that are there. */
static void ring_reap(struct raw_queue *q)
{
	struct io_uring_cqe *cqes[REAP_BATCH];
	bool any = false;
	unsigned int n;

	q->busy = true;
	while ((n = io_uring_peek_batch_cqe(&q->ring, cqes, REAP_BATCH)) > 0) {
		for (unsigned int i = 0; i < n; i++)
			slot_answered(io_uring_cqe_get_data(cqes[i]), cqes[i]->res);
		io_uring_cq_advance(&q->ring, n);
		any = true;
	}
	if (any && !q->closing)
		block_batch_end(&q->queue);
	q->busy = false;
}

/* A ring that the host does not let us use: the guest gets I/O errors, not a hang. */
static void ring_fail(struct raw_queue *q)
{
	q->dead = true;
	q->busy = true;
	for (unsigned int i = 0; i < q->depth; i++)
		if (q->slots[i].request)
			slot_finish(&q->slots[i], -EIO);
	block_batch_end(&q->queue);
	q->busy = false;
	if (q->n_used)
		loop_timer_arm(q->loop, &q->retry, 0);
}

/* The first kick comes from the thread that uses the queue: the ring belongs to it from now on. */
static bool ring_enable(struct raw_queue *q)
{
	if (!q->enabled)
		q->enabled = ring_register(&q->ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0) == 0;
	return q->enabled;
}

/* Whether completions wait in the ring, or in the kernel for us to fetch them. */
static bool ring_has_completions(const struct raw_queue *q)
{
	unsigned int flags = __atomic_load_n(q->ring.sq.kflags, __ATOMIC_ACQUIRE);

	return io_uring_cq_ready(&q->ring) || (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

/* Lets completions signal the loop, or not while we look at the ring anyway. */
static void ring_signal(struct raw_queue *q, bool on)
{
	/* Fails only for a ring without an eventfd. */
	(void)io_uring_cq_eventfd_toggle(&q->ring, on && !q->polling);
	/* Ours to see what the kernel added before it could see the flag. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Submits and completes until there is nothing to do, or the loop should have its turn. */
static void ring_run(struct raw_queue *q)
{
	ring_signal(q, false);
	for (int round = 0; round < ROUNDS_PER_TURN; round++) {
		int r = 0;

		if (io_uring_sq_ready(&q->ring))
			r = io_uring_submit_and_get_events(&q->ring);
		ring_reap(q);
		if (r < 0) { /* the host is short of memory: later */
			loop_timer_arm(q->loop, &q->retry,
				       clock_now(loop_clock(q->loop)) + NSEC_PER_MSEC);
			ring_signal(q, true);
			return;
		}
		if (io_uring_sq_ready(&q->ring))
			continue;
		ring_signal(q, true);
		if (!ring_has_completions(q))
			return;
		ring_signal(q, false);
	}
	ring_signal(q, true);
	fd_signal_event(q->watch.fd);
}

static void raw_kick(struct block_queue *queue)
{
	struct raw_queue *q = container_of(queue, struct raw_queue, queue);

	if (q->busy || !io_uring_sq_ready(&q->ring))
		return;
	if (!ring_enable(q))
		ring_fail(q);
	else
		ring_run(q);
}

static bool raw_poll(struct block_queue *queue, bool more)
{
	struct raw_queue *q = container_of(queue, struct raw_queue, queue);

	if (q->polling != more) {
		q->polling = more;
		ring_signal(q, !more);
	}
	if (!ring_has_completions(q))
		return false;
	ring_run(q);
	return true;
}

static void ring_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	ring_run(container_of(watch, struct raw_queue, watch));
}

static void retry_expired(struct loop_timer *timer)
{
	raw_kick(&container_of(timer, struct raw_queue, retry)->queue);
}

static void ring_drain(struct raw_queue *q)
{
	struct list *item, *next;

	list_for_each(item, next, &q->bounce_waiting)
		q->n_used--;
	while (q->enabled && q->n_used) {
		int r = io_uring_submit_and_wait(&q->ring, 1);

		ring_reap(q);
		if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY)
			return;
	}
}

static void raw_close(struct block_queue *queue)
{
	struct raw_queue *q = container_of(queue, struct raw_queue, queue);

	q->closing = true;
	if (q->ring_made) {
		ring_drain(q);
		loop_remove(q->loop, &q->watch);
		loop_timer_cancel(&q->retry);
		io_uring_queue_exit(&q->ring);
	}
	fd_close(q->watch.fd);
	if (q->bounce)
		munmap(q->bounce, RAW_BOUNCE);
	free(q);
}

static const struct block_queue_ops raw_queue_ops = {
	.submit = raw_submit,
	.kick = raw_kick,
	.poll = raw_poll,
	.close = raw_close,
};

/* Only these operations, only on the one registered file. */
static int ring_restrict(struct raw_queue *q)
{
	static const uint8_t allowed[] = { IORING_OP_READ,   IORING_OP_READV, IORING_OP_WRITE,
					   IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE };
	struct io_uring_restriction rules[ARRAY_SIZE(allowed) + 1] = { 0 };
	int r = io_uring_register_files(&q->ring, &q->raw->fd, 1);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
		rules[i].opcode = IORING_RESTRICTION_SQE_OP;
		rules[i].sqe_op = allowed[i];
	}
	rules[ARRAY_SIZE(allowed)].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
	rules[ARRAY_SIZE(allowed)].sqe_flags = IOSQE_FIXED_FILE;
	return ring_register(&q->ring, IORING_REGISTER_RESTRICTIONS, rules, ARRAY_SIZE(rules));
}

/* Newest first. DEFER_TASKRUN (Linux 6.1): completions are handled when we ask and never interrupt. */
static const unsigned int ring_setups[] = {
	IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
		IORING_SETUP_SUBMIT_ALL,
	IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL,
	0,
};

static int ring_make(struct raw_queue *q)
{
	int r = -EINVAL;

	/* Edge-triggered: the event need not be read to be cleared. */
	q->watch = (struct loop_watch){
		.fd = fd_new_event(),
		.events = EPOLLIN | EPOLLET,
		.ready = ring_ready,
	};
	if (q->watch.fd < 0)
		return q->watch.fd;
	for (size_t i = 0; r == -EINVAL && i < ARRAY_SIZE(ring_setups); i++)
		r = io_uring_queue_init(q->depth, &q->ring,
					ring_setups[i] | IORING_SETUP_R_DISABLED);
	if (r < 0)
		return r;
	q->ring_made = true;
	r = io_uring_register_eventfd(&q->ring, q->watch.fd);
	if (r == 0)
		r = ring_restrict(q);
	if (r < 0)
		return r;
	return loop_add(q->loop, &q->watch);
}

static int bounce_make(struct raw_queue *q)
{
	void *p = mmap(NULL, RAW_BOUNCE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);

	if (p == MAP_FAILED)
		return -errno;
	q->bounce = p;
	return 0;
}

int raw_queue_open(struct block *block, struct loop *loop, unsigned int depth,
		   struct block_queue **ret_queue)
{
	struct raw_queue *q;
	int r;

	if (depth == 0 || depth > LIMIT_QUEUE_SIZE)
		return -EINVAL;
	q = calloc(1, sizeof(*q) + depth * sizeof(q->slots[0]));
	if (!q)
		return -ENOMEM;
	q->queue = (struct block_queue){ .ops = &raw_queue_ops, .block = block };
	q->raw = container_of(block, struct raw, block);
	q->loop = loop;
	q->depth = depth;
	q->watch.fd = -1;
	list_init(&q->free);
	list_init(&q->waiting);
	list_init(&q->bounce_waiting);
	loop_timer_init(&q->retry, retry_expired);
	r = bounce_make(q);
	for (unsigned int i = 0; i < depth; i++) {
		q->slots[i].queue = q;
		q->slots[i].raw = q->raw;
		q->slots[i].bounce = q->bounce;
		list_append(&q->free, &q->slots[i].link);
	}
	if (r == 0)
		r = ring_make(q);
	if (r < 0) {
		raw_close(&q->queue);
		return r;
	}
	*ret_queue = &q->queue;
	return 0;
}
