/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* utsusu resolve: a VM that had a backup when it was last seen here. */

#include "programs/utsusu.h"

/* 1: it was one, and was told of or resolved; 0: it is for others; negative errno with `err`. */
_must_check_ int resolve_protected(const struct command_options *options, struct error *err);
