/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The moments of a VM's life, from inside the room; the public ones are in vm.h. */

#include "vm/vm.h"

_must_check_ int lifecycle_init(struct vm *vm);
void lifecycle_release(struct vm *vm);
/* Ends all threads; harmless when none runs. Releases the barrier first. */
void lifecycle_stop_threads(struct vm *vm);
