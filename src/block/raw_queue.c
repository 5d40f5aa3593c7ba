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

#include "block/raw_internal.h"

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
#define AGAIN 1		  /* the request needs another step */

/* liburing 2.3 as packaged declares the functions for these two steps and does not export them. */
static int ring_register(const struct io_uring *ring, unsigned int opcode, const void *arg,
			 unsigned int n)
{
	return syscall(__NR_io_uring_register, ring->ring_fd, opcode, arg, n) < 0 ? -errno : 0;
}

/* Where in an iovec a transfer is. */
struct position {
	const struct iovec *iov;
	size_t skip; /* bytes of *iov that are done */
};

struct raw_slot {
	struct list link; /* free, or waiting for the bounce buffer */
	struct raw_queue *queue;
	struct block_request *request; /* NULL: free */
	uint64_t done;		       /* bytes */
	struct position at;
	struct iovec
		part; /* what one step reads or writes, when it is not a tail of request->iov */
	bool bounced;
	uint8_t step; /* WRITE_ZEROES */
	uint8_t tries;
};

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

/* How an operation goes to the host, and what to make of an answer: AGAIN, 0 or a negative errno. */
struct action {
	void (*issue)(struct raw_slot *slot, struct io_uring_sqe *sqe);
	int (*answered)(struct raw_slot *slot, int result);
};

static bool is_transfer(const struct block_request *request)
{
	return request->op == BLOCK_READ || request->op == BLOCK_WRITE;
}

/* Moves on by `len` bytes, copying them to or from `buf` on the way unless it is NULL. */
static void position_move(struct position *at, size_t len, uint8_t *buf, bool to_buf)
{
	while (len) {
		size_t n = MIN(len, at->iov->iov_len - at->skip);
		uint8_t *guest = (uint8_t *)at->iov->iov_base + at->skip;

		if (buf && to_buf)
			memcpy(buf, guest, n);
		else if (buf)
			memcpy(guest, buf, n);
		buf = buf ? buf + n : NULL;
		len -= n;
		at->skip += n;
		if (at->skip == at->iov->iov_len) {
			at->iov++;
			at->skip = 0;
		}
	}
}

/* Fills slot->part for this step where the rest of the request's own iovec does not serve. */
static bool transfer_part(struct raw_slot *slot, bool write)
{
	struct position at = slot->at;

	if (slot->bounced) {
		size_t len = MIN(RAW_BOUNCE, slot->request->len - slot->done);

		slot->part = (struct iovec){ slot->queue->bounce, len };
		if (write)
			position_move(&at, len, slot->queue->bounce, true);
		return true;
	}
	if (!at.skip)
		return false;
	slot->part = (struct iovec){ (uint8_t *)at.iov->iov_base + at.skip,
				     at.iov->iov_len - at.skip };
	return true;
}

static void transfer_issue(struct raw_slot *slot, struct io_uring_sqe *sqe)
{
	const struct block_request *request = slot->request;
	bool write = request->op == BLOCK_WRITE;
	bool part = transfer_part(slot, write);
	const struct iovec *iov = part ? &slot->part : slot->at.iov;
	unsigned int n = part ? 1 : (unsigned int)(request->iov + request->n_iov - iov);
	uint64_t offset = request->offset + slot->done;
	unsigned int len = (unsigned int)iov->iov_len;

	if (write && n == 1)
		io_uring_prep_write(sqe, 0, iov->iov_base, len, offset);
	else if (write)
		io_uring_prep_writev(sqe, 0, iov, n, offset);
	else if (n == 1)
		io_uring_prep_read(sqe, 0, iov->iov_base, len, offset);
	else
		io_uring_prep_readv(sqe, 0, iov, n, offset);
	if (write && request->fua)
		sqe->rw_flags = RWF_DSYNC;
}

static int transfer_answered(struct raw_slot *slot, int result)
{
	bool fill = slot->bounced && slot->request->op == BLOCK_READ;

	if (result < 0)
		return result;
	if (result == 0) /* the file became shorter than it was */
		return -EIO;
	position_move(&slot->at, (size_t)result, fill ? slot->queue->bounce : NULL, false);
	slot->done += (uint64_t)result;
	return slot->done < slot->request->len ? AGAIN : 0;
}

static void flush_issue(struct raw_slot *slot _unused_, struct io_uring_sqe *sqe)
{
	io_uring_prep_fsync(sqe, 0, IORING_FSYNC_DATASYNC);
}

static int plain_answered(struct raw_slot *slot _unused_, int result)
{
	return MIN(result, 0);
}

static void punch_issue(struct raw_slot *slot, struct io_uring_sqe *sqe)
{
	io_uring_prep_fallocate(sqe, 0, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)slot->request->offset, (off_t)slot->request->len);
}

static void zero_range_issue(struct raw_slot *slot, struct io_uring_sqe *sqe)
{
	io_uring_prep_fallocate(sqe, 0, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
				(off_t)slot->request->offset, (off_t)slot->request->len);
}

static void write_zeros_issue(struct raw_slot *slot, struct io_uring_sqe *sqe)
{
	const struct block_request *request = slot->request;
	uint64_t left = request->len - slot->done;

	io_uring_prep_write(sqe, 0, slot->queue->raw->zeros, (unsigned int)MIN(left, RAW_ZEROS),
			    request->offset + slot->done);
	if (request->fua)
		sqe->rw_flags = RWF_DSYNC;
}

static int write_zeros_answered(struct raw_slot *slot, int result)
{
	if (result <= 0)
		return result ? result : -EIO;
	slot->done += (uint64_t)result;
	return slot->done < slot->request->len ? AGAIN : 0;
}

/* Ways to zero a range, best first: a hole only where the guest allows one. */
enum zero_step { ZERO_PUNCH, ZERO_RANGE, ZERO_WRITE, ZERO_SYNC };

/* What the host has refused once is not asked again. */
static enum zero_step zero_skip_refused(const struct raw_slot *slot, enum zero_step step)
{
	const struct raw *raw = slot->queue->raw;

	if (step == ZERO_PUNCH &&
	    (!slot->request->unmap || __atomic_load_n(&raw->cannot_punch, __ATOMIC_RELAXED)))
		step = ZERO_RANGE;
	if (step == ZERO_RANGE && __atomic_load_n(&raw->cannot_zero, __ATOMIC_RELAXED))
		step = ZERO_WRITE;
	return step;
}

static void zero_issue(struct raw_slot *slot, struct io_uring_sqe *sqe)
{
	static void (*const issue[])(struct raw_slot *, struct io_uring_sqe *) = {
		[ZERO_PUNCH] = punch_issue,
		[ZERO_RANGE] = zero_range_issue,
		[ZERO_WRITE] = write_zeros_issue,
		[ZERO_SYNC] = flush_issue,
	};

	slot->step = (uint8_t)zero_skip_refused(slot, slot->step);
	issue[slot->step](slot, sqe);
}

static int zero_answered(struct raw_slot *slot, int result)
{
	struct raw *raw = slot->queue->raw;

	if (slot->step == ZERO_WRITE)
		return write_zeros_answered(slot, result);
	if (slot->step == ZERO_SYNC)
		return plain_answered(slot, result);
	if (result == -EOPNOTSUPP) {
		__atomic_store_n(slot->step == ZERO_PUNCH ? &raw->cannot_punch : &raw->cannot_zero,
				 true, __ATOMIC_RELAXED);
		slot->step++;
		return AGAIN;
	}
	if (result < 0 || !slot->request->fua)
		return plain_answered(slot, result);
	slot->step = ZERO_SYNC;
	return AGAIN;
}

static const struct action actions[] = {
	[BLOCK_READ] = { transfer_issue, transfer_answered },
	[BLOCK_WRITE] = { transfer_issue, transfer_answered },
	[BLOCK_FLUSH] = { flush_issue, plain_answered },
	[BLOCK_DISCARD] = { punch_issue, plain_answered },
	[BLOCK_WRITE_ZEROES] = { zero_issue, zero_answered },
};

static void slot_issue(struct raw_slot *slot)
{
	struct io_uring_sqe *sqe;

	if (slot->queue->dead)
		return;
	sqe = io_uring_get_sqe(&slot->queue->ring);
	assert(sqe); /* each slot has at most one entry in a ring of as many entries */
	actions[slot->request->op].issue(slot, sqe);
	io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
	io_uring_sqe_set_data(sqe, slot);
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
		r = AGAIN;
	else
		r = actions[slot->request->op].answered(slot, again ? -EIO : result);
	if (r == AGAIN)
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
	for (unsigned int i = 0; i < depth; i++) {
		q->slots[i].queue = q;
		list_append(&q->free, &q->slots[i].link);
	}
	r = bounce_make(q);
	if (r == 0)
		r = ring_make(q);
	if (r < 0) {
		raw_close(&q->queue);
		return r;
	}
	*ret_queue = &q->queue;
	return 0;
}
