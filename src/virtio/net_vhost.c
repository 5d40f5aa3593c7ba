/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "net/vhost.h"
#include "virtio/net_internal.h"

/*
 * The two data queues in the kernel's hands. A queue goes to the kernel when it starts and comes back when
 * it stops or the barrier is held: its state is then exact, and nobody writes guest memory. In between
 * kicks go to the kernel (the doorbell's eventfd is its own), and its calls come here by an eventfd and
 * leave as MSI-X messages.
 *
 * While somebody watches all requests (device.see_all) frames go through us instead: the queue changes hands where the
 * barrier has it back anyway.
 */
struct vhost_queue {
	struct net_vhost *vhost;
	unsigned int index;
	struct virtio_vq *vq; /* while attached */
	struct loop_watch call;
	struct worker_pause pause;
	bool running;		    /* the kernel works on it */
	bool paused;		    /* it does again after the barrier */
	const struct net_role *own; /* we do; NULL: the kernel */
};

struct net_vhost {
	struct virtio_net *vn;
	int fd;	    /* /dev/vhost-net, borrowed */
	int tap_fd; /* borrowed */
	uint64_t features;
	struct vhost_queue queues[2];
};

/* What must also hold for the kernel; the others are between the driver and us. */
#define KERNEL_FEATURES                                                                            \
	(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | NET_F_MRG_RXBUF)

static void call_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	struct vhost_queue *q = container_of(watch, struct vhost_queue, call);
	struct virtio_device *vdev = &q->vhost->vn->vdev;
	uint16_t vector = __atomic_load_n(&vdev->state->queues[q->index].msix_vector,
					  __ATOMIC_RELAXED);

	fd_clear_event(watch->fd);
	device_touch(&vdev->device);
	if (vector != VIRTIO_NO_VECTOR)
		pci_msix_notify(&vdev->pci, vector);
}

static int hand_over(struct vhost_queue *q)
{
	struct net_vhost *vhost = q->vhost;
	struct virtio_queue *queue = &q->vq->queue;
	struct vhost_ring ring = {
		.index = q->index,
		.size = queue->size,
		.next_avail = queue->state->next_avail,
		.desc = queue->desc,
		.avail = queue->avail,
		.used = queue->used,
		.kick = q->vq->kick.fd,
		.call = q->call.fd,
	};
	uint64_t features = vhost->vn->state.virtio.driver_features & KERNEL_FEATURES;
	bool first = !vhost->queues[!q->index].running;
	int r = first ? vhost_prepare(vhost->fd, features, vhost->vn->vdev.memory) : 0;

	if (r == 0)
		r = vhost_ring_start(vhost->fd, &ring, vhost->tap_fd);
	q->running = r == 0;
	return r;
}

/* The kernel's positions into the state. The used index is what the kernel wrote to the ring. */
static void take_back(struct vhost_queue *q)
{
	struct virtio_queue_state *state = q->vq->queue.state;
	uint16_t next_avail;

	if (!q->running)
		return;
	q->running = false;
	/* Refused only for a descriptor that is none: then nothing runs either. */
	if (vhost_ring_stop(q->vhost->fd, q->index, &next_avail) < 0)
		return;
	state->next_avail = next_avail;
	state->next_used = (uint16_t)le_load((char *)q->vq->queue.used + 2, 2);
	state->signalled_valid = 0;
	memory_mark_dirty(q->vhost->vn->vdev.memory, q->vq->queue.used_at,
			  4 + 8u * q->vq->queue.size + 2);
}

static void vhost_park(struct worker_pause *pause)
{
	struct vhost_queue *q = container_of(pause, struct vhost_queue, pause);

	q->paused = q->running;
	take_back(q);
}

static struct net_pair *pair_of(const struct vhost_queue *q)
{
	return q->vhost->vn->pairs[0];
}

/* From the kernel's hands into ours: kicks come here. */
static int work_ourselves(struct vhost_queue *q)
{
	struct loop *loop = worker_loop(q->vq->worker);
	int r;

	loop_remove(loop, &q->call);
	r = loop_add(loop, &q->vq->kick);
	q->own = q->index ? &net_tx_role : &net_rx_role;
	return r < 0 ? r : q->own->started(q->vq);
}

/* And back. */
static int let_kernel_work(struct vhost_queue *q)
{
	struct loop *loop = worker_loop(q->vq->worker);
	int r;

	if (q->index)
		net_tx_leave(pair_of(q));
	else
		net_rx_leave(pair_of(q));
	q->own = NULL;
	loop_remove(loop, &q->vq->kick);
	r = loop_add(loop, &q->call);
	return r < 0 ? r : hand_over(q);
}

/* A state that was loaded meanwhile has stopped the queue; its new life begins by itself. */
static void vhost_unpark(struct worker_pause *pause)
{
	struct vhost_queue *q = container_of(pause, struct vhost_queue, pause);
	const bool see_all = q->vhost->vn->vdev.device.see_all;
	int r = 0;

	if (!q->vq->queue.started || (!q->paused && !q->own))
		return;
	if (q->own && !see_all)
		r = let_kernel_work(q);
	else if (!q->own)
		r = see_all ? work_ourselves(q) : hand_over(q);
	if (r < 0)
		virtio_device_broken(&q->vhost->vn->vdev);
	else
		virtio_queue_again(q->vq); /* kicks that came while nobody listened */
}

static void vhost_kicked(struct virtio_vq *vq)
{
	struct vhost_queue *q = &virtio_net_of(vq->vdev)->vhost->queues[vq->index];

	if (q->own)
		q->own->kicked(vq);
}

static int vhost_started(struct virtio_vq *vq)
{
	struct vhost_queue *q = &virtio_net_of(vq->vdev)->vhost->queues[vq->index];
	struct loop *loop = worker_loop(vq->worker);
	int r = 0;

	q->vq = vq;
	q->paused = false;
	q->own = NULL;
	loop_remove(loop, &vq->kick);
	worker_add_pause(vq->worker, &q->pause);
	/* Chains in flight of a machine that worked without vhost cannot be given to the kernel. */
	if (vq->queue.state->n_inflight)
		return -EOPNOTSUPP;
	if (vq->index == 0)
		r = net_offloads_apply(q->vhost->vn);
	if (r == 0)
		r = loop_add(loop, &q->call);
	if (r < 0)
		return r;
	return q->vhost->vn->vdev.device.see_all ? work_ourselves(q) : hand_over(q);
}

static void vhost_stopping(struct virtio_vq *vq)
{
	struct vhost_queue *q = &virtio_net_of(vq->vdev)->vhost->queues[vq->index];
	struct loop *loop = worker_loop(vq->worker);

	worker_remove_pause(&q->pause);
	if (q->own) {
		q->own->stopping(vq);
		q->own = NULL;
		return;
	}
	take_back(q);
	loop_remove(loop, &q->call);
	/* It was watched before this life: there is room for it. */
	if (loop_add(loop, &vq->kick) < 0)
		virtio_device_broken(vq->vdev);
	virtio_queue_idle(vq);
}

const struct net_role net_vhost_role = {
	.started = vhost_started,
	.kicked = vhost_kicked,
	.stopping = vhost_stopping,
};

static int make_queues(struct net_vhost *vhost)
{
	int r = 0;

	for (unsigned int i = 0; i < 2; i++) {
		struct vhost_queue *q = &vhost->queues[i];

		q->vhost = vhost;
		q->index = i;
		q->call = (struct loop_watch){ fd_new_event(), EPOLLIN, call_ready };
		q->pause = (struct worker_pause){ .park = vhost_park, .unpark = vhost_unpark };
		list_init(&q->pause.link);
		r = MIN(r, q->call.fd);
	}
	return r;
}

int net_vhost_new(struct virtio_net *vn, int vhost_fd, int tap_fd, struct net_vhost **ret_vhost,
		  struct error *err)
{
	struct net_vhost *vhost;
	int r;

	if (vn->n_pairs != 1)
		return error_set(err, -EOPNOTSUPP, EXIT_STATUS_USAGE,
				 "net vhost=on: one queue pair only: use queues=1, or vhost=off");
	if (tap_fd < 0)
		return error_set(err, -EOPNOTSUPP, EXIT_STATUS_USAGE,
				 "net vhost=on: needs a tap with virtio headers: use tap=NAME, or "
				 "vhost=off");
	vhost = calloc(1, sizeof(*vhost));
	if (!vhost)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "net vhost=on: out of memory");
	vhost->vn = vn;
	vhost->fd = vhost_fd;
	vhost->tap_fd = tap_fd;
	r = make_queues(vhost);
	if (r == 0)
		r = vhost_own(vhost_fd, &vhost->features);
	if (r < 0) {
		net_vhost_free(vhost);
		return error_set(err, r, EXIT_STATUS_HOST, "net vhost=on: the kernel refuses: %s",
				 strerror(-r));
	}
	*ret_vhost = vhost;
	return 0;
}

uint64_t net_vhost_features(const struct net_vhost *vhost, uint64_t offered)
{
	return offered & ~(KERNEL_FEATURES & ~vhost->features);
}

void net_vhost_free(struct net_vhost *vhost)
{
	if (!vhost)
		return;
	fd_close(vhost->queues[0].call.fd);
	fd_close(vhost->queues[1].call.fd);
	free(vhost);
}
