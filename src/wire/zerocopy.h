/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Sends of MSG_ZEROCOPY that the kernel has not let go of: it pins the pages, numbers the calls from 0, and tells on the
 * socket's error queue which are over (Linux, Documentation/networking/msg_zerocopy.rst). Notes on that queue wake every
 * poll of the socket, so whoever waits takes them off, the receiving thread too.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

/* Pinned bytes of one stream. RLIMIT_MEMLOCK, 8 MiB on Debian, is one user's for all streams. */
#define ZEROCOPY_PINNED_MAX MIB(2)
#define ZEROCOPY_CALLS_MAX 256 /* a power of two */

struct zerocopy {
	pthread_mutex_t lock; /* a leaf */
	int freed; /* an eventfd: signalled after notes were taken off; -1: the socket has no zero copy */
	/* under `lock` */
	uint32_t next;			    /* the kernel's number of the next call */
	uint32_t calls;			    /* not over yet */
	uint64_t pinned;		    /* bytes of these */
	uint32_t bytes[ZEROCOPY_CALLS_MAX]; /* by number; 0: over */
	unsigned int copied; /* notes in a row that the kernel had to copy after all */
};

/* Asks the socket for zero copy; without it zerocopy_usable is false. */
_must_check_ int zerocopy_init(struct zerocopy *z, int fd);
void zerocopy_release(struct zerocopy *z);
/* False also when the kernel copies all the same (loopback): that costs more than a plain copy. */
bool zerocopy_usable(struct zerocopy *z);

/* Sending thread: whether `len` more bytes may be pinned (1..ZEROCOPY_PINNED_MAX). Then a call stands between begin, for its
 * note may come before it returns, and end, which says how many bytes it took; 0: it failed. */
bool zerocopy_has_room(struct zerocopy *z, uint32_t len);
void zerocopy_begin(struct zerocopy *z, uint32_t len);
void zerocopy_end(struct zerocopy *z, uint32_t len);
bool zerocopy_idle(struct zerocopy *z); /* nothing is pinned */

/* Takes all notes off the socket's error queue; how many there were. Any thread. */
unsigned int zerocopy_reap(struct zerocopy *z, int fd);
