/* SPDX-License-Identifier: Apache-2.0 */
#include "net/filters/hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "base/limits.h"
#include "net/filters/filter.h"
#include "net/header.h"
#include "net/iov.h"

#define FRAMES_PER_TURN 64 /* released before the barrier and others have their turn */

struct hold_queue {
	struct net_filter_queue base;
	unsigned int index;
	struct loop_watch poke; /* there may be something to release */
	struct hold_lane lane;
	bool starved; /* a send was refused */
	bool stuck;   /* the net below refuses frames */
	bool active;  /* as whoever stands on us wants it */
	bool lent;    /* the net below is in use although it should not be: frames are held */
};

struct net_hold {
	struct net_filter filter;
	struct hold *hold; /* borrowed */
	size_t size;
	struct hold_lane *lanes[LIMIT_QUEUES]; /* of open queues */
	int pokes
		[LIMIT_QUEUES]; /* eventfds: a queue's thread, which opens the queue, may make none */
};

static struct net_hold *hold_of(const struct net *net)
{
	return container_of(net, struct net_hold, filter.net);
}

static struct hold_queue *queue_of(struct net_queue *queue)
{
	return container_of(queue, struct hold_queue, base.queue);
}

static void look_again(void *ctx)
{
	fd_signal_event(((struct hold_queue *)ctx)->poke.fd);
}

/* Frames leave by a queue that the guest has taken out of use meanwhile: it is in use for them. */
static void lend(struct hold_queue *q, bool lent)
{
	if (q->active || q->lent == lent)
		return;
	/* Where it cannot be had the send fails, and the frame is lost. */
	if (net_queue_set_active(q->base.below, lent) == 0)
		q->lent = lent;
}

/* One frame; false when the net below takes none now. */
static bool release_one(struct hold_queue *q, const struct iovec *iov, unsigned int n_iov)
{
	int r;

	lend(q, true);
	r = net_send(q->base.below, iov, n_iov);
	q->stuck = r == -EAGAIN;
	if (!q->stuck)
		hold_lane_took(&q->lane, net_iov_len(iov, n_iov), r < 0);
	return !q->stuck;
}

static void release_some(struct hold_queue *q)
{
	unsigned int n = 0, n_iov = 0;
	struct iovec iov[2];

	while (n < FRAMES_PER_TURN && (n_iov = hold_lane_next(&q->lane, iov)))
		if (release_one(q, iov, n_iov))
			n++;
		else
			break;
	if (n == FRAMES_PER_TURN)
		look_again(q);
	else if (!q->stuck)
		lend(q, false);
}

/* A queue with room for one frame of any length takes frames again. */
static void tell_room(struct hold_queue *q)
{
	if (!q->starved || q->stuck || epoch_queue_room(&q->lane.queue) < NET_FRAME_MAX)
		return;
	q->starved = false;
	net_filter_writable(&q->base);
}

static void poked(struct loop_watch *watch, uint32_t events _unused_)
{
	struct hold_queue *q = container_of(watch, struct hold_queue, poke);

	fd_clear_event(watch->fd);
	if (!q->stuck)
		release_some(q);
	tell_room(q);
}

static void below_writable(void *ctx)
{
	struct hold_queue *q = container_of(ctx, struct hold_queue, base);

	q->stuck = false;
	release_some(q);
	tell_room(q);
}

static int pass(struct hold_queue *q, const struct iovec *iov, unsigned int n_iov, size_t len)
{
	int r = net_send(q->base.below, iov, n_iov);

	if (r == -EAGAIN)
		q->stuck = q->starved = true;
	else
		hold_lane_passed(&q->lane, len);
	return r;
}

static int hold_send(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct hold_queue *q = queue_of(queue);
	size_t len = net_iov_len(iov, n_iov);
	int r;

	if (len < NET_HEADER_SIZE || len > NET_FRAME_MAX)
		return -EMSGSIZE;
	if (hold_lane_passes(&q->lane))
		return pass(q, iov, n_iov, len);
	r = hold_lane_put(&q->lane, iov, n_iov, len);
	q->starved |= r == -EAGAIN;
	return r;
}

static ssize_t hold_receive(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	return net_receive(queue_of(queue)->base.below, iov, n_iov);
}

static int hold_set_active(struct net_queue *queue, bool active)
{
	struct hold_queue *q = queue_of(queue);
	int r = q->lent && active ? 0 : net_filter_set_active(queue, active);

	if (r < 0)
		return r;
	q->active = active;
	q->lent = false;
	/* What was taken out of use forgot that it should tell when it has room. */
	if (q->stuck && !active) {
		q->stuck = false;
		look_again(q);
	}
	return 0;
}

static void hold_queue_close(struct net_queue *queue)
{
	struct hold_queue *q = queue_of(queue);

	hold_of(queue->net)->lanes[q->index] = NULL;
	hold_lane_remove(&q->lane);
	loop_remove(q->base.loop, &q->poke);
	net_filter_queue_close(queue);
}

static const struct net_queue_ops hold_queue_ops = {
	.send = hold_send,
	.receive = hold_receive,
	.want_readable = net_filter_want_readable,
	.set_active = hold_set_active,
	.close = hold_queue_close,
};

/* A frame of a peer reaches the host's kernel: its header must be one that the device itself would have let pass, and as that lets it pass,
 * whatever offloads that guest uses. */
static bool is_right(const void *bytes, size_t len)
{
	struct net_header header;

	if (len < NET_HEADER_SIZE + NET_ETHERNET_HEADER)
		return false;
	memcpy(&header, bytes, sizeof(header));
	return header.flags <= HEADER_NEEDS_CSUM && !le16_get(header.num_buffers) &&
	       net_header_is_right(&header, len - NET_HEADER_SIZE);
}

static int start_queue(struct hold_queue *q, struct net_hold *hold, unsigned int index)
{
	const struct hold_lane_params params = {
		.kind = NET_HOLD_SECTION,
		.ages = true,
		.size = hold->size,
		.longest = NET_FRAME_MAX,
		.poke = look_again,
		.is_right = is_right,
		.ctx = q,
	};
	int r;

	q->index = index;
	q->active = true;
	q->poke =
		(struct loop_watch){ .fd = hold->pokes[index], .events = EPOLLIN, .ready = poked };
	r = loop_add(q->base.loop, &q->poke);
	if (r == 0)
		r = hold_lane_add(hold->hold, &params, &q->lane);
	if (r == 0)
		hold->lanes[index] = &q->lane;
	return r;
}

static int hold_queue_open(struct net *net, unsigned int index, struct loop *loop,
			   const struct net_events *events, struct net_queue **ret_queue)
{
	static const struct net_events inner = { net_filter_readable, below_writable,
						 net_filter_gone, NULL };
	struct hold_queue *q;
	int r = net_filter_queue_new(sizeof(*q), &hold_queue_ops, net, index, loop, events, &inner,
				     &q);

	if (r < 0)
		return r;
	r = start_queue(q, hold_of(net), index);
	if (r < 0) {
		hold_queue_close(&q->base.queue);
		return r;
	}
	*ret_queue = &q->base.queue;
	return 0;
}

static void close_pokes(struct net_hold *hold)
{
	for (unsigned int i = 0; i < LIMIT_QUEUES; i++)
		fd_close(hold->pokes[i]);
}

static void hold_destroy_net(struct net *net)
{
	close_pokes(hold_of(net));
	net_filter_destroy(net);
}

static const struct net_ops hold_ops = {
	.queue_open = hold_queue_open,
	.set_offloads = net_filter_set_offloads,
	.destroy = hold_destroy_net,
};

static int make_pokes(struct net_hold *hold)
{
	int r = 0;

	for (unsigned int i = 0; i < LIMIT_QUEUES; i++)
		hold->pokes[i] = -1;
	for (unsigned int i = 0; r == 0 && i < hold->filter.net.queue_pairs; i++) {
		hold->pokes[i] = fd_new_event();
		r = MIN(hold->pokes[i], 0);
	}
	return r;
}

int net_hold_new(struct hold *hold, size_t size, struct net *below, struct net **ret_net)
{
	struct net_hold *filter;
	int r;

	if (size < NET_FRAME_MAX + EPOCH_ITEM_OVERHEAD || size > LIMIT_NET_HOLD)
		return -EINVAL;
	filter = net_filter_new(sizeof(*filter), &hold_ops, below);
	if (!filter)
		return -ENOMEM;
	r = make_pokes(filter);
	if (r < 0) {
		close_pokes(filter);
		free(filter);
		return r;
	}
	filter->hold = hold;
	filter->size = size;
	*ret_net = &filter->filter.net;
	return 0;
}

int net_hold_export(const struct net *net, uint64_t after, uint64_t up_to, struct buffer *out)
{
	return hold_section_write(hold_of(net)->lanes, net->queue_pairs, NET_HOLD_SECTION, after,
				  up_to, out);
}

size_t net_hold_export_limit(const struct net *net)
{
	return hold_section_limit(net->queue_pairs, hold_of(net)->size);
}

int net_hold_import(struct net *net, const struct iovec *sections, unsigned int n_sections,
		    struct error *err)
{
	return hold_section_read(hold_of(net)->lanes, net->queue_pairs, NET_HOLD_SECTION, sections,
				 n_sections, err);
}

void net_hold_count(const struct net *net, struct hold_counts *ret_counts)
{
	struct hold_counts sum = { .first_epoch = UINT64_MAX, .first_at_ns = UINT64_MAX };
	const struct net_hold *hold = hold_of(net);

	for (unsigned int i = 0; i < net->queue_pairs; i++) {
		struct hold_counts one;

		if (!hold->lanes[i])
			continue;
		hold_lane_count(hold->lanes[i], &one);
		hold_counts_add(&sum, &one);
	}
	*ret_counts = sum;
}
