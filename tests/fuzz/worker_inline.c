/* SPDX-License-Identifier: Apache-2.0 */
#include "worker_inline.h"

#include <stdlib.h>

/* base/worker.h without threads: whoever drives the target turns the loops, so that an input does the same
 * in every run. A program that has this object takes none of base/worker.c. */
struct worker {
	struct loop *loop;
	struct list pauses;
};

struct worker *worker_new(const char *name _unused_, const struct clock *clock,
			  struct quiesce *quiesce _unused_)
{
	struct worker *worker = calloc(1, sizeof(*worker));

	if (!worker)
		return NULL;
	list_init(&worker->pauses);
	worker->loop = loop_new(clock);
	if (!worker->loop) {
		free(worker);
		return NULL;
	}
	return worker;
}

struct loop *worker_loop(struct worker *worker)
{
	return worker->loop;
}

int worker_start(struct worker *worker _unused_, const struct thread_entry *start _unused_)
{
	return 0;
}

void worker_call(struct worker *worker _unused_, void (*fn)(void *arg), void *arg)
{
	fn(arg);
}

void worker_add_pause(struct worker *worker, struct worker_pause *pause)
{
	list_append(&worker->pauses, &pause->link);
}

void worker_remove_pause(struct worker_pause *pause)
{
	list_remove(&pause->link);
}

void worker_park(struct worker *worker, bool parked)
{
	struct list *item, *next;

	list_for_each(item, next, &worker->pauses) {
		struct worker_pause *pause = container_of(item, struct worker_pause, link);

		(parked ? pause->park : pause->unpark)(pause);
	}
}

void worker_free(struct worker *worker)
{
	if (!worker)
		return;
	loop_free(worker->loop);
	free(worker);
}

void worker_turn(struct worker *worker)
{
	if (loop_turn(worker->loop, 0) < 0)
		abort();
}
