/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The state of a whole VM but its RAM, by the one state description, in the board's order: the guests' clock,
 * vCPUs (each on its own thread, in parallel), then devices. Moves, checkpoints and tests use the same two
 * functions. Control thread, with the quiesce barrier held.
 */

#include "vm/vm.h"

enum vm_save_scope {
	VM_SAVE_ALL,
	VM_SAVE_TOUCHED, /* only devices touched since the last save; vCPUs and clock always */
};

/* Appends sections to `out` and clears the devices' touched marks. */
_must_check_ int vm_save(struct vm *vm, enum vm_save_scope scope, struct buffer *out,
			 struct error *err);

/*
 * Loads sections (untrusted) into a VM made with the same configuration whose RAM was filled before. Vcpus and
 * devices that the stream does not name keep what they have. `stopped_ns`: how long the guest stood still, as
 * measured here. After a refusal the VM must not run.
 */
_must_check_ int vm_load(struct vm *vm, const void *stream, size_t len, uint64_t stopped_ns,
			 struct error *err);
