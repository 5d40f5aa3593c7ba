/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Post-copy: a thread that listens on stream 0 while the mover's own thread waits for its VM. It does what cannot wait (pages that
 * come, pages that are wanted) and keeps every other frame until the mover's thread has read it.
 *
 *   stream 0 -> next() -> [pages, wanted pages: done there]
 *                      -> one frame -> ear_hear() -> ear_go_on() -> the next
 */

#include <pthread.h>
#include <stdbool.h>

#include "base/thread.h"
#include "wire/frame.h"

struct ear {
	/* On the ear's thread, again and again: 1 with a frame for the mover's thread, 0 after having done what came, or nothing
	 * for a tenth of a second; or why the stream is of no use any more. */
	int (*next)(void *ctx, struct frame *ret_frame);
	void *ctx;
	pthread_t thread;
	bool runs;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock. */
	bool stop, full, roused;
	struct frame frame;
	int lost;
};

/* `entry` may be NULL. */
_must_check_ int ear_start(struct ear *ear, int (*next)(void *ctx, struct frame *ret_frame),
			   void *ctx, const struct thread_entry *entry);
/* Ends the thread, soon. One that never started is left alone. */
void ear_stop(struct ear *ear);
/* 1 with the frame that waits, its payload as next() left it until ear_go_on; 0 after `timeout_ms`, or once for each ear_rouse; or why
 * the stream is lost. */
_must_check_ int ear_hear(struct ear *ear, unsigned int timeout_ms, struct frame *ret_frame);
void ear_go_on(struct ear *ear);
/* Any thread: who hears, or hears next, looks around. */
void ear_rouse(struct ear *ear);
