/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How a tap descriptor is made ready: the ioctls of /dev/net/tun and what their errors mean. */

#include <net/if.h>
#include <stdint.h>

#include "base/error.h"

#define TAP_NAME_SIZE IFNAMSIZ

/* Opens `queues` descriptors on the tap `name` into `fds`, non-blocking, close-on-exec. What was opened
 * before a failure is in `fds` too. */
_must_check_ int tap_setup_named(const char *name, unsigned int queues, int *fds,
				 struct error *err);

/* Judges an inherited descriptor, makes it non-blocking and tells the interface's name: 0, TAP_BARE when
 * it carries no virtio_net_hdr, or a negative errno. */
#define TAP_BARE 1
_must_check_ int tap_setup_inherited(int fd, char name[TAP_NAME_SIZE], struct error *err);

/* Sets the header's size and finds out the offloads (switched off on return) and the MTU. */
_must_check_ int tap_setup_probe(const char *name, int fd, uint32_t *ret_offloads,
				 unsigned int *ret_mtu, struct error *err);
/* 0 when it is unknown: a descriptor may come from another network namespace. */
unsigned int tap_setup_mtu(const char *name);

/* NET_OFFLOAD_... that received frames may carry. */
_must_check_ int tap_setup_offloads(int fd, uint32_t offloads);
