/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Settling what was left in doubt: the source's side, by move/handover.h. For each VM that was given and of which it is not known
 * whether it ran there, the other host is asked, again and again, until it says `ran` or `never`; then the VM that stands here, or its
 * mark, is told. Nothing is concluded from silence. One thread.
 */

#include "move/marks.h"
#include "peer/host.h"

enum settled {
	SETTLED_HERE, /* not given, or never: it is this host's */
	SETTLED_RAN,  /* it lives there */
	SETTLED_OPEN, /* not known yet */
};

/* The hosts that are to be asked, by the marks of this host that are open; "" among them when one cannot be read. */
struct settle_peers {
	size_t n;
	char names[LIMIT_PEERS][MARK_PEER_MAX];
};
/* Cheap. */
void settle_find_peers(struct settle_peers *ret_peers);
/* Asks `peer` about all that are open; a VM whose mover is at work is left to it for a while. Of marks that cannot be read (`peer` "")
 * the VM's process is asked first, if there is one. */
void settle_all(struct peer_host *host, const char *peer);
/* Asks about one, whoever else is at work. */
enum settled settle_one(struct peer_host *host, const char *name);

/* The VM, as the other host sees it. */
struct settle_there {
	bool vm;    /* a process of it is there */
	bool moved; /* it left that host too */
};

/* What the other host says of a token; `close`: it is to make an end. -ENOENT: it is no peer any more. */
_must_check_ int settle_ask(struct peer_host *host, const struct mark_given *given, bool close,
			    enum mark_result *ret_result, struct settle_there *ret_there,
			    struct error *err);
/* The host from which a VM was to come, asked whether it has it. Errors: it does not answer so, or is no peer. */
_must_check_ int settle_ask_source(struct peer_host *host, const char *source, const char *name,
				   struct settle_there *ret_there);
/* 1 when a process of the VM is here, 0 when none is; a negative errno says neither. */
_must_check_ int settle_alive(const char *name, struct error *err);
/* Makes a result known here: to the VM that stands, else in the mark. After an error it is to be told again. */
_must_check_ int settle_tell(struct peer_host *host, const struct mark_given *given,
			     enum mark_result result, struct error *err);
