/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The parts of a VM under a debugger: gdb_target.c (registers, memory), gdb_breakpoints.c, gdb_stops.c. */

#include "debug/gdb_target.h"

#define GDB_INT3 0xcc

/* Work on one vCPU's thread, the guest standing still. */
struct gdb_job {
	struct gdb_target *target;
	uint32_t vcpu;
	int (*work)(struct gdb_job *job, struct kvm_vcpu *kvm);
	void *data; /* of the work */
	const struct gdb_access *access;
	ssize_t result;
};

/* Does it and returns what the work returned. */
ssize_t gdb_job_run(struct gdb_job *job);
/* A job on memory that access->vcpu maps; for a kernel's address that it does not map, on another vCPU that does. */
ssize_t gdb_job_access(struct gdb_target *target, const struct gdb_access *access,
		       int (*work)(struct gdb_job *job, struct kvm_vcpu *kvm), void *data);
/* Inside a job: where `address` is. -EFAULT. */
_must_check_ int gdb_job_translate(const struct gdb_job *job, struct kvm_vcpu *kvm,
				   uint64_t address, gpa_t *ret_at);

/* The breakpoint whose INT3 is at `at`; NULL: none. Any thread, while breakpoints do not change. */
const struct gdb_software *gdb_breakpoint_at(const struct gdb_target *target, gpa_t at);
/* What KVM is to watch for on this vCPU. Any thread, as above. */
struct kvm_guest_debug gdb_breakpoints_debug(const struct gdb_target *target, uint32_t vcpu);
/* Takes all out. */
void gdb_breakpoints_clear(struct gdb_target *target);
