/* SPDX-License-Identifier: Apache-2.0 */
#include "base/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/fd.h"

struct worker_job {
	void (*fn)(void *arg);
	void *arg;
	bool done;
};

struct worker {
	char name[16];
	struct loop *loop;
	struct quiesce *quiesce;
	struct quiesce_member member;
	struct loop_watch wakeup;
	struct list pauses; /* its thread only */
	pthread_t thread;
	bool started;
	bool ending; /* atomic */

	pthread_mutex_t lock; /* guards the job */
	pthread_cond_t changed;
	struct worker_job *job; /* on its caller's stack */
};

static void worker_kick(void *owner)
{
	struct worker *worker = owner;

	fd_signal_event(worker->wakeup.fd);
}

static void run_job(struct worker *worker)
{
	pthread_mutex_lock(&worker->lock);
	if (worker->job) {
		worker->job->fn(worker->job->arg);
		worker->job->done = true;
		worker->job = NULL;
		pthread_cond_broadcast(&worker->changed);
	}
	pthread_mutex_unlock(&worker->lock);
}

static void wakeup_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	fd_clear_event(watch->fd);
}

void worker_add_pause(struct worker *worker, struct worker_pause *pause)
{
	list_append(&worker->pauses, &pause->link);
}

void worker_remove_pause(struct worker_pause *pause)
{
	list_remove(&pause->link);
}

/* Parks when the barrier asks for it, with all that works for the worker elsewhere. */
static void park_if_asked(struct worker *worker)
{
	struct list *item, *next;

	if (!quiesce_requested(worker->quiesce))
		return;
	list_for_each(item, next, &worker->pauses) {
		struct worker_pause *pause = container_of(item, struct worker_pause, link);

		pause->park(pause);
	}
	quiesce_point(worker->quiesce, &worker->member);
	list_for_each(item, next, &worker->pauses) {
		struct worker_pause *pause = container_of(item, struct worker_pause, link);

		pause->unpark(pause);
	}
}

void worker_hold(struct worker *worker, bool (*held)(void *ctx), void *ctx)
{
	const struct timespec nap = { .tv_nsec = NSEC_PER_MSEC };

	do {
		park_if_asked(worker);
		nanosleep(&nap, NULL);
	} while (held(ctx) && !__atomic_load_n(&worker->ending, __ATOMIC_ACQUIRE));
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;

	quiesce_join(worker->quiesce, &worker->member);
	while (!__atomic_load_n(&worker->ending, __ATOMIC_ACQUIRE)) {
		park_if_asked(worker);
		run_job(worker);
		if (loop_turn(worker->loop, -1) < 0)
			break;
	}
	quiesce_leave(worker->quiesce, &worker->member);
	return NULL;
}

struct worker *worker_new(const char *name, const struct clock *clock, struct quiesce *quiesce)
{
	struct worker *worker = calloc(1, sizeof(*worker));

	if (!worker)
		return NULL;
	snprintf(worker->name, sizeof(worker->name), "%s", name);
	pthread_mutex_init(&worker->lock, NULL);
	pthread_cond_init(&worker->changed, NULL);
	list_init(&worker->pauses);
	worker->quiesce = quiesce;
	worker->member = (struct quiesce_member){
		.kind = QUIESCE_WORKER,
		.owner = worker,
		.kick = worker_kick,
	};
	worker->wakeup = (struct loop_watch){
		.fd = fd_new_event(),
		.events = EPOLLIN,
		.ready = wakeup_ready,
	};
	worker->loop = loop_new(clock);
	if (worker->wakeup.fd < 0 || !worker->loop || loop_add(worker->loop, &worker->wakeup) < 0) {
		worker_free(worker);
		return NULL;
	}
	return worker;
}

struct loop *worker_loop(struct worker *worker)
{
	return worker->loop;
}

int worker_start(struct worker *worker, const struct thread_entry *entry)
{
	int r = thread_start(worker->name, entry, worker_main, worker, &worker->thread);

	worker->started = r == 0;
	return r;
}

void worker_call(struct worker *worker, void (*fn)(void *arg), void *arg)
{
	struct worker_job job = { .fn = fn, .arg = arg };

	if (!worker->started || pthread_equal(pthread_self(), worker->thread)) {
		fn(arg);
		return;
	}
	pthread_mutex_lock(&worker->lock);
	while (worker->job)
		pthread_cond_wait(&worker->changed, &worker->lock);
	worker->job = &job;
	worker_kick(worker);
	while (!job.done)
		pthread_cond_wait(&worker->changed, &worker->lock);
	pthread_mutex_unlock(&worker->lock);
}

void worker_free(struct worker *worker)
{
	if (!worker)
		return;
	if (worker->started) {
		__atomic_store_n(&worker->ending, true, __ATOMIC_RELEASE);
		worker_kick(worker);
		pthread_join(worker->thread, NULL);
	}
	loop_free(worker->loop);
	fd_close(worker->wakeup.fd);
	pthread_cond_destroy(&worker->changed);
	pthread_mutex_destroy(&worker->lock);
	free(worker);
}
