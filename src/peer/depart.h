/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A VM that is to go: the source's side of a move, in the handler of `utsusu move`. One thread. */

#include "peer/host.h"
#include "peer/request.h"

/*
 * Does CONTROL_MOVE: judges both sides, and unless only that was asked for makes the streams and starts both movers; then answers
 * `client` and waits for this side's mover. `progress_fd` (taken; -1: nobody) gets what move/mover/progress.h describes, its last line
 * in any case.
 *
 *   answer: {"ok": true, "problems": [{message, status}, ...], "notes": ["...", ...], "moving": true|false}
 */
void depart(struct peer_host *host, const struct control_request *request, int client,
	    int progress_fd);
/* Does CONTROL_PROTECT in the same way: the VM stays, and its backup is made there. Returns once whoever asked has gone or the guard has ended. */
void protect(struct peer_host *host, const struct control_request *request, int client,
	     int progress_fd);
