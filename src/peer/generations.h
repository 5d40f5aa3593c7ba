/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The highest generation of each VM's ownership that ran, by its UUID, whatever became of the marks and notes that said so:
 * STATE/generations/UUID. A VM that comes with one that is not higher is an old one. Any thread.
 */

#include <stdint.h>

#include "base/macros.h"

/* 0 with `*ret_generation` (0: none is known), or a negative errno, also for one that cannot be read. */
_must_check_ int generations_read(int state_fd, const char *uuid, uint64_t *ret_generation);
/* Durably at least `generation` from now on. */
_must_check_ int generations_raise(int state_fd, const char *uuid, uint64_t generation);
