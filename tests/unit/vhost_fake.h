/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * net/vhost.h without a kernel: for hosts that lack vhost-net, and for fuzzing. The descriptor is an eventfd of
 * vhost_fake_new; a program that has this object takes none of net/vhost.c.
 */

#include "net/vhost.h"

#define VHOST_FAKE_MAX 1024 /* descriptor numbers */

struct vhost_fake {
	struct vhost_ring rings[2]; /* as handed over last */
	_Atomic bool running[2];    /* set by a queue thread, looked at by the test */
	uint16_t done[2];	    /* positions worked on since the hand-over */
	unsigned int prepared;	    /* how often */
	int refuse;		    /* a negative errno that vhost_ring_start gives */
};

/* The fake behind a descriptor. It lives as long as the program, clean at each call of vhost_fake_new. */
struct vhost_fake *vhost_fake_of(int fd);
int vhost_fake_new(void);

/* The kernel's part: serves `n` chains of the ring, wherever they are, and calls the driver. Only while
 * running, and while the thread that owns the ring does nothing. */
void vhost_fake_work(struct vhost_fake *fake, unsigned int index, uint16_t n);
