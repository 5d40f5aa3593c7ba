/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The virtio network device (virtio 1.2, 5.1): one worker per queue pair, checksum and TSO offloads. */

#include "net/net.h"
#include "virtio/virtio.h"

struct virtio_net_params {
	unsigned int index; /* names the device "virtio-net.<index>" */
	struct net *net;    /* ownership passes on success */
	uint8_t mac[6];
	int vhost_fd; /* /dev/vhost-net, ownership passes on success; -1: packets go through us */
	int tap_fd;   /* with vhost: the tap behind it, borrowed from `net` (tap_queue_fd) */
};

_must_check_ int virtio_net_new(const struct virtio_host *host,
				const struct virtio_net_params *params, struct device **ret_device,
				struct error *err);

/* Asks the guest to announce its addresses (after a move). -EOPNOTSUPP when its driver cannot, or does not
 * work yet: what is known then is told by virtio_net_arrived. device.lock not held. */
_must_check_ int virtio_net_announce(struct device *device);

/* Tells the switches that the MAC address is about to be here: one reverse ARP frame. What is sent to the guest from then on waits in
 * its attachment until it runs, and is not lost. Control thread, which holds the barrier `held`; after the device was started. */
void virtio_net_arriving(struct device *device, struct quiesce *held);

/* Tells the switches, from the host's side, that the MAC address is here now: reverse ARP frames over about a second. After
 * the device was started; any thread, returns at once. */
void virtio_net_arrived(struct device *device);

/* The address that this VM was made with, instead of a loaded one's. Before the guest runs; device.lock not held. */
void virtio_net_own_mac(struct device *device);

/* The MAC address that the guest uses now. device.lock not held. */
void virtio_net_mac(struct device *device, uint8_t ret_mac[6]);
