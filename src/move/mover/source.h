/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The source's side of a move, from its check to its end. */

#include "move/mover/mover.h"

/*
 * Moves the VM behind the link away. Returns how it ended, with `*ret_numbers`, and `err` filled for every end but MOVE_END_RAN; has
 * told so in its progress. MOVE_END_IN_DOUBT: the VM stands still, given; whoever started the mover asks the other host
 * and tells the VM. After MOVE_END_RAN the VM's process ends by itself. One thread, until it returns.
 */
enum move_end move_source(const struct mover_settings *settings, struct move_numbers *ret_numbers,
			  struct error *err);
