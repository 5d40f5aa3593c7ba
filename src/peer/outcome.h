/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What became of a token that this host was given: the destination's side of settling, by move/handover.h. One thread. */

#include "move/marks.h"
#include "peer/host.h"

/*
 * Makes an end of an open token - "never", durably, and its VM's process ended, unless it ran - and tells which: `*ret_result`
 * (may be NULL) is RAN or NEVER for good, or OPEN when it is not known yet; ask again then. -ENOENT: this host does not
 * know the token (any more), -EBADMSG and others: its mark cannot be read. Nothing may be concluded from these.
 */
_must_check_ int outcome_close(struct peer_host *host, const uint8_t token[MARK_TOKEN_BYTES],
			       enum mark_result *ret_result);
/* Looks only. Errors as above. */
_must_check_ int outcome_look(struct peer_host *host, const uint8_t token[MARK_TOKEN_BYTES],
			      enum mark_result *ret_result);
