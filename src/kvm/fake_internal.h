/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What fake.c, the system and its VMs, and fake_vcpu.c share. */

#include <pthread.h>

#include "kvm/fake.h"

#define FAKE_SLOTS 8
#define FAKE_MSRS 256
#define FAKE_XSAVE_MAX 8192

struct fake_slot {
	uint64_t n_pages;
	uint32_t flags;
	uint64_t *dirty; /* one bit per page */
};

struct kvm_vm {
	pthread_mutex_t lock; /* guards all of it */
	struct fake_slot slots[FAKE_SLOTS];
	uint64_t msi_count;
	struct kvm_msi msi_last;
	struct kvm_clock_data clock; /* less the host's monotonic clock */
	struct kvm_fake_host host;
	int dirty_log_error;
};

struct kvm_vcpu {
	struct kvm_vm *vm;
	struct kvm_run *run;
	const struct kvm_fake_exit *exits;
	size_t n_exits, next;
	uint64_t repeated;
	bool answered; /* the exit before has shown its answer */
	bool done;     /* atomic */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	uint8_t xsave[FAKE_XSAVE_MAX];
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
	struct kvm_msr_entry msrs[FAKE_MSRS];
	size_t n_msrs;
	uint32_t refused_msr;	/* 0: none */
	uint32_t forgotten_msr; /* 0: none */
	uint32_t tsc_khz;
	uint64_t tsc_offset;
	struct kvm_cpuid2 *cpuid; /* NULL: none was set */
	struct kvm_guest_debug guest_debug;
};

/* NULL: no memory, or more entries than any host has. */
struct kvm_cpuid2 *fake_copy_cpuid(const struct kvm_cpuid2 *from);
