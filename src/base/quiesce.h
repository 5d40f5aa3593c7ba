/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The one barrier that stops every writer of guest memory: vCPU threads, queue threads, and with
 * them the completions that they reap. While it is held, guest RAM and device state stand still;
 * requests already given to the host kernel may still land in buffers that the guest cannot expect to
 * be defined before their completion, which nobody reaps (invariants 11 and 12 of the architecture).
 *
 *   controller                      member threads
 *   quiesce_begin  --kick-->        quiesce_point: parks, counted
 *      ...waits until all are parked
 *   (each parked member runs work given by quiesce_run on its own thread, in parallel)
 *   quiesce_end    --wake-->        go on
 */

#include <pthread.h>
#include <stdbool.h>

#include "base/list.h"

enum quiesce_kind { QUIESCE_VCPU, QUIESCE_WORKER };

struct quiesce {
	pthread_mutex_t lock;	/* innermost lock: nothing is taken while it is held */
	pthread_cond_t parked;	/* to the controller: a member parked, or finished its work */
	pthread_cond_t resumed; /* to members: go on, or there is work */
	/* under `lock` */
	struct list members;
	unsigned int n_members, n_parked;
	unsigned int depth; /* holders: quiesce_begin nests */
	unsigned int work_serial;
	unsigned int work_left;
	enum quiesce_kind work_kind; /* who does the work */
	void (*work)(void *member, void *arg);
	void *work_arg;
	bool requested; /* also read without the lock by members, as a hint */
};

/* One thread that may write guest memory. Lives in the thread's own object. */
struct quiesce_member {
	struct list link;
	enum quiesce_kind kind;
	void *owner;		   /* handed to work functions */
	void (*kick)(void *owner); /* makes the thread reach its quiesce_point soon; any thread */
	unsigned int work_done;	   /* serial of the last work done; under the barrier's lock */
};

void quiesce_init(struct quiesce *q);
void quiesce_destroy(struct quiesce *q);

/* Member's own thread, before its first touch of guest memory, and when it ends. Parks at once when the
 * barrier is held. */
void quiesce_join(struct quiesce *q, struct quiesce_member *member);
void quiesce_leave(struct quiesce *q, struct quiesce_member *member);

/* True when the barrier asks for a stop: a cheap test for inner loops. */
static inline bool quiesce_requested(const struct quiesce *q)
{
	return __atomic_load_n(&q->requested, __ATOMIC_ACQUIRE);
}

/* Member's own thread, holding no lock: parks until the barrier is released, if it is held. */
void quiesce_point(struct quiesce *q, struct quiesce_member *member);

/* Control thread: stops all members and returns when they stand still. Nests. Never call it from a
 * member's thread, nor with a device's lock held (a member may wait for that lock). */
void quiesce_begin(struct quiesce *q);
void quiesce_end(struct quiesce *q);

/* Controller, while holding: every parked member of `kind` runs work(owner, arg) on its own thread, all in
 * parallel; returns when the last has finished. */
void quiesce_run(struct quiesce *q, enum quiesce_kind kind, void (*work)(void *owner, void *arg),
		 void *arg);
