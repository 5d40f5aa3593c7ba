/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The source's part in post-copy. The VM stands here and is given away before all of its memory has gone:
 *
 *   last collect -> MISSING... -> STATE, STOOD -> READY -> given, COMMIT -> the rest over all streams, each page once
 *                                                 FAULT -> that page now, its neighbours after it
 *
 * From STOOD on an ear (move/mover/ear.h) listens on stream 0 and serves what is wanted; all else is still the driver's.
 */

#include "move/mover/ear.h"
#include "move/mover/source_internal.h"

struct source_rest {
	struct ear ear;
	bool sends;	   /* the round of the rest has begun */
	bool sent;	   /* and stream 0 has told its end */
	uint64_t served;   /* pages that somebody waited for: atomic */
	uint64_t bytes;	   /* of the rest, when it began */
	uint64_t signs;	   /* bytes of all streams, either way, when they were last looked at */
	uint64_t heard_ns; /* when that last was more than before */
	uint64_t began_ns; /* to listen */
	bool silent;	   /* for so long that people are told */
};

/* In PHASE_MEMORY: what is left shall follow after the run. Posts ON_POSTCOPY. */
_must_check_ int source_rest_decide(struct source *source, const char *why);
/* In PHASE_STATE, in place of the last round: tells what the other side lacks. */
_must_check_ int source_rest_tell(struct source *source);
/* After STOOD. */
_must_check_ int source_rest_listen_on(struct source *source);
/* COMMIT went: nothing but NEVER brings the VM back, and pages that go meanwhile do no harm. */
void source_rest_begin(struct source *source);
/* In place of the driver's listening, while there is a rest. */
void source_rest_hear(struct source *source, unsigned int timeout_ms);
/* Whether an ear listens on stream 0. */
bool source_rest_listens(const struct source *source);
void source_rest_release(struct source *source);
