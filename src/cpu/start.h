/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The registers with which the boot vCPU starts, when a kernel is entered without firmware. Other vCPUs are
 * left as KVM makes them: reset, waiting for the start-up IPI.
 */

#include <stdint.h>

#include "kvm/kvm.h"

enum cpu_start_mode {
	CPU_START_LONG64, /* 64-bit code, paging on: Linux's 64-bit boot protocol */
	CPU_START_FLAT32, /* 32-bit protected mode, paging off: Linux's 32-bit boot protocol and PVH */
};

/* Selectors of the GDT that boot/ writes; the hidden parts are loaded from the same descriptors. */
#define CPU_START_CS 0x10
#define CPU_START_DS 0x18
#define CPU_START_TSS 0x20

/* GDT descriptors for those selectors: flat code and data, and a busy TSS (VT-x insists on one). */
#define CPU_START_GDT_ENTRIES 5
void cpu_start_gdt(enum cpu_start_mode mode, uint64_t ret_gdt[CPU_START_GDT_ENTRIES]);

struct cpu_start {
	enum cpu_start_mode mode;
	uint64_t rip, rsp, rsi, rbx;
	uint64_t cr3; /* LONG64: identity-mapped page tables */
	uint64_t gdt; /* guest address of the GDT */
};

/* Control or vCPU thread, before the vCPU first runs: loads the segment and control registers, then the
 * general ones. The rest stays as after reset. */
_must_check_ int cpu_start_set(struct kvm_vcpu *vcpu, const struct cpu_start *start);
