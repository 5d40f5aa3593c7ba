/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which VMs came to this host, or were to come: STATE/arrivals/NAME, beside the marks (move/marks.h), which are the truth. With both
 * this host can tell whether a VM of that name may be started here. Any thread.
 */

#include "base/error.h"
#include "base/uuid.h"
#include "move/handover.h"
#include "move/marks.h"

struct arrival {
	char uuid[UUID_TEXT];
	uint64_t ran;	     /* the highest generation that ran here; 0: none */
	uint64_t generation; /* of the latest that was to come */
	uint8_t token[MARK_TOKEN_BYTES];
	char source[MARK_PEER_MAX];
};

/* 1, 0: nothing is known of the name, negative errno (also of the token's mark, but for one that is not there). What that mark says is
 * taken in: `ran` is true. */
_must_check_ int arrivals_read(int state_fd, struct marks *marks, const char *name,
			       struct arrival *ret_arrival);
/* Notes one that is to come, durably. */
_must_check_ int arrivals_note(int state_fd, struct marks *marks, const char *name,
			       const struct arrival *arrival);

/* Forgets it, by the operator's word only; not which generation ran (peer/generations.h). */
_must_check_ int arrivals_drop(int state_fd, struct marks *marks, const char *name);

/* The highest generation of this VM's ownership that this host has seen: 0 for none. A negative errno when a note or mark that may
 * know of one cannot be read: then no generation is known to be new. */
_must_check_ int arrivals_known(int state_fd, struct marks *marks, const char *name,
				const char *uuid, uint64_t *ret_known);

/* What the marks say about starting NAME here; `ret_given`, `ret_arrival` as far as there are any. */
_must_check_ int arrivals_may_start(int state_fd, struct marks *marks, const char *name,
				    enum handover_start *ret_start, struct mark_given *ret_given,
				    struct arrival *ret_arrival);
/* For `utsusu run`: 0, or a refusal that says where the VM is and the way out. A host without any state knows of nothing. `saved`: the token
 * of the file that it is restored from, whose own mark does not stand against it; or NULL. */
_must_check_ int arrivals_check_start(const char *name, const uint8_t *saved, struct error *err);
