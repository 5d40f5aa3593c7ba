/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The packet interface. A `net` is a network attachment as a device sees it; a back end (tap, passt's
 * socket) talks to the host, a filter stands on another net and looks the same. Every frame carries a
 * virtio_net_hdr in front (NET_HEADER_SIZE bytes, virtio 1.2, 5.1.6), whatever the back end.
 * Each queue pair is used by one thread.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/loop.h"
#include "base/macros.h"

#define NET_HEADER_SIZE 12	   /* struct virtio_net_hdr_v1 */
#define NET_FRAME_MAX (65536 + 64) /* bytes of the largest (TSO) frame with header */

/* Offloads that the guest accepts on received frames. */
#define NET_OFFLOAD_CSUM 0x01
#define NET_OFFLOAD_TSO4 0x02
#define NET_OFFLOAD_TSO6 0x04
#define NET_OFFLOAD_ECN 0x08
#define NET_OFFLOAD_UFO 0x10

struct net;
struct net_queue;

/* Called on the queue's thread, never from inside one of its functions. */
struct net_events {
	/* net_receive may give a frame: receive until it gives 0, or come back by yourself. Frames that a back end
	 * holds already are not announced again. */
	void (*readable)(void *ctx);
	void (*writable)(void *ctx);	    /* net_send after -EAGAIN may succeed now */
	void (*gone)(void *ctx, int error); /* the attachment vanished (tap deleted, passt ended) */
	void *ctx;
};

struct net_ops {
	int (*queue_open)(struct net *net, unsigned int index, struct loop *loop,
			  const struct net_events *events, struct net_queue **ret_queue);
	/* Which offloads received frames may carry from now on; -EOPNOTSUPP for what the back end lacks.
	 * Any queue's thread. */
	int (*set_offloads)(struct net *net, uint32_t offloads);
	void (*destroy)(struct net *net);
};

struct net {
	const struct net_ops *ops;
	unsigned int queue_pairs; /* 1..LIMIT_QUEUES */
	uint32_t offloads;	  /* that the back end can do, both ways; 0: none */
	unsigned int mtu;	  /* bytes, 0: unknown */
};

struct net_queue_ops {
	/* Sends one frame (header first). 0, -EAGAIN (wait for `writable`), or an error: the frame is lost,
	 * as on a wire. Buffers are free again on return. */
	int (*send)(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov);
	/* Receives one frame into the buffers: its length, 0 when there is none, or a negative errno: the
	 * attachment has vanished. A frame longer than the buffers is cut, its true length is not told: give NET_FRAME_MAX to be sure. */
	ssize_t (*receive)(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov);
	/* Asks for `readable` events, or not (the guest has no buffers). A queue begins without. */
	void (*want_readable)(struct net_queue *queue, bool want);
	/* Multi-queue: a queue out of use is given no frames; those it holds are lost. A queue begins in use. */
	int (*set_active)(struct net_queue *queue, bool active);
	void (*close)(struct net_queue *queue);
};

struct net_queue {
	const struct net_queue_ops *ops;
	struct net *net;
};

static inline int net_queue_open(struct net *net, unsigned int index, struct loop *loop,
				 const struct net_events *events, struct net_queue **ret_queue)
{
	return net->ops->queue_open(net, index, loop, events, ret_queue);
}

static inline int net_send(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov)
{
	return queue->ops->send(queue, iov, n_iov);
}

static inline ssize_t net_receive(struct net_queue *queue, const struct iovec *iov,
				  unsigned int n_iov)
{
	return queue->ops->receive(queue, iov, n_iov);
}

static inline void net_want_readable(struct net_queue *queue, bool want)
{
	queue->ops->want_readable(queue, want);
}

static inline int net_queue_set_active(struct net_queue *queue, bool active)
{
	return queue->ops->set_active(queue, active);
}

static inline void net_queue_close(struct net_queue *queue)
{
	if (queue)
		queue->ops->close(queue);
}

/* All queues are closed before. A filter frees what it stands on. */
static inline void net_free(struct net *net)
{
	if (net)
		net->ops->destroy(net);
}
