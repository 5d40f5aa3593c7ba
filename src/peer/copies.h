/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Copies of disks that come by a move: STATE/copies/NAME, for each disk of this host's list into which one was begun. It is there,
 * durably, before the first byte is written, and goes when the VM runs here. So what is left of a copy that did not come to its end
 * is known, whatever ended it, and no VM is started from it. Any thread.
 */

#include <sys/stat.h>

#include "move/marks.h"
#include "vm/config.h"

struct copy_note {
	char disk[64];	     /* its name in the list; the file's */
	char vm[LIMIT_NAME]; /* whose it was to be */
	char source[MARK_PEER_MAX];
	uint8_t token[MARK_TOKEN_BYTES];
};

/* Notes a copy that is to begin, in place of all that this file or device had. */
_must_check_ int copies_note(int state_fd, const struct copy_note *note, const struct stat *st);
/* The VM of this token runs here: its disks are whole. Durable when it succeeds. */
_must_check_ int copies_forget(int state_fd, const uint8_t token[MARK_TOKEN_BYTES]);

/* Whether this file or device holds a copy that did not come to its end: 1, 0, negative errno. `ret_note` may be NULL. */
_must_check_ int copies_incomplete(int state_fd, struct marks *marks, const struct stat *st,
				   struct copy_note *ret_note);
/* For whoever starts a VM: 0, or a refusal that names the first disk that may not be used. A host without any state knows of none. */
_must_check_ int copies_check_start(const struct vm_config *config, struct error *err);
