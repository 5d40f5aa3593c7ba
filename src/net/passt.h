/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * User-mode networking by passt(1), an unprivileged process of its own that speaks over a stream socket:
 * each frame is preceded by its length, 4 bytes, big-endian, without a virtio_net_hdr. passt is an
 * untrusted peer: a length that no frame has ends the attachment.
 *
 *   passt_start (before the sandbox) -> connected socket -> passt_net_new
 *
 * passt ends by itself when its socket closes, however the VM's process ended.
 */

#include "net/net.h"

#define PASST_MTU 65520 /* bytes; the largest that passt offers by DHCP */

/* Starts passt and waits (milliseconds) until it serves: the socket, which is the caller's. It becomes a
 * daemon of its own, so there is nothing to reap. Errors name the package where it is missing, or repeat
 * passt's own reason. */
_must_check_ int passt_start(int *ret_fd, struct error *err);

/* A net over a connected stream socket; ownership passes on success. One queue pair, no offloads. */
_must_check_ int passt_net_new(int fd, struct net **ret_net);
