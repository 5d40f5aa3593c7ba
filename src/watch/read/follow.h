/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A follower's side of lossless mode: its slot in a ring's header (watch/record.h), which the writer looks at before
 * it overwrites. One thread; the slot is shared memory that others may have changed. */

#include <stdbool.h>

#include "base/macros.h"
#include "watch/record.h"

struct follow {
	struct ring_follower *slot; /* NULL: does not follow */
	uint64_t token;
	uint64_t told; /* the tail as it was told last */
};

/* A token for the slots of one reader: random, never 0. */
uint64_t follow_new_token(void);
/* Takes a slot; the writer waits from the newest record on. -EBUSY: all are taken. */
_must_check_ int follow_begin(struct ring_header *header, uint64_t token,
			      struct follow *ret_follow);
/* Tells that records up to `tail` were read. False: this reader was expelled, and follows no more. */
_must_check_ bool follow_advance(struct follow *follow, uint64_t tail);
/* Gives the slot back, if it is still this reader's. Fine when it does not follow. */
void follow_end(struct follow *follow);
