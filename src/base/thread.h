/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Starting a thread that must take a step - entering its sandbox - before it does anything else. */

#include <pthread.h>

#include "base/macros.h"

/* The step, on the new thread. A negative errno ends the thread. `enter` NULL: nothing to do. */
struct thread_entry {
	int (*enter)(void *ctx);
	void *ctx;
};

/* Starts main(arg) on a thread named `name` (cut to 15 bytes) and returns once it has taken the step, if there is one: 0, or
 * the step's error, the thread ended again. `entry` may be NULL and is not used after the return. */
_must_check_ int thread_start(const char *name, const struct thread_entry *entry,
			      void *(*main)(void *arg), void *arg, pthread_t *ret_thread);
