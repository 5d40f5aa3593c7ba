/* SPDX-License-Identifier: Apache-2.0 */
#include "net/passt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "net/iov.h"

#define LENGTH_SIZE 4
#define FRAME_MIN 14 /* an Ethernet header */
#define FRAME_MAX (NET_FRAME_MAX - NET_HEADER_SIZE)
#define IN_SIZE (128 * 1024) /* holds any frame with its length */

struct passt {
	struct net net;
	int fd;	   /* owned */
	bool open; /* a queue is on it */
};

struct passt_queue {
	struct net_queue queue;
	struct loop *loop;
	struct net_events events;
	struct loop_watch watch;
	bool want, blocked, watched;
	int failed; /* the negative errno that ended the stream */
	/* Received bytes that are not yet given: in[in_start, in_end). */
	size_t in_start, in_end;
	/* The rest of a frame that the socket took in part: out[out_start, out_end). */
	size_t out_start, out_end;
	uint8_t in[IN_SIZE];
	uint8_t out[LENGTH_SIZE + FRAME_MAX];
};

/* A closed stream shows EPOLLHUP for ever: it must leave the loop. */
static void passt_watch(struct passt_queue *q)
{
	uint32_t events = (q->want ? EPOLLIN : 0) | (q->blocked ? EPOLLOUT : 0);
	bool useful = events && !q->failed;

	if (useful && !q->watched) {
		q->watch.events = events;
		q->watched = loop_add(q->loop, &q->watch) == 0;
	} else if (q->watched && !useful) {
		loop_remove(q->loop, &q->watch);
		q->watched = false;
	} else if (q->watched) {
		loop_change(q->loop, &q->watch, events);
	}
}

/* The stream is of no use any more; passt_ready will say so. */
static int passt_fail(struct passt_queue *q, int error)
{
	if (!q->failed)
		q->failed = error;
	return q->failed;
}

/* Sends the kept rest of a frame: 0 when it is out, -EAGAIN, or the stream's end. */
static int flush_rest(struct passt_queue *q)
{
	while (q->out_start < q->out_end) {
		ssize_t n = send(q->watch.fd, q->out + q->out_start, q->out_end - q->out_start,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -EAGAIN : passt_fail(q, -errno);
		q->out_start += (size_t)n;
	}
	q->out_start = q->out_end = 0;
	return 0;
}

static void passt_ready(struct loop_watch *watch, uint32_t events)
{
	struct passt_queue *q = container_of(watch, struct passt_queue, watch);

	if ((events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) && q->blocked && flush_rest(q) == 0) {
		q->blocked = false;
		passt_watch(q);
		q->events.writable(q->events.ctx);
	}
	if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) && q->want && !q->failed)
		q->events.readable(q->events.ctx);
	if (q->failed) {
		passt_watch(q);
		q->events.gone(q->events.ctx, q->failed);
	}
}

/* Sends one frame with its length; what the socket does not take now is kept. */
static int send_frame(struct passt_queue *q, const struct iovec *iov, unsigned int n_iov,
		      size_t len)
{
	uint32_t length = htobe32((uint32_t)(len - NET_HEADER_SIZE));
	struct iovec out[NET_IOV_MAX + 1];
	unsigned int n_out = 1 + net_iov_skip(iov, n_iov, NET_HEADER_SIZE, out + 1);
	struct msghdr message = { .msg_iov = out, .msg_iovlen = n_out };
	ssize_t n;

	out[0] = (struct iovec){ &length, LENGTH_SIZE };
	do {
		n = sendmsg(q->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -EAGAIN : passt_fail(q, -errno);
	q->out_end = net_iov_read(out, n_out, (size_t)n, q->out, sizeof(q->out));
	return 0;
}

static int passt_send(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct passt_queue *q = container_of(queue, struct passt_queue, queue);
	size_t len;
	int r;

	if (q->failed)
		return q->failed;
	len = n_iov > NET_IOV_MAX ? 0 : net_iov_len(iov, n_iov);
	if (len < NET_HEADER_SIZE + FRAME_MIN || len > NET_FRAME_MAX)
		return -EMSGSIZE;
	r = flush_rest(q);
	if (r == 0)
		r = send_frame(q, iov, n_iov, len);
	/* Also a rest that was kept must go out, even when nothing more is sent. */
	if (r == -EAGAIN || q->out_end) {
		q->blocked = true;
		passt_watch(q);
	}
	return r;
}

/* Reads more of the stream behind what is there; 0 when there is no more now. */
static ssize_t fill(struct passt_queue *q)
{
	ssize_t n;

	memmove(q->in, q->in + q->in_start, q->in_end - q->in_start);
	q->in_end -= q->in_start;
	q->in_start = 0;
	do {
		n = recv(q->watch.fd, q->in + q->in_end, IN_SIZE - q->in_end, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n > 0)
		q->in_end += (size_t)n;
	else if (n == 0 || errno != EAGAIN)
		return passt_fail(q, n == 0 ? -ECONNRESET : -errno);
	return MAX(n, 0);
}

/* The length of the frame at in_start when it is there as a whole, 0 when not, -EPROTO when it is none. */
static ssize_t whole_frame(const struct passt_queue *q)
{
	size_t there = q->in_end - q->in_start;
	uint32_t length;

	if (there < LENGTH_SIZE)
		return 0;
	memcpy(&length, q->in + q->in_start, LENGTH_SIZE);
	length = be32toh(length);
	if (length < FRAME_MIN || length > FRAME_MAX)
		return -EPROTO;
	return there - LENGTH_SIZE < length ? 0 : (ssize_t)length;
}

static ssize_t passt_receive(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	static const char zeros[NET_HEADER_SIZE];
	struct passt_queue *q = container_of(queue, struct passt_queue, queue);
	ssize_t length;
	size_t given;

	if (q->failed)
		return q->failed;
	while ((length = whole_frame(q)) == 0) {
		ssize_t n = fill(q);

		if (n <= 0)
			return n;
	}
	if (length < 0)
		return passt_fail(q, (int)length);
	given = net_iov_write(iov, n_iov, 0, zeros, NET_HEADER_SIZE);
	given += net_iov_write(iov, n_iov, NET_HEADER_SIZE, q->in + q->in_start + LENGTH_SIZE,
			       (size_t)length);
	q->in_start += LENGTH_SIZE + (size_t)length;
	return (ssize_t)given;
}

static void passt_want_readable(struct net_queue *queue, bool want)
{
	struct passt_queue *q = container_of(queue, struct passt_queue, queue);

	q->want = want;
	passt_watch(q);
}

static int passt_set_active(struct net_queue *queue _unused_, bool active _unused_)
{
	return 0; /* the only queue is always in use */
}

static void passt_queue_close(struct net_queue *queue)
{
	struct passt_queue *q = container_of(queue, struct passt_queue, queue);

	q->want = q->blocked = false;
	passt_watch(q);
	container_of(queue->net, struct passt, net)->open = false;
	free(q);
}

static const struct net_queue_ops passt_queue_ops = {
	.send = passt_send,
	.receive = passt_receive,
	.want_readable = passt_want_readable,
	.set_active = passt_set_active,
	.close = passt_queue_close,
};

static int passt_queue_open(struct net *net, unsigned int index, struct loop *loop,
			    const struct net_events *events, struct net_queue **ret_queue)
{
	struct passt *passt = container_of(net, struct passt, net);
	struct passt_queue *q;

	if (index != 0)
		return -EINVAL;
	if (passt->open)
		return -EBUSY;
	q = malloc(sizeof(*q)); /* its buffers need no zeros */
	if (!q)
		return -ENOMEM;
	memset(q, 0, offsetof(struct passt_queue, in));
	q->queue = (struct net_queue){ .ops = &passt_queue_ops, .net = net };
	q->loop = loop;
	q->events = *events;
	q->watch = (struct loop_watch){ .fd = passt->fd, .ready = passt_ready };
	passt->open = true;
	*ret_queue = &q->queue;
	return 0;
}

static int passt_set_offloads(struct net *net _unused_, uint32_t offloads)
{
	return offloads ? -EOPNOTSUPP : 0;
}

static void passt_destroy(struct net *net)
{
	struct passt *passt = container_of(net, struct passt, net);

	fd_close(passt->fd);
	free(passt);
}

static const struct net_ops passt_ops = {
	.queue_open = passt_queue_open,
	.set_offloads = passt_set_offloads,
	.destroy = passt_destroy,
};

int passt_net_new(int fd, struct net **ret_net)
{
	struct passt *passt = calloc(1, sizeof(*passt));

	if (!passt)
		return -ENOMEM;
	passt->net = (struct net){ .ops = &passt_ops, .queue_pairs = 1, .mtu = PASST_MTU };
	passt->fd = fd;
	*ret_net = &passt->net;
	return 0;
}
