/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the process of a VM says of its own move. It knows what it gave and to whom, also where the mark cannot be read, and whether it
 * runs although a mark says otherwise. One thread; waits for the answer some seconds at most.
 */

#include "base/error.h"
#include "move/marks.h"

struct standing {
	bool given;		/* it stands, given away by `mark` */
	bool may_give;		/* it is in a move that may still become a gift */
	struct mark_given mark; /* while `given`; open */
};

/* 1 with `*ret_standing`, 0: no process of it is here; a negative errno says nothing. */
_must_check_ int standing_ask(const char *name, struct standing *ret_standing, struct error *err);
