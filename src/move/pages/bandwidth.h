/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A limit on the bytes per second of all streams together. Any thread. */

#include <pthread.h>
#include <stdint.h>

#include "base/macros.h"

/* What may go at once after a pause, in the limit's time. */
#define BANDWIDTH_BURST_NS (20 * NSEC_PER_MSEC)

struct bandwidth {
	pthread_mutex_t lock;
	uint64_t rate;	  /* bytes per second; 0: no limit */
	uint64_t next_ns; /* when all that was granted has gone at that rate */
};

void bandwidth_init(struct bandwidth *bandwidth, uint64_t rate);
void bandwidth_release(struct bandwidth *bandwidth);

/* Grants `bytes`; how many nanoseconds the caller waits before it sends them. */
uint64_t bandwidth_take(struct bandwidth *bandwidth, uint64_t bytes, uint64_t now_ns);
