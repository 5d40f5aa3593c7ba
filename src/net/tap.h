/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A tap device of the host as a net. Frames pass between guest buffers and the kernel by one readv or
 * writev each, with the kernel's virtio_net_hdr in front; a tap opened by others without that header
 * works too, without offloads.
 */

#include "base/limits.h"
#include "net/net.h"

/* Opens the tap `name`, making it when it is not there (which needs CAP_NET_ADMIN), with `queues` queue
 * pairs. Errors name the option and the way out. Before the sandbox closes. */
_must_check_ int tap_open(const char *name, unsigned int queues, struct net **ret_net,
			  struct error *err);

/* Takes an open tap or macvtap descriptor: one queue pair. Ownership passes on success. */
_must_check_ int tap_from_fd(int fd, struct net **ret_net, struct error *err);

/* An open tap of another process, as its own process knows it. */
struct tap_facts {
	int fds[LIMIT_QUEUES]; /* one for each queue pair */
	unsigned int queues;
	uint32_t offloads; /* that it can do */
	unsigned int mtu;
	bool bare; /* without virtio headers */
};
/* Of this process's: descriptors are borrowed. False: `net` is no tap. */
bool tap_describe(const struct net *net, struct tap_facts *ret_facts);
/* Takes over the open files of a tap that another process still uses: until tap_wake nothing of it is changed, whatever the device
 * asks for. Ownership of the descriptors passes on success. */
_must_check_ int tap_adopt(const struct tap_facts *facts, struct net **ret_net);
/* From now on it is this process's alone. Any thread, while no queue is used. */
void tap_wake(struct net *net);

/* The descriptor of a queue, borrowed, for vhost; -1 when `net` is no tap with virtio headers. */
int tap_queue_fd(const struct net *net, unsigned int index);
