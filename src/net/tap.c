/* SPDX-License-Identifier: Apache-2.0 */
#include "net/tap.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/limits.h"
#include "net/iov.h"
#include "net/tap_setup.h"

struct tap {
	struct net net;
	bool bare;    /* no virtio_net_hdr: we add and strip one of zeros */
	bool adopted; /* another process opened it: which queues are attached is as that left it */
	bool asleep;  /* atomic: and it still uses it */
	int fds[LIMIT_QUEUES];
};

struct tap_queue {
	struct net_queue queue;
	struct loop *loop;
	struct net_events events;
	struct loop_watch watch;
	bool active, watched, want, blocked;
};

static struct tap *tap_of(const struct net_queue *queue)
{
	return container_of(queue->net, struct tap, net);
}

/*
 * A descriptor whose interface is gone, and one taken out of use, both show EPOLLERR for ever: it must
 * leave the loop, and come back when it is of use again.
 */
static void tap_watch(struct tap_queue *q)
{
	uint32_t events = (q->want ? EPOLLIN : 0) | (q->blocked ? EPOLLOUT : 0);

	if (q->active && events && !q->watched) {
		q->watch.events = events;
		q->watched = loop_add(q->loop, &q->watch) == 0;
	} else if (q->watched && !(q->active && events)) {
		loop_remove(q->loop, &q->watch);
		q->watched = false;
	} else if (q->watched) {
		loop_change(q->loop, &q->watch, events);
	}
}

static void tap_ready(struct loop_watch *watch, uint32_t events)
{
	struct tap_queue *q = container_of(watch, struct tap_queue, watch);

	if (events & (EPOLLERR | EPOLLHUP)) {
		q->active = false;
		tap_watch(q);
		q->events.gone(q->events.ctx, -ENODEV);
		return;
	}
	if ((events & EPOLLOUT) && q->blocked) {
		q->blocked = false;
		tap_watch(q);
		q->events.writable(q->events.ctx);
	}
	if ((events & EPOLLIN) && q->want)
		q->events.readable(q->events.ctx);
}

static int tap_send(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	struct tap_queue *q = container_of(queue, struct tap_queue, queue);
	struct tap *tap = tap_of(queue);
	struct iovec cut[NET_IOV_MAX];
	ssize_t n;

	if (n_iov > NET_IOV_MAX)
		return -EMSGSIZE;
	if (tap->bare) {
		n_iov = net_iov_skip(iov, n_iov, NET_HEADER_SIZE, cut);
		iov = cut;
	}
	do {
		n = writev(q->watch.fd, iov, (int)n_iov);
	} while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	if (errno == EAGAIN) {
		q->blocked = true;
		tap_watch(q);
	}
	return -errno;
}

static ssize_t tap_receive(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	static const char zeros[NET_HEADER_SIZE];
	struct tap_queue *q = container_of(queue, struct tap_queue, queue);
	bool bare = tap_of(queue)->bare;
	struct iovec cut[NET_IOV_MAX];
	const struct iovec *to = iov;
	unsigned int n_to = n_iov;
	ssize_t n;

	if (n_iov > NET_IOV_MAX)
		return -EMSGSIZE;
	if (bare) {
		n_to = net_iov_skip(iov, n_iov, NET_HEADER_SIZE, cut);
		to = cut;
	}
	do {
		n = readv(q->watch.fd, to, (int)n_to);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (!bare)
		return n;
	net_iov_write(iov, n_iov, 0, zeros, sizeof(zeros));
	return n + NET_HEADER_SIZE;
}

static void tap_want_readable(struct net_queue *queue, bool want)
{
	struct tap_queue *q = container_of(queue, struct tap_queue, queue);

	q->want = want;
	tap_watch(q);
}

/* A queue that is attached, or detached, already is -EINVAL: only who adopted it may find it so. */
static int tap_set_active(struct net_queue *queue, bool active)
{
	struct tap_queue *q = container_of(queue, struct tap_queue, queue);
	struct ifreq request = { .ifr_flags = active ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE };
	const struct tap *tap = tap_of(queue);

	if (q->active == active || queue->net->queue_pairs == 1)
		return 0;
	if (!__atomic_load_n(&tap->asleep, __ATOMIC_ACQUIRE) &&
	    ioctl(q->watch.fd, TUNSETQUEUE, &request) < 0 && !(tap->adopted && errno == EINVAL))
		return -errno;
	q->active = active;
	q->blocked = false;
	tap_watch(q);
	return 0;
}

static void tap_queue_close(struct net_queue *queue)
{
	struct tap_queue *q = container_of(queue, struct tap_queue, queue);

	q->active = false;
	tap_watch(q);
	free(q);
}

static const struct net_queue_ops tap_queue_ops = {
	.send = tap_send,
	.receive = tap_receive,
	.want_readable = tap_want_readable,
	.set_active = tap_set_active,
	.close = tap_queue_close,
};

static int tap_queue_open(struct net *net, unsigned int index, struct loop *loop,
			  const struct net_events *events, struct net_queue **ret_queue)
{
	struct tap *tap = container_of(net, struct tap, net);
	struct tap_queue *q;

	if (index >= net->queue_pairs)
		return -EINVAL;
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->queue = (struct net_queue){ .ops = &tap_queue_ops, .net = net };
	q->loop = loop;
	q->events = *events;
	q->watch = (struct loop_watch){ .fd = tap->fds[index], .ready = tap_ready };
	q->active = true;
	*ret_queue = &q->queue;
	return 0;
}

static int tap_set_offloads(struct net *net, uint32_t offloads)
{
	struct tap *tap = container_of(net, struct tap, net);

	if (offloads & ~net->offloads)
		return -EOPNOTSUPP;
	if (tap->bare || __atomic_load_n(&tap->asleep, __ATOMIC_ACQUIRE))
		return 0;
	return tap_setup_offloads(tap->fds[0], offloads);
}

static void tap_destroy(struct net *net)
{
	struct tap *tap = container_of(net, struct tap, net);

	for (unsigned int i = 0; i < LIMIT_QUEUES; i++)
		fd_close(tap->fds[i]);
	free(tap);
}

static const struct net_ops tap_ops = {
	.queue_open = tap_queue_open,
	.set_offloads = tap_set_offloads,
	.destroy = tap_destroy,
};

static struct tap *tap_new(void)
{
	struct tap *tap = calloc(1, sizeof(*tap));

	if (!tap)
		return NULL;
	tap->net.ops = &tap_ops;
	for (unsigned int i = 0; i < LIMIT_QUEUES; i++)
		tap->fds[i] = -1;
	return tap;
}

int tap_open(const char *name, unsigned int queues, struct net **ret_net, struct error *err)
{
	struct tap *tap;
	int r;

	if (queues < 1 || queues > LIMIT_QUEUES)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "net queues=%u: 1 to %d", queues,
				 LIMIT_QUEUES);
	tap = tap_new();
	if (!tap)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "net tap=%s: out of memory", name);
	r = tap_setup_named(name, queues, tap->fds, err);
	if (r == 0)
		r = tap_setup_probe(name, tap->fds[0], &tap->net.offloads, &tap->net.mtu, err);
	if (r < 0) {
		tap_destroy(&tap->net);
		return r;
	}
	tap->net.queue_pairs = queues;
	*ret_net = &tap->net;
	return 0;
}

int tap_from_fd(int fd, struct net **ret_net, struct error *err)
{
	char name[TAP_NAME_SIZE];
	struct tap *tap;
	int r;

	r = tap_setup_inherited(fd, name, err);
	if (r < 0)
		return r;
	tap = tap_new();
	if (!tap)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "net fd=%d: out of memory", fd);
	tap->bare = r == TAP_BARE;
	tap->net.mtu = tap_setup_mtu(name);
	if (!tap->bare)
		r = tap_setup_probe(name, fd, &tap->net.offloads, &tap->net.mtu, err);
	if (r < 0) {
		tap_destroy(&tap->net); /* holds no descriptor yet: `fd` stays the caller's */
		return r;
	}
	tap->fds[0] = fd;
	tap->net.queue_pairs = 1;
	*ret_net = &tap->net;
	return 0;
}

bool tap_describe(const struct net *net, struct tap_facts *ret_facts)
{
	const struct tap *tap = container_of(net, struct tap, net);

	if (net->ops != &tap_ops)
		return false;
	*ret_facts = (struct tap_facts){
		.queues = net->queue_pairs,
		.offloads = net->offloads,
		.mtu = net->mtu,
		.bare = tap->bare,
	};
	memcpy(ret_facts->fds, tap->fds, sizeof(tap->fds));
	return true;
}

int tap_adopt(const struct tap_facts *facts, struct net **ret_net)
{
	struct tap *tap;

	if (facts->queues < 1 || facts->queues > LIMIT_QUEUES || (facts->bare && facts->offloads))
		return -EINVAL;
	tap = tap_new();
	if (!tap)
		return -ENOMEM;
	memcpy(tap->fds, facts->fds, facts->queues * sizeof(int));
	tap->net.queue_pairs = facts->queues;
	tap->net.offloads = facts->offloads;
	tap->net.mtu = facts->mtu;
	tap->bare = facts->bare;
	tap->adopted = tap->asleep = true;
	*ret_net = &tap->net;
	return 0;
}

void tap_wake(struct net *net)
{
	__atomic_store_n(&container_of(net, struct tap, net)->asleep, false, __ATOMIC_RELEASE);
}

int tap_queue_fd(const struct net *net, unsigned int index)
{
	const struct tap *tap = container_of(net, struct tap, net);

	if (net->ops != &tap_ops || tap->bare || index >= net->queue_pairs)
		return -1;
	return tap->fds[index];
}
