/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a handler of the daemon works with. utsusud forks one process for each connection: it has one thread, reads keys and
 * lists anew, waits with deadlines, and ends. So nothing that a peer sends is read in the daemon itself, what one of them
 * waits for keeps no other waiting, and a restart of the daemon disturbs none.
 */

#include "base/log.h"
#include "peer/identity.h"
#include "peer/peers.h"

struct peer_host {
	int state_fd;  /* host/state_dir.h */
	int folder_fd; /* peer/door.h */
	uint32_t port; /* of this host's daemon */
	struct identity *identity;
	struct peers *peers;
	const struct log *log;
	bool *known; /* set (atomically) when a peer has proved who it is; NULL: nobody looks. Borrowed */
};

/* Opens and reads all of it, for one handler. Released by peer_host_release, also after a failure. */
_must_check_ int peer_host_open(struct peer_host *host, uint32_t port, const struct log *log,
				struct error *err);
void peer_host_release(struct peer_host *host);

/* The handlers; each takes the connection. */
void serve_control(struct peer_host *host, int client); /* control.c: a command of this host */
void serve_peer(struct peer_host *host, int client);	/* serve.c: another daemon, or a stream */
