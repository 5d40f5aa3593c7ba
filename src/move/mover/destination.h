/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The destination's side of a move. */

#include "move/mover/mover.h"

/*
 * Takes the VM that the other side sends into the one behind the link, which was made to be loaded. Returns how it ended, with
 * `*ret_numbers`, and `err` filled for every end but MOVE_END_RAN; has told so in its progress. With MOVE_END_RAN the VM
 * runs, whatever becomes of the other side. Else the token's result is "never" and the VM's process has ended - or, with
 * MOVE_END_IN_DOUBT, that is left to whoever started the mover to see to. One thread, until it returns.
 */
enum move_end move_destination(const struct mover_settings *settings,
			       struct move_numbers *ret_numbers, struct error *err);
