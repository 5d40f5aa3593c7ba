/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The requests of a busy VM that never was, the same in every run: 4 vCPUs that write to a serial line and ring doorbells,
 * a disk that is slow for a while and fails now and then, and a network. For tests of what shows requests.
 */

#include "watch/store.h"

#define TRAFFIC_VCPUS 4
#define TRAFFIC_RINGS 6 /* the vCPUs', a disk's, a network's */

struct traffic {
	struct ring *rings[TRAFFIC_RINGS];
	uint16_t serial, disk, net, odd;  /* devices */
	uint64_t begin_tsc, interval, hz; /* ticks */
	bool by_beginning; /* in the order in which requests came; otherwise as rings have them, as they were answered */
	uint64_t n; /* records made */
};

/* `store` has TRAFFIC_RINGS rings and a clock. `interval`: ticks between two requests. */
void traffic_begin(struct traffic *traffic, struct store *store, uint64_t begin_tsc,
		   uint64_t interval, uint64_t hz);
/* Writes the next request into its ring. */
void traffic_next(struct traffic *traffic);
