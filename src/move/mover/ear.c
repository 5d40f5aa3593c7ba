/* SPDX-License-Identifier: Apache-2.0 */
#include "move/mover/ear.h"

#include <time.h>

#include "base/clock.h"

/* Hands a frame over and waits until it was read: false when nothing more is to be heard. */
static bool hand_over(struct ear *ear, int r, const struct frame *frame)
{
	bool on;

	pthread_mutex_lock(&ear->lock);
	ear->full = r > 0;
	ear->lost = r < 0 ? r : 0;
	ear->frame = *frame;
	pthread_cond_broadcast(&ear->changed);
	while (ear->full && !ear->stop)
		pthread_cond_wait(&ear->changed, &ear->lock);
	on = !ear->stop && r > 0;
	pthread_mutex_unlock(&ear->lock);
	return on;
}

static bool is_stopped(struct ear *ear)
{
	bool stop;

	pthread_mutex_lock(&ear->lock);
	stop = ear->stop;
	pthread_mutex_unlock(&ear->lock);
	return stop;
}

static void *ear_main(void *arg)
{
	struct ear *ear = arg;
	bool on = true;

	while (on && !is_stopped(ear)) {
		struct frame frame = { 0 };
		int r = ear->next(ear->ctx, &frame);

		if (r != 0)
			on = hand_over(ear, r, &frame);
	}
	return NULL;
}

int ear_start(struct ear *ear, int (*next)(void *ctx, struct frame *ret_frame), void *ctx,
	      const struct thread_entry *entry)
{
	int r;

	*ear = (struct ear){ .next = next, .ctx = ctx };
	pthread_mutex_init(&ear->lock, NULL);
	pthread_cond_init(&ear->changed, NULL);
	r = thread_start("ear", entry, ear_main, ear, &ear->thread);
	ear->runs = r == 0;
	return r;
}

void ear_stop(struct ear *ear)
{
	if (!ear->runs)
		return;
	pthread_mutex_lock(&ear->lock);
	ear->stop = true;
	pthread_cond_broadcast(&ear->changed);
	pthread_mutex_unlock(&ear->lock);
	pthread_join(ear->thread, NULL);
	pthread_cond_destroy(&ear->changed);
	pthread_mutex_destroy(&ear->lock);
	ear->runs = false;
}

int ear_hear(struct ear *ear, unsigned int timeout_ms, struct frame *ret_frame)
{
	uint64_t until_ns = clock_now(&clock_host) + timeout_ms * NSEC_PER_MSEC;
	const struct timespec until = {
		.tv_sec = (time_t)(until_ns / NSEC_PER_SEC),
		.tv_nsec = (long)(until_ns % NSEC_PER_SEC),
	};
	int r = 0;

	pthread_mutex_lock(&ear->lock);
	while (!ear->full && !ear->lost && !ear->roused && r == 0)
		r = pthread_cond_clockwait(&ear->changed, &ear->lock, CLOCK_MONOTONIC, &until);
	ear->roused = false;
	r = ear->full ? 1 : ear->lost;
	*ret_frame = ear->frame;
	pthread_mutex_unlock(&ear->lock);
	return r;
}

void ear_go_on(struct ear *ear)
{
	pthread_mutex_lock(&ear->lock);
	ear->full = false;
	pthread_cond_broadcast(&ear->changed);
	pthread_mutex_unlock(&ear->lock);
}

void ear_rouse(struct ear *ear)
{
	pthread_mutex_lock(&ear->lock);
	ear->roused = true;
	pthread_cond_broadcast(&ear->changed);
	pthread_mutex_unlock(&ear->lock);
}
