/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Starting utsusu-move, and knowing whether one is at work for a VM. One thread. */

#include <stdbool.h>
#include <sys/types.h>

#include "move/job.h"

/* What the movers' key is good for: this VM, this ownership, this move, in both daemons' words. */
#define MOVER_KEY_CONTEXT 128
void mover_key_context(const char *uuid, uint64_t generation, const char *token,
		       char ret_text[MOVER_KEY_CONTEXT]);

/* Fills what both sides' jobs have from this host: the descriptors of the VM `name`, and what a test left in
 * STATE/failpoint, and in STATE/patience (milliseconds). */
_must_check_ int mover_open_vm(int state_fd, const char *name, struct move_job *job,
			       struct error *err);
/* That failpoint alone; "" when there is none. */
void mover_failpoint(char ret_text[FAILPOINT_TEXT_MAX]);
/* Starts it in a session of its own, which outlives this process and the daemon. */
_must_check_ int mover_start(const struct move_job *job, pid_t *ret_pid, struct error *err);
/* Waits for its end; its exit status, or -1 when a signal ended it. */
int mover_wait(pid_t pid);

/*
 * Source: the lock that says that a move of this VM is at work. Held by the handler that begins it and, through its job, by the mover: it
 * lives as long as either of them. -EBUSY.
 */
_must_check_ int mover_lock(int folder_fd, const char *name, int *ret_fd);
/* Lets go of this process's part of it (-1 is fine); the file goes once nobody holds it. */
void mover_unlock(int folder_fd, const char *name, int fd);
/* Whether somebody holds it; takes nothing. What cannot be looked at counts as held. */
bool mover_is_at_work(int folder_fd, const char *name);
/* Removes the files of movers that ended alone. */
void mover_forget_locks(int folder_fd);
