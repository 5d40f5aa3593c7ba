/* SPDX-License-Identifier: Apache-2.0 */
#include "net/filters/filter.h"

#include <errno.h>
#include <stdlib.h>

void *net_filter_new(size_t size, const struct net_ops *ops, struct net *below)
{
	struct net_filter *filter = calloc(1, size);

	if (!filter)
		return NULL;
	filter->net = *below;
	filter->net.ops = ops;
	filter->below = below;
	return filter;
}

int net_filter_queue_new(size_t size, const struct net_queue_ops *ops, struct net *net,
			 unsigned int index, struct loop *loop, const struct net_events *events,
			 const struct net_events *inner, void *ret_queue)
{
	struct net_filter *filter = container_of(net, struct net_filter, net);
	struct net_filter_queue *q = calloc(1, size);
	struct net_events below = *inner;
	int r;

	if (!q)
		return -ENOMEM;
	q->queue = (struct net_queue){ .ops = ops, .net = net };
	q->events = *events;
	q->loop = loop;
	below.ctx = q;
	r = net_queue_open(filter->below, index, loop, &below, &q->below);
	if (r < 0) {
		free(q);
		return r;
	}
	*(struct net_filter_queue **)ret_queue = q;
	return 0;
}

static struct net_filter_queue *queue_of(struct net_queue *queue)
{
	return container_of(queue, struct net_filter_queue, queue);
}

void net_filter_readable(void *ctx)
{
	struct net_filter_queue *q = ctx;

	q->events.readable(q->events.ctx);
}

void net_filter_writable(void *ctx)
{
	struct net_filter_queue *q = ctx;

	q->events.writable(q->events.ctx);
}

void net_filter_gone(void *ctx, int error)
{
	struct net_filter_queue *q = ctx;

	q->events.gone(q->events.ctx, error);
}

int net_filter_set_offloads(struct net *net, uint32_t offloads)
{
	struct net *below = container_of(net, struct net_filter, net)->below;

	return below->ops->set_offloads(below, offloads);
}

void net_filter_destroy(struct net *net)
{
	struct net_filter *filter = container_of(net, struct net_filter, net);

	net_free(filter->below);
	free(filter);
}

int net_filter_send(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	return net_send(queue_of(queue)->below, iov, n_iov);
}

void net_filter_want_readable(struct net_queue *queue, bool want)
{
	net_want_readable(queue_of(queue)->below, want);
}

int net_filter_set_active(struct net_queue *queue, bool active)
{
	return net_queue_set_active(queue_of(queue)->below, active);
}

void net_filter_queue_close(struct net_queue *queue)
{
	net_queue_close(queue_of(queue)->below);
	free(queue_of(queue));
}
