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
 * it stops: its state is then exact. In between kicks go to the kernel (the doorbell's eventfd is its own),
 * and its calls come here by an eventfd and leave as MSI-X messages.
 */
struct net_vhost {
	struct virtio_net *vn;
	int fd;	    /* /dev/vhost-net, borrowed */
	int tap_fd; /* borrowed */
	uint64_t features;
	struct {
		struct loop_watch call;
		struct virtio_vq *vq;
		bool running;
	} rings[2];
};

/* What must also hold for the kernel; the others are between the driver and us. */
#define KERNEL_FEATURES                                                                            \
	(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | NET_F_MRG_RXBUF)

static void call_ready(struct net_vhost *vhost, unsigned int index)
{
	struct virtio_device *vdev = &vhost->vn->vdev;
	uint16_t vector = __atomic_load_n(&vdev->state->queues[index].msix_vector,
					  __ATOMIC_RELAXED);

	fd_clear_event(vhost->rings[index].call.fd);
	device_touch(&vdev->device);
	if (vector != VIRTIO_NO_VECTOR)
		pci_msix_notify(&vdev->pci, vector);
}

static void rx_call_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	call_ready(container_of(watch, struct net_vhost, rings[0].call), 0);
}

static void tx_call_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	call_ready(container_of(watch, struct net_vhost, rings[1].call), 1);
}

static int hand_over(struct net_vhost *vhost, struct virtio_vq *vq)
{
	struct virtio_queue *queue = &vq->queue;
	struct vhost_ring ring = {
		.index = vq->index,
		.size = queue->size,
		.next_avail = queue->state->next_avail,
		.desc = queue->desc,
		.avail = queue->avail,
		.used = queue->used,
		.kick = vq->kick.fd,
		.call = vhost->rings[vq->index].call.fd,
	};
	uint64_t features = vhost->vn->state.virtio.driver_features & KERNEL_FEATURES;
	bool first = !vhost->rings[!vq->index].running;
	int r = first ? vhost_prepare(vhost->fd, features, vq->vdev->memory) : 0;

	return r == 0 ? vhost_ring_start(vhost->fd, &ring, vhost->tap_fd) : r;
}

static int vhost_started(struct virtio_vq *vq)
{
	struct net_vhost *vhost = virtio_net_of(vq->vdev)->vhost;
	struct loop *loop = worker_loop(vq->worker);
	int r = 0;

	vhost->rings[vq->index].vq = vq;
	/* Chains in flight of a machine that worked without vhost cannot be given to the kernel. */
	if (vq->queue.state->n_inflight)
		return -EOPNOTSUPP;
	if (vq->index == 0)
		r = net_offloads_apply(vhost->vn);
	if (r == 0)
		r = loop_add(loop, &vhost->rings[vq->index].call);
	if (r == 0)
		r = hand_over(vhost, vq);
	if (r < 0)
		return r;
	vhost->rings[vq->index].running = true;
	loop_remove(loop, &vq->kick);
	return 0;
}

/* The kernel's positions into the state. The used index is what the kernel wrote to the ring. */
static void take_back(struct net_vhost *vhost, struct virtio_vq *vq)
{
	struct virtio_queue_state *state = vq->queue.state;
	uint16_t next_avail;

	/* Refused only for a descriptor that is none: then nothing runs either. */
	if (vhost_ring_stop(vhost->fd, vq->index, &next_avail) < 0)
		return;
	state->next_avail = next_avail;
	state->next_used = (uint16_t)le_load((char *)vq->queue.used + 2, 2);
	state->signalled_valid = 0;
	memory_mark_dirty(vq->vdev->memory, vq->queue.used_at, 4 + 8u * vq->queue.size + 2);
}

static void vhost_stopping(struct virtio_vq *vq)
{
	struct net_vhost *vhost = virtio_net_of(vq->vdev)->vhost;
	struct loop *loop = worker_loop(vq->worker);

	if (vhost->rings[vq->index].running) {
		take_back(vhost, vq);
		vhost->rings[vq->index].running = false;
		/* Was watched before this life, and there is room for one watch again. */
		if (loop_add(loop, &vq->kick) < 0)
			virtio_device_broken(vq->vdev);
	}
	loop_remove(loop, &vhost->rings[vq->index].call);
	virtio_queue_idle(vq);
}

const struct net_role net_vhost_role = {
	.started = vhost_started,
	.stopping = vhost_stopping,
};

static int make_rings(struct net_vhost *vhost)
{
	vhost->rings[0].call = (struct loop_watch){ fd_new_event(), EPOLLIN, rx_call_ready };
	vhost->rings[1].call = (struct loop_watch){ fd_new_event(), EPOLLIN, tx_call_ready };
	return MIN(0, MIN(vhost->rings[0].call.fd, vhost->rings[1].call.fd));
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
	r = make_rings(vhost);
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
	fd_close(vhost->rings[0].call.fd);
	fd_close(vhost->rings[1].call.fd);
	free(vhost);
}
