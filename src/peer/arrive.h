/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A VM that is to come: the destination's side of a move, in the handler that serves its source's daemon. One thread. */

#include "peer/host.h"
#include "peer/request.h"
#include "peer/talk.h"

struct arriving;

_must_check_ int arriving_new(struct peer_host *host, struct talk *talk,
			      struct arriving **ret_arriving);
/* Ends what was not started: its VM's process, its reservation; its token never ran. */
void arriving_free(struct arriving *arriving);

/* PEER_CHECK, RESERVE, FILE, LAUNCH, START, in this order; `request` may be emptied. A new answer, or NULL with `err`. After a step that
 * failed none is taken any more. */
json_t *arriving_do(struct arriving *arriving, struct peer_request *request, struct error *err);
/* True after START: the handler has then nothing more to answer. */
bool arriving_is_started(const struct arriving *arriving);
/* True when a step failed: the handler is to end. */
bool arriving_has_failed(const struct arriving *arriving);
/* Waits for the end of the mover, and notes what became of it. */
void arriving_finish(struct arriving *arriving);
