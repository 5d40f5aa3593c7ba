/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which results of tokens (STATE/taken) may be forgotten: those of which the host that the VM was to come from says that it will not ask
 * any more, because what became of it is durably settled there. STATE/sources/TOKEN says which host that is. Of a host that
 * never answers, all are kept. One thread.
 */

#include "peer/host.h"
#include "peer/request.h"

/* Destination: of whom a new token is. Before it is told to anybody. */
_must_check_ int retire_note(int state_fd, const char *token, const char *source, const char *name);
/* Destination: asks about all tokens that are some minutes old, and forgets those that nobody will ask for. */
void retire_all(struct peer_host *host);
/* Source: whether this host may still ask what became of a token: its VM is in a move, or its mark is open or cannot be read. */
bool retire_is_open(struct peer_host *host, const char *name,
		    const uint8_t token[MOVE_TOKEN_BYTES]);
