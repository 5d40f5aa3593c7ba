/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Arrival: the networks learn where the VM's addresses are now. */

#include "vm/vm.h"

/* Control thread, of a VM that is held: it will run here in a moment, and stands still, or nearly so, where it was. Returns when one
 * frame for each network has left, or found no room. */
void vm_announce_soon(struct vm *vm);

/* Control thread, once after a VM that was loaded began to run here, or one that was to run elsewhere goes on. Returns at once; what is
 * repeated goes on by itself. */
void vm_announce(struct vm *vm);
