/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Drives an upgrade: a running VM goes on in a new process of this host, of a new version of the program. RAM is not copied; both
 * processes have it. No process is waited for by another one that could be killed meanwhile: whoever may run the guest is a word
 * that all of them see (host/succession.h), and each side gives up on its own when it hears nothing.
 *
 *   old process                driver                          new process
 *     check      <-------------  |
 *     hand over  <-------------  |  open files ------------------> opens nothing, builds KVM beside
 *     save       <-------------  |  rehearsal -------------------> loads it, beside the running guest
 *     give       <-------------  |  .  stops, writes its state     .
 *       given    ------------->  |  .  guest stands still          .
 *                                |  take ------------------------> loads, decides the word, runs
 *     ran        <-------------  |
 *     ends
 */

#include "base/clock.h"
#include "base/failpoint.h"
#include "move/handover.h"
#include "move/link.h"

#define UPGRADE_STOP_MS 10000 /* the longest that disk requests may take to end */
#define UPGRADE_END_MS 10000  /* the longest that a process may take to end */

struct upgrade_settings {
	struct move_link *old; /* borrowed */
	/* Starts the new process, whose open files come on `heir`: what the old one sent is there already. The link is the caller's.
	 * Whoever is at work there has been told of the succession. */
	int (*launch)(void *ctx, const struct move_facts *facts, int succession_fd, int heir[2],
		      struct move_link **ret_link, struct error *err);
	void (*phase)(void *ctx, enum handover_phase phase); /* may be NULL */
	void *ctx;
	const struct clock *clock;
	const char *failpoint; /* its text; "" is none */
	bool check; /* all but the stop: then both are as before, and the new process has ended */
};

struct upgrade_numbers {
	uint64_t total_ns;
	uint64_t down_ns; /* the guest stood still; 0: not known */
	uint64_t state_bytes;
	char from[32], to[32]; /* versions of the program, "" when they do not tell */
};

/* 0: it runs in the new process (with `check`: it could). Else the old one goes on, as before; `problems`, if any, are all that stands
 * against it. A process that does not end in time is told of in `warning` ("" otherwise). */
#define UPGRADE_WARNING 200
_must_check_ int move_upgrade(const struct upgrade_settings *settings, struct problems *problems,
			      struct upgrade_numbers *ret_numbers,
			      char ret_warning[UPGRADE_WARNING], struct error *err);
