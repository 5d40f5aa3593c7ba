/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "bus/request.h"
#include "net/iov.h"
#include "virtio/net_internal.h"

/* Work of one turn, and how much of it between two looks at whether the driver wants an interrupt. */
#define RX_FRAMES_PER_TURN 64
#define RX_BYTES_PER_TURN (512 * 1024)
#define RX_FRAMES_PER_SIGNAL 16

#define FRAME_USUAL (NET_HEADER_SIZE + 18 + 1500) /* Ethernet with a VLAN tag */

static bool has(const struct net_pair *pair, uint64_t feature)
{
	return virtio_has_feature(&pair->vn->vdev, feature);
}

static struct iovec *staged(struct net_rx *rx)
{
	return rx->iov + rx->first;
}

/* ---- chains that wait for frames ---- */

static void compact(struct net_rx *rx)
{
	memmove(rx->iov, rx->iov + rx->first, rx->n * sizeof(rx->iov[0]));
	memmove(rx->at, rx->at + rx->first, rx->n * sizeof(rx->at[0]));
	rx->first = 0;
}

static bool has_room(struct net_rx *rx)
{
	if (rx->n_chains == RX_CHAINS || rx->n > RX_BUFFERS - VIRTIO_CHAIN_MAX ||
	    rx->n + VIRTIO_CHAIN_MAX + 1 > NET_IOV_MAX)
		return false;
	if (rx->first + rx->n > RX_BUFFERS - VIRTIO_CHAIN_MAX)
		compact(rx);
	return true;
}

/* -EPROTO: a receive buffer is written only, and holds a header at least (virtio 1.2, 5.1.6.3.1). */
static int stage(struct net_rx *rx, const struct virtio_chain *chain)
{
	if (chain->n_out || chain->in_len < NET_HEADER_SIZE)
		return -EPROTO;
	memcpy(staged(rx) + rx->n, chain->iov, chain->n_in * sizeof(rx->iov[0]));
	memcpy(rx->at + rx->first + rx->n, chain->at, chain->n_in * sizeof(rx->at[0]));
	rx->n += chain->n_in;
	/* A frame fits in far less; the clamp keeps sums of untrusted lengths small. */
	rx->chains[rx->n_chains].head = chain->head;
	rx->chains[rx->n_chains].n = (uint16_t)chain->n_in;
	rx->chains[rx->n_chains].len = (uint32_t)MIN(chain->in_len, (uint64_t)UINT32_MAX);
	rx->bytes += rx->chains[rx->n_chains].len;
	rx->n_chains++;
	return 0;
}

/* How many bytes the next frame may need: without segments, no more than the wire carries. */
static size_t bytes_wanted(const struct net_pair *pair)
{
	const struct net *net = pair->vn->net;
	uint64_t segments = NET_F_GUEST_TSO4 | NET_F_GUEST_TSO6 | NET_F_GUEST_UFO;

	if (!has(pair, NET_F_MRG_RXBUF))
		return 1; /* one chain, whatever it holds */
	if (pair->rx.held)
		return pair->rx.held;
	if (__atomic_load_n(&pair->vn->state.guest_offloads, __ATOMIC_RELAXED) & segments)
		return NET_FRAME_MAX;
	return FRAME_USUAL + (net->mtu > 1500 ? net->mtu - 1500 : 0);
}

/* Takes chains until the next frame surely fits, or there are no more. */
static int stage_some(struct net_pair *pair, struct virtio_queue *queue)
{
	struct net_rx *rx = &pair->rx;
	size_t wanted = bytes_wanted(pair);

	while (rx->bytes < wanted && has_room(rx)) {
		int r = virtio_queue_pop(queue, &pair->chain);

		if (r == 1)
			r = stage(rx, &pair->chain);
		else if (r == 0)
			return 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* The first chain leaves for the used ring with `written` bytes, unpublished. */
static void place_first(struct net_pair *pair, struct virtio_queue *queue, size_t written)
{
	struct virtio_chain *chain = &pair->chain;
	struct net_rx *rx = &pair->rx;
	unsigned int n = rx->chains[0].n;

	chain->head = rx->chains[0].head;
	chain->n_out = 0;
	chain->out_len = 0;
	chain->n_in = n;
	chain->in_len = rx->chains[0].len;
	memcpy(chain->iov, staged(rx), n * sizeof(chain->iov[0]));
	memcpy(chain->at, rx->at + rx->first, n * sizeof(chain->at[0]));
	virtio_queue_place(queue, chain, (uint32_t)written);
	rx->first += n;
	rx->n -= n;
	rx->bytes -= rx->chains[0].len;
	rx->n_chains--;
	memmove(rx->chains, rx->chains + 1, rx->n_chains * sizeof(rx->chains[0]));
}

/* ---- frames ---- */

/* A frame that the driver did not agree to (it waited in the net since another driver's days) is lost. */
static bool is_welcome(const struct net_pair *pair, const struct net_header *header)
{
	static const struct {
		uint8_t type;
		uint64_t feature;
	} types[] = {
		{ GSO_TCPV4, NET_F_GUEST_TSO4 },
		{ GSO_TCPV6, NET_F_GUEST_TSO6 },
		{ GSO_UDP, NET_F_GUEST_UFO },
	};
	uint8_t type = header->gso_type & (uint8_t)~GSO_ECN;

	if ((header->flags & HEADER_NEEDS_CSUM) && !has(pair, NET_F_GUEST_CSUM))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i].type == type)
			return has(pair, types[i].feature);
	return type == GSO_NONE;
}

/* How many of the first chains a frame of `len` bytes takes. */
static unsigned int chains_for(const struct net_rx *rx, size_t len)
{
	size_t room = 0;
	unsigned int n = 0;

	while (room < len)
		room += rx->chains[n++].len;
	return n;
}

/* Shows a received frame to who watches: false when they drop it. */
static bool show_frame(const struct net_pair *pair, const struct iovec *iov, unsigned int n_iov,
		       size_t len)
{
	struct device_request shown = {
		.device = &pair->vn->vdev.device,
		.kind = REQUEST_NET,
		.operation = REQUEST_READ,
		.queue = (uint16_t)pair->rx_vq->index,
		.worker = pair->worker,
		.begin = pair->rx.begin,
		.len = len - NET_HEADER_SIZE,
		.iov = iov,
		.n_iov = n_iov,
		.skip = NET_HEADER_SIZE,
	};

	shown.status = request_arrived(&shown);
	request_answered(&shown);
	return shown.status == 0;
}

/* Completes the header in the guest's buffer and gives the frame to the driver. */
static void deliver(struct net_pair *pair, struct virtio_queue *queue, size_t len)
{
	struct net_rx *rx = &pair->rx;
	unsigned int n = chains_for(rx, len);
	struct net_header header = { 0 };
	size_t left = len;

	net_iov_read(staged(rx), rx->n, 0, &header, sizeof(header));
	if (!is_welcome(pair, &header))
		return;
	if (!has(pair, NET_F_GUEST_CSUM))
		header = (struct net_header){ 0 };
	header.num_buffers = le16_make((uint16_t)n);
	net_iov_write(staged(rx), rx->n, 0, &header, sizeof(header));
	if (rx->begin && !show_frame(pair, staged(rx), rx->n, len))
		return;
	while (n--) {
		size_t part = MIN(left, (size_t)rx->chains[0].len);

		place_first(pair, queue, part);
		left -= part;
	}
	virtio_queue_publish(queue);
}

/* Gets one frame into the staged buffers, what is too much into `spill`: its length, 0 or negative. */
static ssize_t receive(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	ssize_t n;

	if (rx->held)
		return (ssize_t)rx->held;
	staged(rx)[rx->n] = (struct iovec){ rx->spill, sizeof(rx->spill) };
	n = net_receive(pair->queue, staged(rx), rx->n + 1);
	if (n > (ssize_t)rx->bytes) {
		rx->held = (size_t)n;
		rx->held_direct = rx->bytes;
	}
	return n;
}

/*
 * A frame that is longer than the staged buffers: 1 once it fits (after more buffers came), 0 while it
 * waits for them, -EMSGSIZE when it can never fit and is lost.
 */
static int settle_held(struct net_pair *pair)
{
	struct net_rx *rx = &pair->rx;
	bool may_grow = has(pair, NET_F_MRG_RXBUF) && has_room(rx);

	if (rx->bytes < rx->held) {
		if (may_grow)
			return 0;
		rx->held = 0;
		return -EMSGSIZE;
	}
	net_iov_write(staged(rx), rx->n, rx->held_direct, rx->spill, rx->held - rx->held_direct);
	rx->held = 0;
	return 1;
}

enum step {
	STEP_FRAME,   /* a frame was handled */
	STEP_NONE,    /* the net has none now */
	STEP_STARVED, /* the driver's buffers are used up */
	STEP_GONE,
	STEP_BROKEN,
};

static enum step receive_one(struct net_pair *pair, struct virtio_queue *queue, size_t *ret_bytes)
{
	struct net_rx *rx = &pair->rx;
	ssize_t n;

	if (stage_some(pair, queue) < 0)
		return STEP_BROKEN;
	if (!rx->n_chains)
		return STEP_STARVED;
	rx->begin = request_begin(&pair->vn->vdev.device);
	n = receive(pair);
	if (n <= 0)
		return n == 0 ? STEP_NONE : STEP_GONE;
	*ret_bytes += (size_t)n;
	if (rx->held) {
		int r = stage_some(pair, queue);

		if (r == 0)
			r = settle_held(pair);
		if (r == -EMSGSIZE)
			return STEP_FRAME;
		if (r <= 0)
			return r == 0 ? STEP_STARVED : STEP_BROKEN;
	}
	if (n >= NET_HEADER_SIZE)
		deliver(pair, queue, (size_t)n);
	return STEP_FRAME;
}

/* Frames until one of the ends above, or STEP_FRAME when the turn is over. */
static enum step receive_some(struct net_pair *pair, struct virtio_vq *vq)
{
	unsigned int frames = 0;
	size_t bytes = 0;

	while (frames < RX_FRAMES_PER_TURN && bytes < RX_BYTES_PER_TURN) {
		enum step step = receive_one(pair, &vq->queue, &bytes);

		if (step == STEP_STARVED && virtio_queue_enable_kicks(&vq->queue)) {
			virtio_queue_disable_kicks(&vq->queue);
			frames++; /* buffers came meanwhile: a turn has an end even so */
			continue;
		}
		if (step != STEP_FRAME)
			return step;
		if (++frames % RX_FRAMES_PER_SIGNAL == 0)
			virtio_queue_signal(vq);
	}
	return STEP_FRAME;
}

void net_rx_run(struct net_pair *pair)
{
	struct virtio_vq *vq = pair->rx_vq;
	enum step step;

	if (!vq || !pair->active || pair->gone)
		return;
	virtio_queue_disable_kicks(&vq->queue);
	step = receive_some(pair, vq);
	virtio_queue_signal(vq);
	/* Without buffers frames stay in the net, whose own queue then fills up and loses some. */
	net_want_readable(pair->queue, step == STEP_NONE || step == STEP_FRAME);
	if (step == STEP_FRAME)
		virtio_queue_again(vq);
	else if (step == STEP_GONE)
		net_pair_gone(pair);
	else if (step == STEP_BROKEN)
		virtio_device_broken(&pair->vn->vdev);
}

/* ---- the queue's life ---- */

static void forget_staged(struct net_rx *rx)
{
	rx->n_chains = rx->first = rx->n = 0;
	rx->bytes = 0;
	rx->held = rx->held_direct = 0;
}

/* Chains that waited for frames when the state was saved wait again. */
static int rx_started(struct virtio_vq *vq)
{
	struct net_pair *pair = vq->owner;
	int r = pair->index == 0 ? net_offloads_apply(pair->vn) : 0;

	forget_staged(&pair->rx);
	for (uint32_t i = 0; r == 0 && i < vq->queue.state->n_inflight; i++) {
		if (!has_room(&pair->rx))
			return -EPROTO;
		r = virtio_queue_refetch(&vq->queue, i, &pair->chain);
		if (r == 0)
			r = stage(&pair->rx, &pair->chain);
	}
	if (r < 0)
		return r;
	pair->rx_vq = vq;
	net_pair_apply(pair);
	return 0;
}

static void rx_kicked(struct virtio_vq *vq)
{
	net_rx_run(vq->owner);
}

static void stop_receiving(struct net_pair *pair)
{
	pair->rx_vq = NULL;
	forget_staged(&pair->rx);
	net_want_readable(pair->queue, false);
}

static void rx_stopping(struct virtio_vq *vq)
{
	stop_receiving(vq->owner);
	net_pair_apply(vq->owner);
	virtio_queue_idle(vq);
}

void net_rx_leave(struct net_pair *pair)
{
	virtio_queue_unpop_all(&pair->rx_vq->queue);
	stop_receiving(pair);
}

const struct net_role net_rx_role = {
	.started = rx_started,
	.kicked = rx_kicked,
	.stopping = rx_stopping,
};
