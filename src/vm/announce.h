/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Arrival: the networks learn where the VM's addresses are now. */

#include "vm/vm.h"

/* Control thread, once after a VM that was loaded began to run here. Returns at once; what is repeated goes on by itself. */
void vm_announce(struct vm *vm);
