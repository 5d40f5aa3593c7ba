/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A VM under a debugger.
 *
 * How a vCPU stops: it runs into a breakpoint and leaves the guest; its own thread judges why, remembers it and stays out.
 * The control thread is told and holds the whole VM by the barrier. From then on everything is done inside the barrier:
 * registers are read and memory is touched on the vCPU's thread, never on the control thread.
 */

#include "debug/gdb_guest.h"
#include "vm/vm.h"

#define GDB_REQUEST_TEXT 256

/* A request that a breakpoint of watch/ holds, on its vCPU. */
struct gdb_request {
	void (*go_on)(void *ctx); /* NULL: none is held */
	void *ctx;
	char text[GDB_REQUEST_TEXT];
};

struct gdb_software { /* an INT3 in the guest's code */
	uint64_t linear;
	gpa_t at;
	uint8_t byte; /* what was there */
};

struct gdb_hardware { /* a debug register */
	enum gdb_breakpoint type;
	uint64_t address;
	uint8_t len; /* 1, 2, 4, 8; 0: the slot is free */
};

#define GDB_HARDWARE_SLOTS 4 /* DR0 to DR3 */

struct gdb_target {
	struct vm *vm;
	uint32_t step_flags; /* KVM_GUESTDBG_BLOCKIRQ where KVM has it */

	/* Changed inside the barrier only; vCPU threads read it outside. */
	size_t n_software;
	struct gdb_software software[LIMIT_BREAKPOINTS];
	struct gdb_hardware hardware[GDB_HARDWARE_SLOTS];
	enum gdb_action actions[LIMIT_VCPUS];

	/* Why a vCPU stopped: written by its thread, then published by its bit. */
	struct gdb_stop stops[LIMIT_VCPUS];
	uint64_t stopped; /* atomic: a bit for each vCPU */

	/* Control thread. */
	struct gdb_request requests[LIMIT_VCPUS];
};

/* gdb_guest_ops over `struct gdb_target`; stop and kill are the server's. The guest stands still. */
_must_check_ int gdb_target_get_registers(struct gdb_target *target, uint32_t vcpu,
					  struct gdb_registers *ret_registers);
_must_check_ int gdb_target_set_registers(struct gdb_target *target, uint32_t vcpu,
					  const struct gdb_registers *registers);
ssize_t gdb_target_read(struct gdb_target *target, const struct gdb_access *access, void *buf);
_must_check_ int gdb_target_write(struct gdb_target *target, const struct gdb_access *access,
				  const void *buf);
_must_check_ int gdb_target_breakpoint(struct gdb_target *target, bool insert,
				       enum gdb_breakpoint type, const struct gdb_access *where);
/* Nothing moves while there is a stop that was not told yet and would not come again by itself: take it then. */
_must_check_ int gdb_target_resume(struct gdb_target *target, const enum gdb_action *actions);

/* Before the VM's threads start: asks KVM what it can. */
void gdb_target_init(struct gdb_target *target, struct vm *vm);
/* vm_debugger.hit. */
bool gdb_target_hit(void *target, struct vcpu *vcpu, const struct kvm_debug_exit_arch *exit);
/* The guest stands still: one reason for it that was not told yet. False: there is none. */
bool gdb_target_take_stop(struct gdb_target *target, struct gdb_stop *ret_stop);
/* The guest stands still: takes out all breakpoints and lets every vCPU and request go on. The VM stays held. */
void gdb_target_leave(struct gdb_target *target);
/* Another reason to stop: `vcpu` waits with a request; `go_on` is called once, when it may go on. */
void gdb_target_add_request(struct gdb_target *target, uint32_t vcpu, const char *text,
			    void (*go_on)(void *ctx), void *ctx);
