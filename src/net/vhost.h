/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * vhost-net: the kernel moves frames between the guest's rings and a tap by itself. It reaches the RAM that
 * its memory table names, and nothing else.
 *
 * What it costs, and who therefore refuses it: its writes are in no dirty log of ours (VHOST_F_LOG_ALL is
 * never negotiated), and no filter sees its frames. Its thread is no member of the quiesce barrier: who
 * owns a ring takes it back (vhost_ring_stop) before the barrier is reached, and its position is exact then.
 */

#include "base/error.h"
#include "memory/memory.h"

/* Opens /dev/vhost-net; errors name what is missing. Before the sandbox. */
_must_check_ int vhost_open(int *ret_fd, struct error *err);

/* Makes this process the owner, and tells the kernel's feature bits (virtio's and VHOST_...). Once. */
_must_check_ int vhost_own(int fd, uint64_t *ret_features);

/* Before the first ring of a life: what was negotiated, and where RAM is. `features` only of those told. */
_must_check_ int vhost_prepare(int fd, uint64_t features, const struct memory *memory);

/* A ring as the driver programmed it. The parts lie in RAM (virtio_queue_start has judged them). */
struct vhost_ring {
	unsigned int index; /* 0: receive, 1: transmit */
	uint16_t size;
	uint16_t next_avail;
	void *desc, *avail, *used; /* our mapping of them */
	int kick, call;		   /* eventfds: from the driver, to the driver */
};

/* Hands the ring over, with the tap behind it. The kernel works on it until vhost_ring_stop. */
_must_check_ int vhost_ring_start(int fd, const struct vhost_ring *ring, int tap_fd);

/* Takes it back: when this returns the kernel touches the ring no more. Its next avail position. */
_must_check_ int vhost_ring_stop(int fd, unsigned int index, uint16_t *ret_next_avail);
