/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Relays: one utsusu-arbiter beside each VM that has, or may get, a record at the arbiter. FOLDER/relay-NAME (the daemon's folder, which
 * a restart of the host empties, as it ends all VMs) says that this VM needs one; the living relay holds its lock, so there are never two.
 * Whoever finds it free starts another. It goes when the VM is gone. One thread.
 */

#include "base/error.h"
#include "base/uuid.h"
#include "move/marks.h"
#include "protect/ownership.h"

#define RELAY_PREFIX "relay-"

struct relay_note {
	char uuid[UUID_TEXT];	  /* the VM's: another one of this name needs none */
	char peer[MARK_PEER_MAX]; /* the other host of the pair */
	struct ownership_id session;
};

/* Says that the VM needs a relay; `*ret_there`: it has one. */
_must_check_ int relay_want(int folder_fd, const char *name, const struct relay_note *note,
			    bool *ret_there);
/* Of the note, open: whether its relay lives. */
bool relay_is_there(int fd);
/* The relay's own: takes its lock. -EBUSY: there is one already; -ENOENT: nobody wants one. The descriptor is held as long as it lives. */
_must_check_ int relay_lock(int folder_fd, const char *name, int *ret_fd);
_must_check_ int relay_read(int folder_fd, const char *name, struct relay_note *ret_note);
/* The VM needs none any more. */
void relay_forget(int folder_fd, const char *name);
