/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An event loop over epoll: descriptors and timers of ONE thread. Each thread that waits has its own
 * loop; only loop_stop may be called from another thread. Timers follow the loop's clock, so a fake
 * clock makes them a test's to fire (decision: docs/decisions.md, "event loop").
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/list.h"

struct loop;

/* A watched descriptor. Owned by the caller, who keeps it in place between add and remove. */
struct loop_watch {
	int fd;
	uint32_t events; /* EPOLLIN, EPOLLOUT */
	void (*ready)(struct loop_watch *watch, uint32_t events);
};

/* A one-shot timer; armed again by its own callback where it repeats. Owned by the caller. */
struct loop_timer {
	struct list link;
	uint64_t due_ns; /* on the loop's clock */
	void (*expired)(struct loop_timer *timer);
};

/* Makes a loop on `clock`, which is borrowed. NULL when out of memory or descriptors. */
struct loop *loop_new(const struct clock *clock);
void loop_free(struct loop *loop);

const struct clock *loop_clock(const struct loop *loop);

/* Watches `watch->fd` for `watch->events`; -EEXIST when already watched. Regular files are -EPERM. */
_must_check_ int loop_add(struct loop *loop, struct loop_watch *watch);
/* Changes the events waited for; 0 keeps the watch but silences it. */
void loop_change(struct loop *loop, struct loop_watch *watch, uint32_t events);
/* Stops watching; harmless when not watched. Safe inside any callback: its pending event is dropped. */
void loop_remove(struct loop *loop, struct loop_watch *watch);

void loop_timer_init(struct loop_timer *timer, void (*expired)(struct loop_timer *timer));
/* Arms (or re-arms) for `due_ns`; a time already past fires at the next turn. */
void loop_timer_arm(struct loop *loop, struct loop_timer *timer, uint64_t due_ns);
void loop_timer_cancel(struct loop_timer *timer);

/* One turn: waits at most `timeout_ms` (-1: until something happens, 0: not at all), then runs what is
 * ready and due. Negative errno only when the host fails the wait. */
_must_check_ int loop_turn(struct loop *loop, int timeout_ms);

/* Turns until loop_stop. */
_must_check_ int loop_run(struct loop *loop);
/* Any thread. The present turn is finished first. */
void loop_stop(struct loop *loop);
