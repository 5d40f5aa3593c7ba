/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/fd.h"

#define EVENTS_PER_TURN 32

struct loop {
	int epoll;
	const struct clock *clock;
	struct list timers; /* sorted by due_ns */
	bool stopped;	    /* atomic: set by any thread */
	struct loop_watch wakeup;
	/* The turn's events; entries of removed watches are set to NULL. */
	struct epoll_event events[EVENTS_PER_TURN];
	int n_events;
};

static void wakeup_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	fd_clear_event(watch->fd);
}

struct loop *loop_new(const struct clock *clock)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return NULL;
	loop->clock = clock;
	list_init(&loop->timers);
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->wakeup = (struct loop_watch){
		.fd = fd_new_event(),
		.events = EPOLLIN,
		.ready = wakeup_ready,
	};
	if (loop->epoll < 0 || loop->wakeup.fd < 0 || loop_add(loop, &loop->wakeup) < 0) {
		loop_free(loop);
		return NULL;
	}
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	fd_close(loop->wakeup.fd);
	fd_close(loop->epoll);
	free(loop);
}

const struct clock *loop_clock(const struct loop *loop)
{
	return loop->clock;
}

int loop_add(struct loop *loop, struct loop_watch *watch)
{
	struct epoll_event event = { .events = watch->events, .data.ptr = watch };

	return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, watch->fd, &event) < 0 ? -errno : 0;
}

void loop_change(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = watch };

	if (watch->events == events)
		return;
	watch->events = events;
	/* Fails only for a descriptor that was never added: the caller's bug, without effect. */
	epoll_ctl(loop->epoll, EPOLL_CTL_MOD, watch->fd, &event);
}

void loop_remove(struct loop *loop, struct loop_watch *watch)
{
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
	for (int i = 0; i < loop->n_events; i++)
		if (loop->events[i].data.ptr == watch)
			loop->events[i].data.ptr = NULL;
}

void loop_timer_init(struct loop_timer *timer, void (*expired)(struct loop_timer *timer))
{
	list_init(&timer->link);
	timer->due_ns = 0;
	timer->expired = expired;
}

void loop_timer_arm(struct loop *loop, struct loop_timer *timer, uint64_t due_ns)
{
	struct list *item, *next;

	list_remove(&timer->link);
	timer->due_ns = due_ns;
	list_for_each(item, next, &loop->timers)
		if (container_of(item, struct loop_timer, link)->due_ns > due_ns)
			break;
	list_append(item, &timer->link);
}

void loop_timer_cancel(struct loop_timer *timer)
{
	list_remove(&timer->link);
}

static struct loop_timer *first_timer(struct loop *loop)
{
	if (list_empty(&loop->timers))
		return NULL;
	return container_of(loop->timers.next, struct loop_timer, link);
}

/* Fires what was due when the turn began; a timer armed by a callback waits for the next turn. */
static void run_timers(struct loop *loop)
{
	uint64_t now = clock_now(loop->clock);
	struct list due;

	list_init(&due);
	for (struct loop_timer *t; (t = first_timer(loop)) && t->due_ns <= now;) {
		list_remove(&t->link);
		list_append(&due, &t->link);
	}
	while (!list_empty(&due)) {
		struct loop_timer *t = container_of(due.next, struct loop_timer, link);

		list_remove(&t->link);
		t->expired(t);
	}
}

/* How long epoll may wait, so that neither the caller's limit nor the first timer is overslept. */
static void wait_limit(struct loop *loop, int timeout_ms, struct timespec *ret_limit)
{
	struct loop_timer *first = first_timer(loop);
	uint64_t limit = timeout_ms < 0 ? UINT64_MAX : (uint64_t)timeout_ms * NSEC_PER_MSEC;

	if (first) {
		uint64_t now = clock_now(loop->clock);

		limit = MIN(limit, first->due_ns > now ? first->due_ns - now : 0);
	}
	limit = MIN(limit, 3600 * NSEC_PER_SEC);
	ret_limit->tv_sec = (time_t)(limit / NSEC_PER_SEC);
	ret_limit->tv_nsec = (long)(limit % NSEC_PER_SEC);
}

int loop_turn(struct loop *loop, int timeout_ms)
{
	struct timespec limit;
	int n;

	wait_limit(loop, timeout_ms, &limit);
	n = epoll_pwait2(loop->epoll, loop->events, EVENTS_PER_TURN, &limit, NULL);
	if (n < 0 && errno != EINTR)
		return -errno;
	loop->n_events = MAX(n, 0);
	for (int i = 0; i < loop->n_events; i++) {
		struct loop_watch *watch = loop->events[i].data.ptr;

		if (watch)
			watch->ready(watch, loop->events[i].events);
	}
	loop->n_events = 0;
	run_timers(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	while (!__atomic_exchange_n(&loop->stopped, false, __ATOMIC_ACQ_REL)) {
		int r = loop_turn(loop, -1);

		if (r < 0)
			return r;
	}
	return 0;
}

void loop_stop(struct loop *loop)
{
	__atomic_store_n(&loop->stopped, true, __ATOMIC_RELEASE);
	fd_signal_event(loop->wakeup.fd);
}
