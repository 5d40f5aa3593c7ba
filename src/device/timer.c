/* SPDX-License-Identifier: Apache-2.0 */
#include "device/timer.h"

#include <sys/epoll.h>

#include "base/fd.h"

/* Arms the loop's timer for what the device wants now. */
static void take_over(struct device_timer *timer)
{
	uint64_t due;

	pthread_mutex_lock(&timer->lock);
	due = timer->armed_ns = timer->due_ns;
	pthread_mutex_unlock(&timer->lock);
	if (due == DEVICE_TIMER_NEVER)
		loop_timer_cancel(&timer->timer);
	else
		loop_timer_arm(timer->loop, &timer->timer, due);
}

static void woken(struct loop_watch *watch, uint32_t events _unused_)
{
	fd_clear_event(watch->fd);
	take_over(container_of(watch, struct device_timer, wake));
}

/* A due time that moved away is noticed here: the loop woke too early, and waits again. */
static void fired(struct loop_timer *loop_timer)
{
	struct device_timer *timer = container_of(loop_timer, struct device_timer, timer);
	uint64_t now = clock_now(loop_clock(timer->loop));
	bool due;

	pthread_mutex_lock(&timer->lock);
	due = timer->due_ns <= now;
	if (due)
		timer->due_ns = timer->armed_ns = DEVICE_TIMER_NEVER;
	pthread_mutex_unlock(&timer->lock);
	if (due)
		timer->expired(timer);
	else
		take_over(timer);
}

int device_timer_init(struct device_timer *timer, struct loop *loop,
		      void (*expired)(struct device_timer *timer))
{
	int fd = fd_new_event();
	int r;

	if (fd < 0)
		return fd;
	*timer = (struct device_timer){
		.loop = loop,
		.expired = expired,
		.due_ns = DEVICE_TIMER_NEVER,
		.armed_ns = DEVICE_TIMER_NEVER,
		.wake = { .fd = fd, .events = EPOLLIN, .ready = woken },
	};
	loop_timer_init(&timer->timer, fired);
	r = loop_add(loop, &timer->wake);
	if (r < 0) {
		fd_close(fd);
		*timer = (struct device_timer){ 0 };
		return r;
	}
	pthread_mutex_init(&timer->lock, NULL);
	return 0;
}

void device_timer_release(struct device_timer *timer)
{
	if (!timer->loop)
		return;
	loop_timer_cancel(&timer->timer);
	loop_remove(timer->loop, &timer->wake);
	fd_close(timer->wake.fd);
	pthread_mutex_destroy(&timer->lock);
	*timer = (struct device_timer){ 0 };
}

void device_timer_set(struct device_timer *timer, uint64_t due_ns)
{
	bool earlier;

	pthread_mutex_lock(&timer->lock);
	timer->due_ns = due_ns;
	earlier = due_ns < timer->armed_ns;
	if (earlier)
		timer->armed_ns = due_ns;
	pthread_mutex_unlock(&timer->lock);
	if (earlier)
		fd_signal_event(timer->wake.fd);
}
