/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What must be equal in two VMs for one to go on as the other, as a section of the state that stands before all others: how
 * many vCPUs, where RAM lies, which processor the guest was shown. The processor is not compared: this host must be able to
 * show the same one, and then does (cpu/compat.h), so that the model follows the VM whatever the host it began on.
 */

#include "vm/vm.h"

#define MACHINE_CPUID_MAX 256 /* cpuid.h's, as an array's length */

/* What a guest finds on the board whatever its configuration: ports, windows, interrupt lines, ACPI tables. A change that a
 * running guest would notice raises it. */
#define MACHINE_BOARD 1

struct machine_bank {
	uint64_t start, len, offset; /* memory_bank's */
};

struct machine_cpuid {
	uint32_t function, index, flags, eax, ebx, ecx, edx; /* kvm_cpuid_entry2's */
};

struct machine_state {
	uint32_t state_version; /* of the stream: VM_STATE_VERSION */
	uint32_t board;
	uint32_t irqchip; /* MACHINE_IRQCHIP_... */
	uint32_t n_vcpus, max_vcpus;
	uint32_t n_banks;
	struct machine_bank banks[MEMORY_BANKS_MAX];
	uint32_t model; /* enum cpu_model: for information */
	uint32_t n_cpuid;
	struct machine_cpuid cpuid[MACHINE_CPUID_MAX]; /* the boot vCPU's */
	uint8_t paused; /* by its user (bool): it does not run before that one says so */
};
extern const struct state_table machine_table;

#define MACHINE_IRQCHIP_SPLIT 1 /* the LAPIC is KVM's, IOAPIC, PIC and PIT are ours */

void machine_describe(const struct vm *vm, uint32_t state_version, struct machine_state *ret_state);
/* Whether this VM on this host can go on as the one described (decoded, checked); names what differs. */
_must_check_ int machine_judge(struct vm *vm, const struct machine_state *saved, struct error *err);
/* The described CPUID, malloc'ed, the caller's. NULL: no memory. */
struct kvm_cpuid2 *machine_cpuid(const struct machine_state *state);
