/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The backup's sign of life, and its ear for the owner's: a thread that says something when nothing else was said, also while a slow disk is
 * waited for, and that cancels the stream when nothing comes on it although it is listened to.
 */

#include "protect/guard/internal.h"

struct pulse {
	struct guard *guard;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t woken;
	bool over; /* under the lock */
	/* Atomic. */
	unsigned int silence_ms; /* the longest */
	bool listens;
	bool silent; /* that is why the stream was cancelled */
};

_must_check_ int pulse_start(struct pulse *pulse, struct guard *guard);
void pulse_stop(struct pulse *pulse); /* also of one that was never started */

/* The guard waits for the stream from now on, or does something else: then silence is its own. */
static inline void pulse_listen(struct pulse *pulse, bool listens)
{
	__atomic_store_n(&pulse->listens, listens, __ATOMIC_RELAXED);
}
static inline bool pulse_is_silent(const struct pulse *pulse)
{
	return __atomic_load_n(&pulse->silent, __ATOMIC_RELAXED);
}
