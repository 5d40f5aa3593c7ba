/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>

#include "bus/request.h"
#include "net/iov.h"
#include "virtio/net_internal.h"

/* Work of one turn, so that the barrier and the other direction need not wait long. */
#define TX_FRAMES_PER_TURN 64
#define TX_BYTES_PER_TURN (512 * 1024)

static const struct {
	uint8_t type;
	uint64_t feature;
} gso_types[] = {
	{ GSO_TCPV4, NET_F_HOST_TSO4 },
	{ GSO_TCPV6, NET_F_HOST_TSO6 },
	{ GSO_UDP, NET_F_HOST_UFO },
};

static bool may_segment(const struct net_header *header, uint64_t features)
{
	uint8_t type = header->gso_type & (uint8_t)~GSO_ECN;

	if ((header->gso_type & GSO_ECN) && !(features & NET_F_HOST_ECN))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(gso_types); i++)
		if (gso_types[i].type == type)
			return features & gso_types[i].feature;
	return false;
}

int net_header_check(struct net_header *header, size_t len, uint64_t features)
{
	header->num_buffers = le16_make(0);
	header->flags &= HEADER_NEEDS_CSUM;
	if (!net_header_is_right(header, len))
		return -EINVAL;
	if (!header->flags) {
		*header = (struct net_header){ 0 };
		return 0;
	}
	if (!(features & NET_F_CSUM))
		return -EINVAL;
	/* A hint that may be wrong (virtio 1.2, 5.1.6.2.2); the kernel refuses what lies behind the frame. */
	header->hdr_len = le16_make((uint16_t)MIN((size_t)le16_get(header->hdr_len), len));
	if (header->gso_type != GSO_NONE)
		return may_segment(header, features) ? 0 : -EINVAL;
	header->gso_size = le16_make(0);
	return 0;
}

/* Sends one frame of the guest: 0 when it is done with (sent or lost), -EAGAIN, or -EPROTO when the chain
 * is none that the device can serve. */
static int send_chain(struct net_pair *pair, const struct virtio_chain *chain)
{
	uint64_t features = pair->vn->state.virtio.driver_features;
	struct iovec iov[VIRTIO_CHAIN_MAX + 1];
	struct net_header header;
	unsigned int n;

	if (net_iov_read(chain->iov, chain->n_out, 0, &header, sizeof(header)) < sizeof(header))
		return -EPROTO;
	if (chain->out_len > NET_FRAME_MAX || chain->out_len < sizeof(header) + NET_ETHERNET_HEADER)
		return 0;
	if (net_header_check(&header, chain->out_len - sizeof(header), features) < 0)
		return 0;
	if (!pair->active || pair->gone)
		return 0;
	/* The judged copy of the header goes out, not what the guest may have written over it. */
	iov[0] = (struct iovec){ &header, sizeof(header) };
	n = 1 + net_iov_skip(chain->iov, chain->n_out, sizeof(header), iov + 1);
	return net_send(pair->queue, iov, n) == -EAGAIN ? -EAGAIN : 0;
}

/* As those see it who watch. */
static struct device_request frame_shown(const struct net_pair *pair,
					 const struct virtio_chain *chain, uint64_t begin)
{
	return (struct device_request){
		.device = &pair->vn->vdev.device,
		.kind = REQUEST_NET,
		.operation = REQUEST_WRITE,
		.queue = (uint16_t)pair->tx_vq->index,
		.worker = pair->worker,
		.begin = begin,
		.len = chain->out_len > NET_HEADER_SIZE ? chain->out_len - NET_HEADER_SIZE : 0,
		.iov = chain->iov,
		.n_iov = chain->n_out,
		.skip = NET_HEADER_SIZE,
	};
}

/* Sends a frame under the eyes of who watches: they may drop it. */
static int send_watched(struct net_pair *pair, const struct virtio_chain *chain, uint64_t begin)
{
	struct device_request shown = frame_shown(pair, chain, begin);
	int r = 0;

	shown.status = request_arrived(&shown);
	if (shown.status == 0)
		r = send_chain(pair, chain);
	if (r == 0)
		request_answered(&shown);
	return r;
}

/* Sends until nothing is left (0), the net is full (-EAGAIN), the turn is over (1) or the driver errs. */
static int send_some(struct net_pair *pair, struct virtio_queue *queue, unsigned int *ret_sent)
{
	struct virtio_chain *chain = &pair->chain;
	uint64_t bytes = 0;

	while (*ret_sent < TX_FRAMES_PER_TURN && bytes < TX_BYTES_PER_TURN) {
		int r = virtio_queue_pop(queue, chain);
		uint64_t begin = request_begin(&pair->vn->vdev.device);

		if (r <= 0)
			return r;
		r = begin ? send_watched(pair, chain, begin) : send_chain(pair, chain);
		if (r == -EAGAIN)
			virtio_queue_unpop(queue, chain);
		if (r < 0)
			return r;
		virtio_queue_push(queue, chain, 0);
		bytes += chain->out_len;
		++*ret_sent;
	}
	return 1;
}

void net_tx_run(struct net_pair *pair)
{
	struct virtio_vq *vq = pair->tx_vq;
	unsigned int sent = 0;
	int r;

	if (!vq || pair->tx_blocked)
		return;
	virtio_queue_disable_kicks(&vq->queue);
	r = send_some(pair, &vq->queue, &sent);
	if (sent)
		virtio_queue_signal(vq);
	/* After frames more will come soon: one more look, before the driver has to leave its guest for a kick. */
	if (r == 1 || (r == 0 && (sent || virtio_queue_enable_kicks(&vq->queue))))
		virtio_queue_again(vq);
	else if (r == -EAGAIN)
		pair->tx_blocked = true;
	else if (r < 0)
		virtio_device_broken(&pair->vn->vdev);
}

/* Frames that were on their way when the state was saved: sent again (or twice; a wire may do so). */
static int tx_started(struct virtio_vq *vq)
{
	struct net_pair *pair = vq->owner;

	while (vq->queue.state->n_inflight) {
		int r = virtio_queue_refetch(&vq->queue, 0, &pair->chain);

		if (r == 0)
			r = send_chain(pair, &pair->chain);
		if (r == -EPROTO)
			return r;
		virtio_queue_push(&vq->queue, &pair->chain, 0);
	}
	pair->tx_vq = vq;
	return 0;
}

static void tx_kicked(struct virtio_vq *vq)
{
	net_tx_run(vq->owner);
}

void net_tx_leave(struct net_pair *pair)
{
	pair->tx_vq = NULL;
	pair->tx_blocked = false;
}

static void tx_stopping(struct virtio_vq *vq)
{
	net_tx_leave(vq->owner);
	virtio_queue_idle(vq);
}

const struct net_role net_tx_role = {
	.started = tx_started,
	.kicked = tx_kicked,
	.stopping = tx_stopping,
};
