/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * VMs of this host that were given a backup: STATE/protected/NAME. It is there, durably, before the record may say so, and goes when the
 * record says that an instance of this host has the VM alone. In between it is the arbiter that knows who runs it: nobody starts one
 * of this name here. Any thread.
 */

#include "base/error.h"
#include "base/uuid.h"
#include "move/marks.h"
#include "protect/ownership.h"

struct protected_note {
	char uuid[UUID_TEXT];
	char peer[MARK_PEER_MAX]; /* who was its backup; "": not known */
	struct ownership_id session;
};

_must_check_ int protected_note(int state_fd, const char *name, const struct protected_note *note);
/* 1, 0: there is none, negative errno (one that cannot be read is -EBADMSG). */
_must_check_ int protected_read(int state_fd, const char *name, struct protected_note *ret_note);
/* Durable when it succeeds. */
_must_check_ int protected_drop(int state_fd, const char *name);
/* For whoever starts a VM: 0, or a refusal with the way out. */
_must_check_ int protected_check_start(int state_fd, const char *name, struct error *err);
