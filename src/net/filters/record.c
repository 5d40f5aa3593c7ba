/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "net/filters/filter.h"
#include "net/iov.h"

struct record {
	struct net_filter filter;
	struct net_record_params params;
};

struct record_queue {
	struct net_filter_queue base;
	unsigned int index;
};

static const struct net_record_params *params_of(const struct net_queue *queue)
{
	return &container_of(queue->net, struct record, filter.net)->params;
}

static int record_send(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct record_queue *q = container_of(queue, struct record_queue, base.queue);
	const struct net_record_params *params = params_of(queue);
	int r = net_send(q->base.below, iov, n_iov);

	if (r == 0)
		params->seen(params->ctx, q->index, NET_OUT, iov, n_iov, net_iov_len(iov, n_iov));
	return r;
}

static ssize_t record_receive(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct record_queue *q = container_of(queue, struct record_queue, base.queue);
	const struct net_record_params *params = params_of(queue);
	ssize_t n = net_receive(q->base.below, iov, n_iov);

	if (n > 0)
		params->seen(params->ctx, q->index, NET_IN, iov, n_iov, (size_t)n);
	return n;
}

static const struct net_queue_ops record_queue_ops = {
	.send = record_send,
	.receive = record_receive,
	.want_readable = net_filter_want_readable,
	.set_active = net_filter_set_active,
	.close = net_filter_queue_close,
};

static int record_queue_open(struct net *net, unsigned int index, struct loop *loop,
			     const struct net_events *events, struct net_queue **ret_queue)
{
	static const struct net_events inner = { net_filter_readable, net_filter_writable,
						 net_filter_gone, NULL };
	struct record_queue *q;
	int r = net_filter_queue_new(sizeof(*q), &record_queue_ops, net, index, loop, events,
				     &inner, &q);

	if (r < 0)
		return r;
	q->index = index;
	*ret_queue = &q->base.queue;
	return 0;
}

static const struct net_ops record_ops = {
	.queue_open = record_queue_open,
	.set_offloads = net_filter_set_offloads,
	.destroy = net_filter_destroy,
};

int net_record_new(const struct net_record_params *params, struct net *below, struct net **ret_net)
{
	struct record *record = net_filter_new(sizeof(*record), &record_ops, below);

	if (!record)
		return -ENOMEM;
	record->params = *params;
	*ret_net = &record->filter.net;
	return 0;
}
