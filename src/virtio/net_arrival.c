/* SPDX-License-Identifier: Apache-2.0 */

/* After a move the switches learn from the host's side where the guest's address is, whatever its driver can: reverse ARP
 * frames out of the first pair, several, as the first ones may be lost while a port comes up. */

#include "base/fd.h"
#include "net/rarp.h"
#include "virtio/net_internal.h"

/* Between two of them, the first at once: six frames in a second and a quarter. */
static const uint64_t gaps[] = {
	50 * NSEC_PER_MSEC,  150 * NSEC_PER_MSEC, 250 * NSEC_PER_MSEC,
	350 * NSEC_PER_MSEC, 450 * NSEC_PER_MSEC,
};

/* A frame that finds no room, or no attachment, is lost like any other: another follows. */
static void send_one(struct net_pair *pair)
{
	uint8_t mac[6], frame[RARP_FRAME_SIZE];
	const struct iovec iov = { frame, sizeof(frame) };

	virtio_net_mac(&pair->vn->vdev.device, mac);
	rarp_make(mac, frame);
	(void)!net_send(pair->queue, &iov, 1);
}

static void next(struct net_pair *pair)
{
	struct loop *loop = worker_loop(pair->worker);
	const uint64_t now = clock_now(loop_clock(loop)); /* before somebody sees the frame */

	if (pair->gone)
		return;
	send_one(pair);
	if (pair->arrivals_sent < ARRAY_SIZE(gaps))
		loop_timer_arm(loop, &pair->arrival, now + gaps[pair->arrivals_sent]);
	pair->arrivals_sent++;
}

void net_arrival_due(struct loop_timer *timer)
{
	next(container_of(timer, struct net_pair, arrival));
}

void net_arrival_poked(struct net_pair *pair)
{
	if (!__atomic_exchange_n(&pair->arrived, false, __ATOMIC_ACQ_REL))
		return;
	pair->arrivals_sent = 0;
	next(pair);
}

/* On each worker in turn; one is this device's. */
static void tell_before(void *worker, void *arg)
{
	struct net_pair *pair = arg;

	if (pair->worker == worker && pair->queue && !pair->gone)
		send_one(pair);
}

void virtio_net_arriving(struct device *device, struct quiesce *held)
{
	struct virtio_net *vn = virtio_net_of(container_of(device, struct virtio_device, device));

	quiesce_run(held, QUIESCE_WORKER, tell_before, vn->pairs[0]);
}

void virtio_net_arrived(struct device *device)
{
	struct virtio_net *vn = virtio_net_of(container_of(device, struct virtio_device, device));

	__atomic_store_n(&vn->pairs[0]->arrived, true, __ATOMIC_RELEASE);
	fd_signal_event(vn->pairs[0]->poke.fd);
}
