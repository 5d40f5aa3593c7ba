/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the two sides of breakpoints share: who sets them and decides (stop.c, control thread), and what they do to
 * requests (stop_tap.c, the vCPUs' and queues' threads). */

#include "watch/monitor_internal.h"
#include "watch/stop.h"

#define STOP_HITS 32 /* not told of yet */

struct stop_entry {
	struct list link; /* changed inside the barrier */
	const void *owner;
	struct filter *filter;
	struct stop_break wanted;
	uint64_t hits, missed; /* atomic */
	bool dead;	       /* atomic: its owner wants it no longer */
};

struct stop_told {
	const void *owner;
	struct stop_hit hit;
};

struct stop {
	struct monitor *monitor;
	struct stop_events events; /* control thread */
	struct list entries;
	unsigned int n_entries;
	unsigned int inside;  /* atomic: threads that stand, or wait, in the middle of the list */
	const void *stepping; /* atomic: whose next stop is at the next request */
	struct loop_watch event;
	struct loop_timer grace, sweep;

	pthread_mutex_t lock; /* leaf; guards the next four */
	bool taken;	      /* a thread stands on a request, or is about to */
	struct stop_told told[STOP_HITS];
	unsigned int first_told, n_told;

	/* Of the one that stands: written by its thread before `held`, read by the control thread while `held`. */
	bool held; /* atomic */
	const void *owner;
	struct vcpu *vcpu;	   /* NULL: a queue's thread */
	struct stop_answer answer; /* written by the control thread before it ends `held` */
};

enum tap_verdict stop_before(struct stop *stop, struct monitor_vcpu *mv, struct bus_access *access);
void stop_after(struct stop *stop, struct monitor_vcpu *mv, struct bus_access *access);
int stop_request(struct stop *stop, const struct monitor_device *md,
		 const struct device_request *request);
