/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The arbiter of one VM: its ownership record in etcd, changed only by compare-and-swap (protect/ownership.h says why;
 * docs/arbiter.md, "The arbiter", what etcd is asked).
 *
 *                         arbiter_swap(want) --+--> WON      what was wanted stands there, at a known revision
 *                                              +--> LOST     something else stands there: this
 *                                              '--> UNKNOWN  anything that is not certain, also when it may still land
 *
 * One thread, that of the loop; nothing here waits, but for the sync of a note of some 100 bytes in the state directory, which is
 * there before an answer is told. Callbacks come from the loop, never from inside a call; they may call everything here but arbiter_free.
 * Answers are untrusted: what is not certain, or contradicts what this host saw before, is UNKNOWN with the reason.
 */

#include "base/error.h"
#include "base/limits.h"
#include "base/loop.h"
#include "base/uuid.h"
#include "protect/ownership.h"

#define ARBITER_DEADLINE_MS                                                                        \
	5000 /* when none is given: etcd's own election takes about one second */
#define ARBITER_SILENCE_MS 10000

/* One member of the cluster. `url` is http[s]://HOST:PORT without a path. Name servers are never asked: where HOST is a name (as the
 * member's certificate has it), `address` is its number. */
struct arbiter_endpoint {
	const char *url;
	const char *address; /* NULL: HOST is a number */
};

/* All borrowed until arbiter_free. */
struct arbiter_config {
	const struct arbiter_endpoint *endpoints;
	unsigned int n_endpoints; /* 1 .. LIMIT_ARBITER_ENDPOINTS */
	const char *ca; /* file, PEM: who signs the members' certificates. NULL: only http:// */
	const char *certificate; /* files, PEM; NULL for none */
	const char *key;
	const char *
		user; /* NULL: etcd's authentication is off. (A certificate's name does not log in through the gateway.) */
	const char *password;
	unsigned int deadline_ms; /* of a swap or a read, all in all; 0: ARBITER_DEADLINE_MS */
	/* A watch that says nothing is doubted after this, one that fails is begun anew after a tenth of it. 0: ARBITER_SILENCE_MS. */
	unsigned int silence_ms;
};

enum arbiter_outcome { ARBITER_WON, ARBITER_LOST, ARBITER_UNKNOWN };
const char *arbiter_outcome_name(enum arbiter_outcome outcome); /* "won", "lost", "unknown" */

struct arbiter_swapped {
	enum arbiter_outcome outcome;
	/* WON: what was wanted, with its new revision. LOST: what stands there; revision 0, OWNERSHIP_NONE: nothing does. UNKNOWN: zeroes. */
	struct ownership_record record;
	/* Of UNKNOWN: false when this swap certainly did nothing and never will (nobody was reached, or etcd did not let us). An earlier one
	 * may still land. */
	bool may_land;
	struct error why; /* of UNKNOWN, one line */
};

struct arbiter_events {
	void (*swapped)(void *ctx, const struct arbiter_swapped *swapped);
	/* What stands there: after arbiter_read, and while watching after each change. Revision 0 and OWNERSHIP_NONE: nothing, and never did
	 * as far as this host knows. Or `record` is NULL and `err` says why that is not known; a watch says it once and goes on trying. */
	void (*stands)(void *ctx, const struct ownership_record *record, const struct error *err);
	void *ctx;
};

struct arbiter;

/* `state_fd`: the state directory; borrowed, as `loop` and `config` are. -EINVAL, -EBADMSG, ... with `err`. SIGPIPE is ignored by the
 * program, and the first arbiter is opened while there is one thread. */
_must_check_ int arbiter_open(struct loop *loop, const struct arbiter_config *config, int state_fd,
			      const char uuid[UUID_TEXT], const struct arbiter_events *events,
			      struct arbiter **ret_arbiter, struct error *err);
/* No callback comes any more. A swap that is under way may still land. */
void arbiter_free(struct arbiter *arbiter);

/* Puts `want` there if what stands there still has the revision want->revision (0: nothing). `swapped` is called once for each 0 that this
 * returns. -EBUSY: one is under way; -EINVAL: no record that may stand there; -ESTALE: it would not follow what this host saw - above all,
 * make a record anew that has gone from etcd; -ENOMEM. */
_must_check_ int arbiter_swap(struct arbiter *arbiter, const struct ownership_record *want);

/* Asks what stands there, as of now: `stands` is called once at least. -ENOMEM. */
_must_check_ int arbiter_read(struct arbiter *arbiter);

/* Reads, and again after each change, until arbiter_unwatch: `stands` tells each revision once. It reads as well when the watch ends or says
 * nothing, so no change stays unheard for longer than silence_ms and a deadline while etcd answers. */
void arbiter_watch(struct arbiter *arbiter);
void arbiter_unwatch(struct arbiter *arbiter);

/* For protect/ownership.h: the events of an outcome and of what stands there. */
void arbiter_swapped_event(const struct arbiter_swapped *swapped,
			   struct ownership_event *ret_event);
void arbiter_stands_event(const struct ownership_record *record, struct ownership_event *ret_event);
