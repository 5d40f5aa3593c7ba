/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The other end of a VM's socket: one connection, blocking with deadlines. One thread. */

#include <jansson.h>

#include "base/error.h"
#include "base/limits.h"

#define API_ANSWER_MS 5000 /* how long a living VM may take to answer */

struct api_connection;

/* Connects to the VM `name`. Errors: no such VM (EXIT_STATUS_NOT_FOUND), one that died, one that
 * does not answer; each with its way out. Freed by api_connection_free. */
_must_check_ int api_connect(const char *name, struct api_connection **ret_connection,
			     struct error *err);
/* The same over a connection that somebody else made: takes `fd` (also on failure). `name` is for messages. */
_must_check_ int api_connection_new(int fd, const char *name,
				    struct api_connection **ret_connection);
void api_connection_free(struct api_connection *connection);
/* Readable when something may have come; what came before is not seen there: api_next_event first. Borrowed. */
int api_connection_fd(const struct api_connection *connection);

/* Sends a request ({"command": ...}, its reference is taken) and waits for the answer, which is the
 * caller's. A refusal by the VM is an error with the VM's own message and status. -ETIMEDOUT after
 * API_ANSWER_MS, -ECONNRESET when the VM has gone. */
_must_check_ int api_call(struct api_connection *connection, json_t *request, json_t **ret_answer,
			  struct error *err);

/* The same with descriptors (at most LIMIT_DESCRIPTORS_SENT, which stay the caller's) on a request of at most 4 KiB, and with a
 * deadline of its own. -EREMOTEIO: the VM refused. -ECONNRESET, -ETIMEDOUT and -EPROTO: whether it did as it was told is not known. */
_must_check_ int api_call_with(struct api_connection *connection, json_t *request, const int *fds,
			       size_t n_fds, int timeout_ms, json_t **ret_answer,
			       struct error *err);

/* Waits at most `timeout_ms` for the next event: -ETIMEDOUT, or -ECONNRESET when the VM has gone.
 */
_must_check_ int api_next_event(struct api_connection *connection, int timeout_ms,
				json_t **ret_event);
