/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A mover's link to a VM that is near (near_vm.h), so that a whole move runs in one test. */

#include "move/link.h"
#include "near_vm.h"

/* The mover's end. `unknown`: the names of ops whose answer gets lost after they were done ("given", "commit"), or NULL. */
struct move_link *near_link_new(struct near_vm *near, const char *unknown);
