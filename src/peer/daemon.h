/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The daemon itself: two listening sockets, and a process for each connection. One thread. */

#include "base/log.h"
#include "peer/peers.h"

struct daemon_options {
	char *listen; /* an address of this host; NULL: all of them. Owned by whoever filled it */
	uint32_t port;
};

/* Serves until SIGTERM or SIGINT: 0, or why it could not begin. Handlers that are at work then go on. */
_must_check_ int daemon_run(const struct daemon_options *options, const struct log *log,
			    struct error *err);
