/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How far this host has seen a VM's record, kept over restarts: STATE/arbiter/UUID. An etcd that is restored from a copy goes back in time, and
 * then a record stands there that others have acted beyond; one that was made anew knows nothing. Both are refused here, for every answer.
 *
 *   {"version":1,"cluster":"<number>","revision":"<number>","record":"<number>","generation":"<number>"}
 *
 * What was noted only grows. The daemon's thread; each VM has one writer at a time on a host. Writing waits for one sync of the state
 * directory's disk, as all that this host must not forget.
 */

#include "arbiter/gateway.h"
#include "base/error.h"
#include "base/uuid.h"
#include "protect/ownership.h"

struct seen {
	uint64_t cluster;    /* 0 with revision 0: nothing was seen yet */
	uint64_t revision;   /* highest, of the store */
	uint64_t record;     /* highest, of the VM's record; 0: none was seen */
	uint64_t generation; /* of that record */
};

/* What is kept; zeroes when there is nothing. -EBADMSG with `err`: damaged. */
_must_check_ int seen_read(int state_fd, const char uuid[UUID_TEXT], struct seen *ret_seen,
			   struct error *err);

/*
 * Judges an answer from `endpoint` (named in errors) and notes it before it returns: 0 when `record` (its revision 0: there is none) may be
 * acted on. `before`: what had been seen when the question left. etcd answers in the order of its revisions, but answers to two questions may
 * overtake each other: one that is older than `seen` is held against `before`, and noted no more. -ESTALE with `err`, and nothing
 * noted: another cluster, a store or a record that went back, a record that has gone.
 */
_must_check_ int seen_take(struct seen *seen, const struct seen *before, int state_fd,
			   const char uuid[UUID_TEXT], const char *endpoint,
			   const struct gateway_header *header,
			   const struct ownership_record *record, struct error *err);

/* The file's text. -EBADMSG: damaged. */
#define SEEN_TEXT 160 /* bytes at most, with the NUL */
_must_check_ int seen_decode(const char *text, size_t len, struct seen *ret_seen);
void seen_encode(const struct seen *seen, char ret_text[SEEN_TEXT]);
