/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A tap device of the host as a net. Frames pass between guest buffers and the kernel by one readv or
 * writev each, with the kernel's virtio_net_hdr in front; a tap opened by others without that header
 * works too, without offloads.
 */

#include "net/net.h"

/* Opens the tap `name`, making it when it is not there (which needs CAP_NET_ADMIN), with `queues` queue
 * pairs. Errors name the option and the way out. Before the sandbox closes. */
_must_check_ int tap_open(const char *name, unsigned int queues, struct net **ret_net,
			  struct error *err);

/* Takes an open tap or macvtap descriptor: one queue pair. Ownership passes on success. */
_must_check_ int tap_from_fd(int fd, struct net **ret_net, struct error *err);

/* The descriptor of a queue, borrowed, for vhost; -1 when `net` is no tap with virtio headers. */
int tap_queue_fd(const struct net *net, unsigned int index);
