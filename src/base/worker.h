/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A queue thread: a loop on a thread of its own that is a member of the quiesce barrier. The devices
 * that touch guest memory outside a vCPU's thread do it here and nowhere else (invariant 10).
 * Everything registered on a worker's loop runs on that thread only.
 */

#include "base/list.h"
#include "base/loop.h"
#include "base/quiesce.h"
#include "base/thread.h"

struct worker;

/* Makes the worker without starting it: watches may be added to its loop from the maker's thread until
 * worker_start. `name` (at most 15 bytes) is the thread's. NULL when out of memory or descriptors. */
struct worker *worker_new(const char *name, const struct clock *clock, struct quiesce *quiesce);
struct loop *worker_loop(struct worker *worker);

/* Returns once the thread has taken its step (base/thread.h). */
_must_check_ int worker_start(struct worker *worker, const struct thread_entry *entry);

/* Runs fn(arg) on the worker's thread between two turns and waits for it; on a worker not started (or
 * the worker's own thread) it runs at once. Not from a holder of the barrier: the worker is parked. */
void worker_call(struct worker *worker, void (*fn)(void *arg), void *arg);

/* From a callback on the worker's own thread: waits, looking at `held` each millisecond, and obeys the barrier meanwhile.
 * What the callback was doing is then half done. */
void worker_hold(struct worker *worker, bool (*held)(void *ctx), void *ctx);

/*
 * Writers of guest memory that work for the worker outside its thread (the kernel's vhost) stand still with
 * it: `park` stops them before the worker parks at the barrier, `unpark` lets them go on afterwards. Embedded
 * by the caller; added, removed and called on the worker's thread.
 */
struct worker_pause {
	struct list link;
	void (*park)(struct worker_pause *pause);
	void (*unpark)(struct worker_pause *pause);
};
void worker_add_pause(struct worker *worker, struct worker_pause *pause);
void worker_remove_pause(struct worker_pause *pause); /* harmless when not added, but initialised */

/* Ends the thread after its present turn, joins it, frees. NULL is accepted. */
void worker_free(struct worker *worker);
