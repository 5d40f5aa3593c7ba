/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>

#include "base/limits.h"
#include "net/filters/filter.h"
#include "net/iov.h"

struct delay {
	struct net_filter filter;
	struct net_delay_params params;
};

struct held_frame {
	uint64_t due_ns;
	size_t len;
	uint8_t *bytes; /* owned */
};

/* Frames on their way in one direction, oldest first. */
struct held {
	struct held_frame frames[LIMIT_NET_HELD];
	unsigned int first, count;
};

struct delay_queue {
	struct net_filter_queue base;
	struct held held[2]; /* by direction */
	struct loop_timer timers[2];
	bool want;    /* of whoever stands on us */
	bool starved; /* a send was refused */
	bool stuck;   /* the net below refuses frames */
	uint8_t scratch[NET_FRAME_MAX];
};

static struct held_frame *held_first(struct held *held)
{
	return held->count ? &held->frames[held->first] : NULL;
}

static bool held_full(const struct held *held)
{
	return held->count == LIMIT_NET_HELD;
}

static void held_pop(struct held *held)
{
	free(held->frames[held->first].bytes);
	held->first = (held->first + 1) % LIMIT_NET_HELD;
	held->count--;
}

static int held_push(struct delay_queue *q, enum net_direction direction, const struct iovec *iov,
		     unsigned int n_iov, size_t len)
{
	const struct delay *delay = container_of(q->base.queue.net, struct delay, filter.net);
	struct held *held = &q->held[direction];
	struct held_frame *frame = &held->frames[(held->first + held->count) % LIMIT_NET_HELD];

	frame->bytes = malloc(len);
	if (!frame->bytes)
		return -ENOMEM;
	frame->len = net_iov_read(iov, n_iov, 0, frame->bytes, len);
	frame->due_ns = clock_now(loop_clock(q->base.loop)) + delay->params.ns[direction];
	held->count++;
	loop_timer_arm(q->base.loop, &q->timers[direction], held_first(held)->due_ns);
	return 0;
}

static bool is_due(struct delay_queue *q, const struct held_frame *frame)
{
	return frame && frame->due_ns <= clock_now(loop_clock(q->base.loop));
}

static int delay_send(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct delay_queue *q = container_of(queue, struct delay_queue, base.queue);
	size_t len = net_iov_len(iov, n_iov);

	if (len > NET_FRAME_MAX)
		return -EMSGSIZE;
	if (held_full(&q->held[NET_OUT])) {
		q->starved = true;
		return -EAGAIN;
	}
	return held_push(q, NET_OUT, iov, n_iov, len);
}

/* Hands on what is due, until the net below refuses. */
static void release_out(struct delay_queue *q)
{
	struct held *held = &q->held[NET_OUT];
	bool was_starved = q->starved;

	q->stuck = false;
	while (is_due(q, held_first(held))) {
		struct held_frame *frame = held_first(held);
		struct iovec iov = { frame->bytes, frame->len };

		q->stuck = net_send(q->base.below, &iov, 1) == -EAGAIN;
		if (q->stuck)
			break;
		held_pop(held);
		q->starved = false;
	}
	if (held->count && !q->stuck)
		loop_timer_arm(q->base.loop, &q->timers[NET_OUT], held_first(held)->due_ns);
	if (was_starved && !q->starved)
		net_filter_writable(&q->base);
}

static void out_expired(struct loop_timer *timer)
{
	struct delay_queue *q = container_of(timer, struct delay_queue, timers[NET_OUT]);

	if (!q->stuck)
		release_out(q);
}

static void below_writable(void *ctx)
{
	release_out(container_of(ctx, struct delay_queue, base));
}

/* Takes what the net below has, as long as there is room. */
static ssize_t collect_in(struct delay_queue *q)
{
	ssize_t n = 1;

	while (n > 0 && !held_full(&q->held[NET_IN])) {
		struct iovec iov = { q->scratch, sizeof(q->scratch) };

		n = net_receive(q->base.below, &iov, 1);
		/* Out of memory loses the frame, as a wire may. */
		if (n > 0 && held_push(q, NET_IN, &iov, 1, (size_t)n) < 0)
			n = 0;
	}
	net_want_readable(q->base.below, q->want && !held_full(&q->held[NET_IN]));
	return MIN(n, 0);
}

static void below_readable(void *ctx)
{
	struct delay_queue *q = container_of(ctx, struct delay_queue, base);
	ssize_t r = collect_in(q);

	if (r < 0)
		net_filter_gone(&q->base, (int)r);
}

static void in_expired(struct loop_timer *timer)
{
	struct delay_queue *q = container_of(timer, struct delay_queue, timers[NET_IN]);

	if (q->want)
		net_filter_readable(&q->base);
}

static ssize_t delay_receive(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct delay_queue *q = container_of(queue, struct delay_queue, base.queue);
	struct held *held = &q->held[NET_IN];
	struct held_frame *frame = held_first(held);
	size_t len;

	if (!is_due(q, frame)) {
		ssize_t r = collect_in(q);

		frame = held_first(held);
		if (!is_due(q, frame)) {
			if (frame)
				loop_timer_arm(q->base.loop, &q->timers[NET_IN], frame->due_ns);
			return frame ? 0 : r;
		}
	}
	len = net_iov_write(iov, n_iov, 0, frame->bytes, frame->len);
	held_pop(held);
	return (ssize_t)len;
}

static void delay_want_readable(struct net_queue *queue, bool want)
{
	struct delay_queue *q = container_of(queue, struct delay_queue, base.queue);

	q->want = want;
	net_want_readable(q->base.below, want && !held_full(&q->held[NET_IN]));
}

static int delay_set_active(struct net_queue *queue, bool active)
{
	struct delay_queue *q = container_of(queue, struct delay_queue, base.queue);

	while (!active && q->held[NET_IN].count)
		held_pop(&q->held[NET_IN]);
	return net_filter_set_active(queue, active);
}

static void delay_queue_close(struct net_queue *queue)
{
	struct delay_queue *q = container_of(queue, struct delay_queue, base.queue);

	for (unsigned int i = 0; i < 2; i++) {
		loop_timer_cancel(&q->timers[i]);
		while (q->held[i].count)
			held_pop(&q->held[i]);
	}
	net_filter_queue_close(queue);
}

static const struct net_queue_ops delay_queue_ops = {
	.send = delay_send,
	.receive = delay_receive,
	.want_readable = delay_want_readable,
	.set_active = delay_set_active,
	.close = delay_queue_close,
};

static int delay_queue_open(struct net *net, unsigned int index, struct loop *loop,
			    const struct net_events *events, struct net_queue **ret_queue)
{
	static const struct net_events inner = { below_readable, below_writable, net_filter_gone,
						 NULL };
	struct delay_queue *q;
	int r = net_filter_queue_new(sizeof(*q), &delay_queue_ops, net, index, loop, events, &inner,
				     &q);

	if (r < 0)
		return r;
	loop_timer_init(&q->timers[NET_OUT], out_expired);
	loop_timer_init(&q->timers[NET_IN], in_expired);
	*ret_queue = &q->base.queue;
	return 0;
}

static const struct net_ops delay_ops = {
	.queue_open = delay_queue_open,
	.set_offloads = net_filter_set_offloads,
	.destroy = net_filter_destroy,
};

int net_delay_new(const struct net_delay_params *params, struct net *below, struct net **ret_net)
{
	struct delay *delay = net_filter_new(sizeof(*delay), &delay_ops, below);

	if (!delay)
		return -ENOMEM;
	delay->params = *params;
	*ret_net = &delay->filter.net;
	return 0;
}
