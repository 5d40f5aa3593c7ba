/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the backup says, heard on a thread of its own: an acknowledgement reaches the VM at once, whatever the guard is sending meanwhile; and a
 * backup that says nothing for too long is noticed. What ends the connection ends the stream for the sending thread, too.
 */

#include "protect/guard/internal.h"

struct acks {
	struct guard *guard;
	pthread_t thread;
	bool started;
	int bell; /* an eventfd: something has changed */

	/* Atomic. */
	uint64_t sent;	/* the last epoch that may be acknowledged */
	uint64_t acked; /* the last one that was, and when */
	uint64_t acked_ns;
	uint64_t gate;		 /* the first epoch of which the VM is told; UINT64_MAX: none yet */
	unsigned int silence_ms; /* the longest; 0: any, and the connection's end is no error */
	int failed;
	bool leaving; /* a LEAVE is being said */
	bool ended;   /* the copy's process, as the backup says: behind a LEAVE */
	bool heard; /* nothing is wrong with the stream: it can still be said why this is the end */

	struct error error; /* why; once `failed` is seen */
};

_must_check_ int acks_start(struct acks *acks, struct guard *guard);
/* Behind a BYE, by who sends: until the other side has closed, or not for long. */
void acks_drain(struct acks *acks);
/* Behind a LEAVE: until the backup says that its copy has ended (true), or not for long. */
bool acks_await_end(struct acks *acks);
/* Cancels the stream, and waits for the thread. */
void acks_stop(struct acks *acks);

static inline uint64_t acks_last(const struct acks *acks)
{
	return __atomic_load_n(&acks->acked, __ATOMIC_ACQUIRE);
}
/* 0, or why nothing more will come, with `err`. */
_must_check_ int acks_judge(const struct acks *acks, struct error *err);
