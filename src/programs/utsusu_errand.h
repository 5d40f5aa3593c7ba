/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the daemon does for a command while a person looks on: a move, a protection. Its lines are drawn, Ctrl-C is passed on. */

#include <jansson.h>
#include <signal.h>

#include "base/buffer.h"
#include "programs/utsusu.h"

struct errand {
	const struct command_options *options;
	const char *can;	/* after a check: NAME can ... HOST */
	const char *cancelling; /* what is said at Ctrl-C */
	const char *silence;	/* where nobody tells any more ... NAME */
	/* Whether the command is over at this line, though what it began goes on; NULL: only at an end. */
	bool (*is_done)(const json_t *line);
	/* It ended as it should: what that cost. */
	void (*report)(const struct errand *errand);

	/* The errand's own. */
	int door_fd, progress_fd, signal_fd;
	struct buffer lines;
	bool drawn;	/* an unfinished line stands on the terminal */
	bool cancelled; /* was asked for */
	bool silent;	/* nobody writes progress any more, or was asked to */
	bool moving;	/* nothing stood against it */
	bool paused;	/* by its user, there as here */
	bool done;	/* is_done said so */
	json_t *end;	/* the mover's last line */
	char said[200]; /* the last line that was printed where there is no terminal */
	sigset_t mask_before;
};

/* Does it; an exit status. The request is taken. */
int errand_run(struct errand *errand, json_t *request);

uint64_t errand_number(const json_t *object, const char *key);
void errand_format_bytes(uint64_t bytes, char *ret_text, size_t size);
void errand_format_time(uint64_t ms, char *ret_text, size_t size);
