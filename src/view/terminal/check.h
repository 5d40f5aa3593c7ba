/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/error.h"
#include "base/macros.h"

/* Whether standard input and output are a terminal whose cursor can be moved. -ENOTTY, and `err` names the ways out: to be
 * asked before ncurses is begun. */
_must_check_ int terminal_check(struct error *err);
