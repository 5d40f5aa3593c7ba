/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* In etcd's place where host.json says "manual": the record as this host keeps it (peer/manual.h), and persons' words. One thread. */

#include "peer/manual.h"
#include "programs/arbiter_host.h"

struct manual_arbiter {
	int state_fd; /* borrowed */
	int lock_fd;
	char uuid[UUID_TEXT];
	struct manual_records records;
};

/* -EBUSY: another relay has the record of this UUID. */
_must_check_ int manual_arbiter_open(struct manual_arbiter *arbiter, int state_fd, const char *uuid,
				     struct error *err);
void manual_arbiter_release(struct manual_arbiter *arbiter);
/* As arbiter.h's, at once. UNKNOWN, with `why`: it waits for a person's word, or cannot be kept. */
void manual_arbiter_swap(struct manual_arbiter *arbiter, const char *name,
			 const struct ownership_record *want, struct arbiter_swapped *ret_swapped);
/* What the owner's host says stands there: 1: it does here, too, now; 0: it does not concern this one. */
_must_check_ int manual_arbiter_follow(struct manual_arbiter *arbiter,
				       const struct ownership_record *heard,
				       const struct ownership_id *session);
/* The other side says of itself that it has ended, of this record. 1: noted; 0: of another record. */
_must_check_ int manual_arbiter_heard_end(struct manual_arbiter *arbiter,
					  const struct ownership_record *of, bool we_own);
