/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a mover tells while it works: JSON lines, at most some ten a second, for `utsusu move` to draw and for --json to pass on.
 *
 *   {"phase":"memory","round":3,"sent":181403648,"left":4194304,"rate":118000000,"dirty_rate":2200000,"downtime_ms":38,
 *    "throttle":0,"eta_ms":400,"why":"..."}
 *   with "postcopy":true as long as the VM runs on memory of both hosts
 *   {"ran":true,"run_ms":230,"left":2147483648}   a restore: it runs, and so many bytes of memory are still to come
 *   {"end":"ran","total_ms":2100,"down_ms":41,"bytes":161000000,"wire_bytes":..,"pages":..,"zero_pages":..,"rounds":4,"streams":2}
 *   with "ended":"..." behind "ran" when the VM has ended since, as its guest or somebody there wished
 *   {"phase":"fill-disks"|"fill-memory","sent":..,"left":..,"rate":..}, {"phase":"gate"}, {"phase":"protected"}   a guard
 *   {"end":"off"}          a guard whose user wants no protection any more
 *   {"end":"refused"|"cancelled"|"failed"|"in-doubt","message":"...","status":5}
 *   {"warning":"..."}      the move goes on
 *   {"failpoint":"source.given"}
 *
 * The other way comes {"cancel":true}, or the end of file, which means the same. A reader that does not read loses lines and
 * holds nobody up. One thread, but for progress_failpoint.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "move/handover.h"

enum move_end {
	MOVE_END_RAN,
	MOVE_END_REFUSED,
	MOVE_END_CANCELLED,
	MOVE_END_FAILED,
	MOVE_END_IN_DOUBT,
	MOVE_END_OFF, /* a guard: it protects no more, as its user wished */
};

struct move_numbers {
	uint32_t round;
	uint64_t sent, wire, left; /* bytes */
	uint64_t rate, dirty_rate; /* bytes per second */
	uint64_t expected_down_ns; /* were it stopped now */
	uint32_t throttle;	   /* percent */
	uint64_t eta_ns;	   /* 0: not known */
	uint64_t pages, zero_pages, delta_pages, packed_pages;
	uint64_t disk_bytes;	    /* of disks that are copied */
	uint64_t wanted_pages;	    /* post-copy: those that somebody waited for */
	uint64_t total_ns, down_ns; /* at the end */
	uint64_t run_ns;	    /* restore: until the VM ran; 0: not yet */
	uint32_t streams;
};

#define PROGRESS_WHY 160 /* bytes with the NUL */

struct progress {
	int fd; /* borrowed; -1: nobody */
	const struct clock *clock;
	uint64_t told_ns;
	enum handover_phase phase;
	bool cancelled;		  /* for good */
	bool postcopy;		  /* the VM's memory is in two places */
	char said[64];		  /* a line of the reader's that is not whole yet */
	char ended[PROGRESS_WHY]; /* why the VM, which ran, has ended since; "": not that we know */
	char why[PROGRESS_WHY];	  /* what is being waited for, or why it was decided so */
};

/* `fd` is borrowed and set not to block. */
void progress_init(struct progress *progress, int fd, const struct clock *clock);
/* A new phase, told at once. `why` may be NULL. */
void progress_phase(struct progress *progress, enum handover_phase phase, const char *why);
/* The reason changes within a phase: told with the next numbers. */
void progress_why(struct progress *progress, const char *why);
/* Tells the numbers when a tenth of a second has passed since the last line, or `now`. */
void progress_numbers(struct progress *progress, const struct move_numbers *numbers, bool now);
/* A guard's phase, by its own name: told at once where `now`, else as numbers are. */
void progress_guard(struct progress *progress, const char *phase,
		    const struct move_numbers *numbers, bool now);
/* The VM runs, and what is left of its memory comes. */
void progress_ran(struct progress *progress, const struct move_numbers *numbers);
void progress_warning(struct progress *progress, const char *message);
/* For struct failpoint: `ctx` is the progress. Any thread. */
void progress_failpoint(void *ctx, const char *name);
/* The VM ran, and has ended as it should: why, told with the last line. */
void progress_ended(struct progress *progress, const char *why);
/* The last line; waits up to a second for a reader that is slow. `err` with all but MOVE_END_RAN. */
void progress_end(struct progress *progress, enum move_end end, const struct move_numbers *numbers,
		  const struct error *err);
/* Whether whoever looked has gone or said {"cancel":true}. */
bool progress_cancelled(struct progress *progress);
