/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A device's timer: set by whoever holds the device's lock (mostly a vCPU's thread), expiring on the control
 * loop, whose own timers only its thread may touch.
 *
 *   vCPU thread                          control loop
 *   timer_set(due) --eventfd, only when-->  takes over the new due time
 *                    earlier than armed     expired(): the device looks at its clock
 *
 * `expired` is a hint, never a fact: it may come late, or once more than needed. The device computes from
 * its clock what has happened, and sets the timer again.
 *
 * Lock order: device.lock -> device_timer.lock (a leaf).
 */

#include <pthread.h>
#include <stdint.h>

#include "base/loop.h"
#include "base/macros.h"

#define DEVICE_TIMER_NEVER UINT64_MAX

struct device_timer {
	struct loop *loop; /* borrowed */
	void (*expired)(struct device_timer *timer);
	pthread_mutex_t lock;
	/* under `lock` */
	uint64_t due_ns;   /* what the device wants; DEVICE_TIMER_NEVER: nothing */
	uint64_t armed_ns; /* what the loop waits for, or will once it has seen `wake` */
	/* the loop's thread */
	struct loop_watch wake;
	struct loop_timer timer;
};

/* The loop's thread, or before the loop runs. `expired` is called on the loop without any lock. A zeroed
 * struct is a timer not initialised, which may be released. */
_must_check_ int device_timer_init(struct device_timer *timer, struct loop *loop,
				   void (*expired)(struct device_timer *timer));
/* The loop's thread, or after it ended. */
void device_timer_release(struct device_timer *timer);

/* Any thread, the device's lock held: expire at `due_ns` of the loop's clock (at once when that has passed), or
 * DEVICE_TIMER_NEVER. Replaces what was set. */
void device_timer_set(struct device_timer *timer, uint64_t due_ns);
