/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which machine a move is about, as the source's mover tells it: the last look before the VM's state says the same in detail. It
 * comes from a peer: everything is judged, and a refusal names what does not fit.
 */

#include "move/link.h"

/* The machine as JSON: what a guest can see of its configuration, and how its RAM lies. free() it; NULL: out of memory, or the
 * facts are no JSON. */
char *move_machine_describe(const struct move_facts *facts);
/* Compares the peer's description with ours: 0, -EBADMSG, or -EINVAL naming the first part that differs. */
_must_check_ int move_machine_compare(const struct move_facts *ours, const void *text, size_t len,
				      struct error *err);
