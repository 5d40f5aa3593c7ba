/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "net/filters/filter.h"

#define DROPS_PER_TURN 64 /* received frames thrown away before others have their turn */

struct drop {
	struct net_filter filter;
	struct net_drop_params params;
};

struct drop_queue {
	struct net_filter_queue base;
	uint64_t random;
	uint32_t seen[2]; /* by direction, since the last one lost by count */
	struct loop_timer again;
};

/* A small generator (splitmix64), so that a seed gives the same losses on every host. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static bool is_lost(struct drop_queue *q, enum net_direction direction)
{
	const struct drop *drop = container_of(q->base.queue.net, struct drop, filter.net);
	const struct net_drop_params *params = &drop->params;

	if (!params->direction[direction])
		return false;
	if (params->nth && ++q->seen[direction] >= params->nth) {
		q->seen[direction] = 0;
		return true;
	}
	return params->per_million && next_random(&q->random) % 1000000 < params->per_million;
}

static int drop_send(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct drop_queue *q = container_of(queue, struct drop_queue, base.queue);

	return is_lost(q, NET_OUT) ? 0 : net_send(q->base.below, iov, n_iov);
}

static ssize_t drop_receive(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct drop_queue *q = container_of(queue, struct drop_queue, base.queue);

	for (unsigned int i = 0; i < DROPS_PER_TURN; i++) {
		ssize_t n = net_receive(q->base.below, iov, n_iov);

		if (n <= 0 || !is_lost(q, NET_IN))
			return n;
	}
	loop_timer_arm(q->base.loop, &q->again, clock_now(loop_clock(q->base.loop)));
	return 0;
}

static void drop_again(struct loop_timer *timer)
{
	net_filter_readable(&container_of(timer, struct drop_queue, again)->base);
}

static void drop_queue_close(struct net_queue *queue)
{
	loop_timer_cancel(&container_of(queue, struct drop_queue, base.queue)->again);
	net_filter_queue_close(queue);
}

static const struct net_queue_ops drop_queue_ops = {
	.send = drop_send,
	.receive = drop_receive,
	.want_readable = net_filter_want_readable,
	.set_active = net_filter_set_active,
	.close = drop_queue_close,
};

static int drop_queue_open(struct net *net, unsigned int index, struct loop *loop,
			   const struct net_events *events, struct net_queue **ret_queue)
{
	static const struct net_events inner = { net_filter_readable, net_filter_writable,
						 net_filter_gone, NULL };
	struct drop *drop = container_of(net, struct drop, filter.net);
	struct drop_queue *q;
	int r = net_filter_queue_new(sizeof(*q), &drop_queue_ops, net, index, loop, events, &inner,
				     &q);

	if (r < 0)
		return r;
	q->random = drop->params.seed + index;
	loop_timer_init(&q->again, drop_again);
	*ret_queue = &q->base.queue;
	return 0;
}

static const struct net_ops drop_ops = {
	.queue_open = drop_queue_open,
	.set_offloads = net_filter_set_offloads,
	.destroy = net_filter_destroy,
};

int net_drop_new(const struct net_drop_params *params, struct net *below, struct net **ret_net)
{
	struct drop *drop = net_filter_new(sizeof(*drop), &drop_ops, below);

	if (!drop)
		return -ENOMEM;
	drop->params = *params;
	*ret_net = &drop->filter.net;
	return 0;
}
