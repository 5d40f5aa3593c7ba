/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Whether a move's memory phase goes on, and how: a pure function of what was measured, so that it is tested against
 * simulated guests and wires. One look after each round; no clock, no thread, no system call.
 *
 *   round k ends -> collect the dirty pages -> look -> decide: another round | stop the VM now | slow it first | ...
 *
 * Nobody tunes it, and it always comes to an end: a move whose pages do not become few enough by themselves within a
 * time that fits its size has its VM slowed in steps taken from the measured ratio of dirtying to sending; at the
 * limit of that, or when slowing no longer helps, it stops, switches to post-copy where allowed, or gives up by name.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#define CONVERGENCE_THROTTLE_MAX 99 /* percent of its time that a VM may be held */
#define CONVERGENCE_WHY_MAX 160

struct convergence_goal {
	uint64_t downtime_ns; /* --downtime; 0: 100 ms */
	bool allow_postcopy;
};

/* What was measured, after round `round` (1, 2, ...) and the collect that followed it. */
struct convergence_look {
	uint32_t round;
	uint64_t now_ns;      /* monotonic */
	uint64_t round_ns;    /* from the round's first byte until the receiver had all of it */
	uint64_t round_bytes; /* guest bytes that the round sent (pages that are not zero) */
	uint64_t left_bytes;  /* dirty now: what the next round would send */
	uint64_t
		guest_ns; /* since the collect before: the time in which these became dirty; 0: round_ns */
	uint64_t state_bytes; /* of devices and vCPUs, as the rehearsal had it */
	uint64_t
		fixed_ns; /* what a stop costs beside bytes: saving, loading, durable writes, as the rehearsal had it */
	uint64_t round_trip_ns; /* of the wire */
	uint32_t throttle;	/* percent that the VM is slowed by now */
};

enum convergence_choice {
	CONVERGENCE_GO_ON,    /* another round */
	CONVERGENCE_STOP,     /* stop the VM and send the rest */
	CONVERGENCE_THROTTLE, /* slow the VM to `throttle`, then another round */
	CONVERGENCE_POSTCOPY,
	CONVERGENCE_GIVE_UP, /* the VM stays where it is */
};

struct convergence_decision {
	enum convergence_choice choice;
	uint32_t throttle;   /* percent from now on, whatever the choice */
	bool stalled;	     /* several rounds brought it no nearer */
	uint64_t rate;	     /* guest bytes per second that the wire takes, smoothed */
	uint64_t dirty_rate; /* bytes per second that the guest makes dirty, as it runs now */
	uint64_t down_ns;    /* predicted downtime, were it stopped now */
	uint64_t eta_ns;     /* until the VM runs at the destination; 0: not known */
	char why[CONVERGENCE_WHY_MAX]; /* one line for people */
};

/* What is remembered from look to look. One thread; a plain value. */
struct convergence {
	struct convergence_goal goal;
	double rate; /* bytes per second; 0: not known */
	/* `dirty` bytes became dirty while the guest ran for `dirty_s`. Within t seconds it is taken to be in proportion to
	 * 1 - exp(-`again` * t): writes that meet the same pages the more often, the more of the working set is dirty. 0: each write
	 * meets another page. */
	double dirty, dirty_s, again;
	double first_s;	   /* how long round 1 took */
	double deadline_s; /* when a move that is not slowed more should be done */
	uint64_t best_left;
	uint32_t looks;
	uint32_t stalls; /* looks in a row that were no nearer */
	uint32_t capped; /* of these, with the VM slowed as far as can be */
	uint32_t polish; /* rounds made though the goal was met */
};

void convergence_init(struct convergence *convergence, const struct convergence_goal *goal);

/* Judges one look. Any numbers are taken (nothing overflows or divides by zero). */
void convergence_decide(struct convergence *convergence, const struct convergence_look *look,
			struct convergence_decision *ret_decision);
