/* SPDX-License-Identifier: Apache-2.0 */
#include "net/pair.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "net/iov.h"

struct pair_frame {
	size_t len;
	uint8_t *bytes; /* owned */
};

/* One direction of one queue: a ring between a sender and a receiver. */
struct lane {
	struct pair_frame frames[NET_PAIR_FRAMES];
	unsigned int first, count;
	int to_receiver, to_sender; /* eventfds: frames came; room came */
	bool starved;		    /* the sender waits for room */
	bool active;		    /* the receiver takes frames */
};

struct cable {
	pthread_mutex_t lock; /* guards all of this; innermost */
	bool ended[2];
	uint32_t offloads[2];
	unsigned int n_lanes;
	struct lane lanes[2][LIMIT_QUEUES]; /* [end that receives][queue] */
};

struct pair_end {
	struct net net;
	struct cable *cable; /* freed by the last end */
	unsigned int side;
};

struct pair_queue {
	struct net_queue queue;
	struct cable *cable;
	struct lane *in, *out;
	unsigned int side;
	struct loop *loop;
	struct net_events events;
	struct loop_watch readable, writable;
	bool readable_watched;
};

static void lane_clear(struct lane *lane)
{
	while (lane->count) {
		free(lane->frames[lane->first].bytes);
		lane->first = (lane->first + 1) % NET_PAIR_FRAMES;
		lane->count--;
	}
}

static void cable_free(struct cable *cable)
{
	for (unsigned int side = 0; side < 2; side++) {
		for (unsigned int i = 0; i < cable->n_lanes; i++) {
			lane_clear(&cable->lanes[side][i]);
			fd_close(cable->lanes[side][i].to_receiver);
			fd_close(cable->lanes[side][i].to_sender);
		}
	}
	pthread_mutex_destroy(&cable->lock);
	free(cable);
}

static int cable_new(unsigned int n_lanes, struct cable **ret_cable)
{
	struct cable *cable = calloc(1, sizeof(*cable));
	bool failed = false;

	if (!cable)
		return -ENOMEM;
	pthread_mutex_init(&cable->lock, NULL);
	cable->n_lanes = n_lanes;
	for (unsigned int i = 0; i < 2 * n_lanes; i++) {
		struct lane *lane = &cable->lanes[i % 2][i / 2];

		lane->active = true;
		lane->to_receiver = fd_new_event();
		lane->to_sender = fd_new_event();
		failed = failed || lane->to_receiver < 0 || lane->to_sender < 0;
	}
	if (failed) {
		cable_free(cable);
		return -EMFILE;
	}
	*ret_cable = cable;
	return 0;
}

static int lane_put_locked(struct lane *lane, const struct iovec *iov, unsigned int n_iov)
{
	struct pair_frame *frame = &lane->frames[(lane->first + lane->count) % NET_PAIR_FRAMES];
	size_t len = net_iov_len(iov, n_iov);

	if (len < NET_HEADER_SIZE || len > NET_FRAME_MAX)
		return -EMSGSIZE;
	if (!lane->active)
		return 0; /* lost: nobody listens */
	if (lane->count == NET_PAIR_FRAMES) {
		lane->starved = true;
		return -EAGAIN;
	}
	frame->bytes = malloc(len);
	if (!frame->bytes)
		return -ENOMEM;
	frame->len = net_iov_read(iov, n_iov, 0, frame->bytes, len);
	lane->count++;
	fd_signal_event(lane->to_receiver);
	return 0;
}

static int pair_send(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct pair_queue *q = container_of(queue, struct pair_queue, queue);
	int r;

	pthread_mutex_lock(&q->cable->lock);
	r = q->cable->ended[!q->side] ? -EPIPE : lane_put_locked(q->out, iov, n_iov);
	pthread_mutex_unlock(&q->cable->lock);
	return r;
}

static ssize_t lane_take_locked(struct lane *lane, const struct iovec *iov, unsigned int n_iov)
{
	struct pair_frame *frame = &lane->frames[lane->first];
	size_t given;

	if (!lane->count)
		return 0;
	given = net_iov_write(iov, n_iov, 0, frame->bytes, frame->len);
	free(frame->bytes);
	lane->first = (lane->first + 1) % NET_PAIR_FRAMES;
	lane->count--;
	if (lane->starved) {
		lane->starved = false;
		fd_signal_event(lane->to_sender);
	}
	return (ssize_t)given;
}

static ssize_t pair_receive(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct pair_queue *q = container_of(queue, struct pair_queue, queue);
	ssize_t n;

	pthread_mutex_lock(&q->cable->lock);
	n = lane_take_locked(q->in, iov, n_iov);
	if (n == 0 && q->cable->ended[!q->side])
		n = -EPIPE;
	pthread_mutex_unlock(&q->cable->lock);
	return n;
}

static void pair_readable(struct loop_watch *watch, uint32_t events _unused_)
{
	struct pair_queue *q = container_of(watch, struct pair_queue, readable);
	bool ended;

	fd_clear_event(watch->fd);
	pthread_mutex_lock(&q->cable->lock);
	ended = q->cable->ended[!q->side];
	pthread_mutex_unlock(&q->cable->lock);
	q->events.readable(q->events.ctx);
	if (ended)
		q->events.gone(q->events.ctx, -EPIPE);
}

static void pair_writable(struct loop_watch *watch, uint32_t events _unused_)
{
	struct pair_queue *q = container_of(watch, struct pair_queue, writable);

	fd_clear_event(watch->fd);
	q->events.writable(q->events.ctx);
}

static void pair_want_readable(struct net_queue *queue, bool want)
{
	struct pair_queue *q = container_of(queue, struct pair_queue, queue);

	if (want == q->readable_watched)
		return;
	q->readable_watched = want && loop_add(q->loop, &q->readable) == 0;
	if (!want)
		loop_remove(q->loop, &q->readable);
	else
		fd_signal_event(q->in->to_receiver); /* frames may have come while nobody looked */
}

static int pair_set_active(struct net_queue *queue, bool active)
{
	struct pair_queue *q = container_of(queue, struct pair_queue, queue);

	pthread_mutex_lock(&q->cable->lock);
	q->in->active = active;
	if (!active)
		lane_clear(q->in);
	pthread_mutex_unlock(&q->cable->lock);
	return 0;
}

static void pair_queue_close(struct net_queue *queue)
{
	struct pair_queue *q = container_of(queue, struct pair_queue, queue);

	loop_remove(q->loop, &q->readable);
	loop_remove(q->loop, &q->writable);
	free(q);
}

static const struct net_queue_ops pair_queue_ops = {
	.send = pair_send,
	.receive = pair_receive,
	.want_readable = pair_want_readable,
	.set_active = pair_set_active,
	.close = pair_queue_close,
};

static int pair_queue_open(struct net *net, unsigned int index, struct loop *loop,
			   const struct net_events *events, struct net_queue **ret_queue)
{
	struct pair_end *end = container_of(net, struct pair_end, net);
	struct pair_queue *q;
	int r;

	if (index >= net->queue_pairs)
		return -EINVAL;
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->queue = (struct net_queue){ .ops = &pair_queue_ops, .net = net };
	q->cable = end->cable;
	q->side = end->side;
	q->in = &end->cable->lanes[end->side][index];
	q->out = &end->cable->lanes[!end->side][index];
	q->loop = loop;
	q->events = *events;
	q->readable = (struct loop_watch){ q->in->to_receiver, EPOLLIN, pair_readable };
	q->writable = (struct loop_watch){ q->out->to_sender, EPOLLIN, pair_writable };
	r = loop_add(loop, &q->writable);
	if (r < 0) {
		free(q);
		return r;
	}
	*ret_queue = &q->queue;
	return 0;
}

static int pair_set_offloads(struct net *net, uint32_t offloads)
{
	struct pair_end *end = container_of(net, struct pair_end, net);

	if (offloads & ~net->offloads)
		return -EOPNOTSUPP;
	pthread_mutex_lock(&end->cable->lock);
	end->cable->offloads[end->side] = offloads;
	pthread_mutex_unlock(&end->cable->lock);
	return 0;
}

static void pair_destroy(struct net *net)
{
	struct pair_end *end = container_of(net, struct pair_end, net);
	struct cable *cable = end->cable;
	bool last;

	pthread_mutex_lock(&cable->lock);
	cable->ended[end->side] = true;
	last = cable->ended[!end->side];
	for (unsigned int i = 0; !last && i < cable->n_lanes; i++) {
		fd_signal_event(cable->lanes[!end->side][i].to_receiver);
		fd_signal_event(cable->lanes[end->side][i].to_sender);
	}
	pthread_mutex_unlock(&cable->lock);
	if (last)
		cable_free(cable);
	free(end);
}

static const struct net_ops pair_ops = {
	.queue_open = pair_queue_open,
	.set_offloads = pair_set_offloads,
	.destroy = pair_destroy,
};

static struct pair_end *end_new(const struct net_pair_params *params, struct cable *cable,
				unsigned int side)
{
	struct pair_end *end = calloc(1, sizeof(*end));

	if (!end)
		return NULL;
	end->net = (struct net){ .ops = &pair_ops,
				 .queue_pairs = params->queue_pairs,
				 .offloads = params->offloads,
				 .mtu = params->mtu };
	end->cable = cable;
	end->side = side;
	return end;
}

int net_pair_new(const struct net_pair_params *params, struct net **ret_a, struct net **ret_b)
{
	struct pair_end *a, *b;
	struct cable *cable;
	int r;

	if (params->queue_pairs < 1 || params->queue_pairs > LIMIT_QUEUES)
		return -EINVAL;
	r = cable_new(params->queue_pairs, &cable);
	if (r < 0)
		return r;
	a = end_new(params, cable, 0);
	b = end_new(params, cable, 1);
	if (!a || !b) {
		free(a);
		free(b);
		cable_free(cable);
		return -ENOMEM;
	}
	*ret_a = &a->net;
	*ret_b = &b->net;
	return 0;
}

uint32_t net_pair_offloads(const struct net *net)
{
	const struct pair_end *end = container_of(net, struct pair_end, net);
	uint32_t offloads;

	pthread_mutex_lock(&end->cable->lock);
	offloads = end->cable->offloads[end->side];
	pthread_mutex_unlock(&end->cable->lock);
	return offloads;
}
