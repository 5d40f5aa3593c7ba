/* SPDX-License-Identifier: Apache-2.0 */
#include "net_sink.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "net/iov.h"

static struct net_sink *sink_of(struct net *net)
{
	return container_of(net, struct net_sink, net);
}

static int sink_send(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct sink_queue *q = container_of(queue, struct sink_queue, queue);
	struct net_sink *sink = sink_of(queue->net);
	uint8_t frame[NET_FRAME_MAX];
	size_t len;

	if (!q->active)
		return -EBADFD;
	if (!q->room) {
		q->waits = true;
		return -EAGAIN;
	}
	if (q->room != UINT_MAX)
		q->room--;
	len = net_iov_read(iov, n_iov, 0, frame, sizeof(frame));
	sink->took(sink->ctx, q->index, frame, len);
	return q->error;
}

static ssize_t sink_receive(struct net_queue *queue _unused_, const struct iovec *iov _unused_,
			    unsigned int n_iov _unused_)
{
	return 0;
}

static void sink_want_readable(struct net_queue *queue _unused_, bool want _unused_)
{
}

static int sink_set_active(struct net_queue *queue, bool active)
{
	struct sink_queue *q = container_of(queue, struct sink_queue, queue);

	q->changes += q->active != active;
	q->active = active;
	q->waits = false; /* as a tap does */
	return 0;
}

static void sink_close(struct net_queue *queue)
{
	container_of(queue, struct sink_queue, queue)->opened = false;
}

static const struct net_queue_ops sink_queue_ops = {
	.send = sink_send,
	.receive = sink_receive,
	.want_readable = sink_want_readable,
	.set_active = sink_set_active,
	.close = sink_close,
};

static int sink_queue_open(struct net *net, unsigned int index, struct loop *loop _unused_,
			   const struct net_events *events, struct net_queue **ret_queue)
{
	struct sink_queue *q = &sink_of(net)->queues[index];

	*q = (struct sink_queue){
		.queue = { &sink_queue_ops, net },
		.events = *events,
		.index = index,
		.opened = true,
		.active = true,
		.room = UINT_MAX,
	};
	*ret_queue = &q->queue;
	return 0;
}

static int sink_set_offloads(struct net *net _unused_, uint32_t offloads _unused_)
{
	return 0;
}

static void sink_destroy(struct net *net)
{
	sink_of(net)->destroyed = true;
}

static const struct net_ops sink_ops = {
	.queue_open = sink_queue_open,
	.set_offloads = sink_set_offloads,
	.destroy = sink_destroy,
};

void net_sink_init(struct net_sink *sink, unsigned int queue_pairs)
{
	*sink = (struct net_sink){ .net = { .ops = &sink_ops, .queue_pairs = queue_pairs } };
}

void net_sink_room(struct net_sink *sink, unsigned int queue, unsigned int frames)
{
	struct sink_queue *q = &sink->queues[queue];

	q->room = frames;
	if (frames && q->waits) {
		q->waits = false;
		q->events.writable(q->events.ctx);
	}
}

void sink_frame_make(uint64_t number, uint8_t *frame, size_t len)
{
	memset(frame, 0, NET_HEADER_SIZE);
	le_store(frame + NET_HEADER_SIZE, 8, number);
	for (size_t i = NET_HEADER_SIZE + 8; i < len; i++)
		frame[i] = (uint8_t)(number * 31 + i * 7 + len);
}

uint64_t sink_frame_number(const uint8_t *frame, size_t len)
{
	uint64_t number = le_load(frame + NET_HEADER_SIZE, 8);
	uint8_t right[NET_FRAME_MAX];

	sink_frame_make(number, right, len);
	if (len < SINK_FRAME_MIN || memcmp(frame, right, len) != 0)
		abort();
	return number;
}
