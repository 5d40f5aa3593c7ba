/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/guard/pulse.h"

#include <time.h>

#define TICKS 10 /* in the time after which silence is suspected */

/* Whether it is to go on. */
static bool sleep_for(struct pulse *pulse, unsigned int ms)
{
	struct timespec due;
	bool over;

	clock_gettime(CLOCK_MONOTONIC, &due);
	due.tv_sec += ms / 1000;
	due.tv_nsec += (long)(ms % 1000) * (long)NSEC_PER_MSEC;
	if (due.tv_nsec >= (long)NSEC_PER_SEC) {
		due.tv_sec++;
		due.tv_nsec -= (long)NSEC_PER_SEC;
	}
	pthread_mutex_lock(&pulse->lock);
	if (!pulse->over)
		(void)!pthread_cond_timedwait(&pulse->woken, &pulse->lock, &due);
	over = pulse->over;
	pthread_mutex_unlock(&pulse->lock);
	return !over;
}

static uint64_t received(const struct pulse *pulse)
{
	struct stream_counts counts;

	stream_counts(pulse->guard->stream, &counts);
	return counts.wire_received + counts.received;
}

/* Silence is counted in turns and not by the clock: a host that stood still itself has heard nothing, and can say nothing of the other one. */
static void *thread_main(void *arg)
{
	struct pulse *pulse = arg;
	const unsigned int tick_ms = MAX(pulse->guard->detect_ms / TICKS, 1U);
	uint64_t before = received(pulse), silent_ms = 0;

	while (sleep_for(pulse, tick_ms)) {
		const uint64_t now = received(pulse);
		const bool heard = now != before ||
				   !__atomic_load_n(&pulse->listens, __ATOMIC_RELAXED);

		before = now;
		silent_ms = heard ? 0 : silent_ms + tick_ms;
		if (silent_ms > __atomic_load_n(&pulse->silence_ms, __ATOMIC_RELAXED)) {
			__atomic_store_n(&pulse->silent, true, __ATOMIC_RELAXED);
			stream_cancel(pulse->guard->stream);
			return NULL;
		}
		/* That it cannot be said, who listens hears. */
		(void)!guard_beat(pulse->guard);
	}
	return NULL;
}

int pulse_start(struct pulse *pulse, struct guard *guard)
{
	pthread_condattr_t attr;
	int r;

	*pulse = (struct pulse){ .guard = guard, .silence_ms = guard->patience_ms };
	pthread_mutex_init(&pulse->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pulse->woken, &attr);
	pthread_condattr_destroy(&attr);
	r = thread_start("pulse", guard->entry, thread_main, pulse, &pulse->thread);
	pulse->started = r == 0;
	return r;
}

void pulse_stop(struct pulse *pulse)
{
	if (pulse->started) {
		pthread_mutex_lock(&pulse->lock);
		pulse->over = true;
		pthread_cond_signal(&pulse->woken);
		pthread_mutex_unlock(&pulse->lock);
		pthread_join(pulse->thread, NULL);
		pulse->started = false;
	}
	if (pulse->guard) {
		pthread_cond_destroy(&pulse->woken);
		pthread_mutex_destroy(&pulse->lock);
		pulse->guard = NULL;
	}
}
