/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A mover that this command started: its lines drawn, Ctrl-C passed on, its end. */

#include <jansson.h>
#include <sys/types.h>

#include "base/buffer.h"
#include "move/job.h"

struct mover_run {
	const char *name; /* of the VM */
	bool json;	  /* lines go to standard output as they are */
	pid_t pid;
	/* The VM runs, and its memory is still to come: what is told then, once; may be NULL. */
	void (*on_ran)(struct mover_run *run, uint64_t run_ms, uint64_t left);
	void *ctx;
	bool ran; /* that was told; from then on a signal ends this command and not what it started */
	bool detached;	/* a signal did; the mover goes on */
	char phase[16]; /* the last that was told */
	json_t *end;	/* the last line; NULL: it died, or goes on. json_decref() */
};

/* Reads what has come on `fd` (a socket) and hands each whole line on; `lines` keeps what is none yet. 0, or -ENODATA at the end. */
_must_check_ int progress_read(int fd, struct buffer *lines,
			       void (*told)(void *ctx, const char *text, size_t len), void *ctx);

/* Starts the mover of `job` (released here, also on failure) and stays until it has ended. */
_must_check_ int mover_run(struct mover_run *run, struct move_job *job, struct error *err);
/* The VM's process has ended: waits until its keeper has, too, so that whoever comes next finds no VM of this name. At most some seconds. */
void mover_run_wait_gone(const struct mover_run *run);
/* How it says that it ended ("ran", "failed", ...); "" when it did not say. */
const char *mover_run_end(const struct mover_run *run);
/* Its reason into `err`, or that it died. */
void mover_run_error(const struct mover_run *run, struct error *err);
uint64_t mover_run_number(const struct mover_run *run, const char *key);
