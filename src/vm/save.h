/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The state of a whole VM but its RAM, by the one state description, in the board's order: the guests' clock,
 * vCPUs (each on its own thread, in parallel), then devices. Moves, checkpoints and tests use the same two
 * functions. Control thread, with the quiesce barrier held.
 */

#include "vm/vm.h"

/* The state's version that this program writes, and the oldest that it reads and can write for an older program. What each
 * one brought:
 *   2  section "machine"; "clock" tells its moment
 *   3  "machine" tells whether its user paused it */
#define VM_STATE_VERSION 3
#define VM_STATE_VERSION_MIN 1
#define VM_STATE_PAUSED_SINCE 3

enum vm_save_scope {
	VM_SAVE_ALL,
	VM_SAVE_TOUCHED, /* only devices touched since the last save; vCPUs and clock always */
};

/* Appends sections to `out` and clears the devices' touched marks. All clocks are read at one moment, vm->saved_ns of the
 * loop's clock: from there counts how long the guest stands still. -EBUSY: a vCPU stands in the middle of an access
 * (vcpu_hold). */
_must_check_ int vm_save(struct vm *vm, enum vm_save_scope scope, struct buffer *out,
			 struct error *err);
/* The same for a program that reads state of `version` (VM_STATE_VERSION_MIN..VM_STATE_VERSION; else -EPROTONOSUPPORT, as for
 * a paused VM when that program would let it run). */
_must_check_ int vm_save_as(struct vm *vm, enum vm_save_scope scope, uint16_t version,
			    struct buffer *out, struct error *err);

enum vm_load_mode {
	/* Judges as WHOLE does, and has the real KVM judge the vCPUs; then all is as before: no device was touched, the
	 * vCPUs are back at power-on. May be followed by another load. Only before the VM first ran. */
	VM_LOAD_REHEARSAL,
	VM_LOAD_PARTIAL, /* what the stream does not name keeps what it has (epochs) */
	VM_LOAD_WHOLE, /* refused, by its name, is a stream that lacks anything that this VM has. One that its user paused is held
			  by its user again */
};

#define VM_LOAD_STOPPED_MAX (100ULL * 365 * 86400 * 1000000000) /* ns */

/*
 * Loads sections (untrusted) into a VM made with the same configuration whose RAM was filled before. `stopped_ns`: how
 * long the guest stood still between the moment of the snapshot and this call, as measured here. The whole stream is
 * judged first: what is refused there has changed nothing. After a later refusal (KVM's, a device's) the VM must not run.
 */
_must_check_ int vm_load(struct vm *vm, const void *stream, size_t len, uint64_t stopped_ns,
			 enum vm_load_mode mode, struct error *err);
