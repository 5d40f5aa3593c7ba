/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A thin, total wrapper of the KVM interface: one call, one function, negative errno. Two implementations:
 * kvm.c (the kernel) and fake.c (tests: scripted exits, no kernel); a program links one of them.
 * KVM objects belong to the process that made them (they cannot be handed to another one).
 */

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct kvm_system; /* /dev/kvm */
struct kvm_vm;
struct kvm_vcpu;

/* Opens /dev/kvm (`fd` -1) or takes ownership of an open descriptor. -ENOTSUP: not API version 12. */
_must_check_ int kvm_open(int fd, struct kvm_system **ret_system);
void kvm_close(struct kvm_system *system);
/* Value of a capability, 0 when absent. On the system, and on a VM (which may differ). */
int kvm_check(struct kvm_system *system, int capability);
int kvm_vm_check(struct kvm_vm *vm, int capability);
/* CPUID that KVM can give a guest; `*ret` is malloc'ed, the caller's. */
_must_check_ int kvm_supported_cpuid(struct kvm_system *system, struct kvm_cpuid2 **ret);
/* MSRs that make up a vCPU's state; `*ret` is malloc'ed, the caller's. */
_must_check_ int kvm_msr_list(struct kvm_system *system, struct kvm_msr_list **ret);
_must_check_ int kvm_feature_msr(struct kvm_system *system, uint32_t index, uint64_t *ret_value);

_must_check_ int kvm_vm_new(struct kvm_system *system, struct kvm_vm **ret_vm);
void kvm_vm_free(struct kvm_vm *vm);
_must_check_ int kvm_vm_enable(struct kvm_vm *vm, uint32_t capability, const uint64_t args[4]);
_must_check_ int kvm_vm_set_memory(struct kvm_vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa,
				   uint64_t len, void *host);
_must_check_ int kvm_vm_set_tss(struct kvm_vm *vm, uint32_t gpa);
_must_check_ int kvm_vm_set_identity_map(struct kvm_vm *vm, uint64_t gpa);
_must_check_ int kvm_vm_get_dirty_log(struct kvm_vm *vm, uint32_t slot, void *bitmap);
_must_check_ int kvm_vm_clear_dirty_log(struct kvm_vm *vm, uint32_t slot, uint64_t first_page,
					uint32_t n_pages, void *bitmap);
_must_check_ int kvm_vm_reset_dirty_rings(struct kvm_vm *vm);
_must_check_ int kvm_vm_ioeventfd(struct kvm_vm *vm, const struct kvm_ioeventfd *request);
/* 1: delivered, 0: masked or no target, negative errno. */
_must_check_ int kvm_vm_signal_msi(struct kvm_vm *vm, const struct kvm_msi *msi);
_must_check_ int kvm_vm_set_routing(struct kvm_vm *vm, const struct kvm_irq_routing *routing);
_must_check_ int kvm_vm_get_clock(struct kvm_vm *vm, struct kvm_clock_data *ret);
_must_check_ int kvm_vm_set_clock(struct kvm_vm *vm, const struct kvm_clock_data *clock);

_must_check_ int kvm_vcpu_new(struct kvm_vm *vm, uint32_t id, struct kvm_vcpu **ret_vcpu);
void kvm_vcpu_free(struct kvm_vcpu *vcpu);
/* The shared page with the exit's information; valid as long as the vCPU. */
struct kvm_run *kvm_vcpu_run_page(struct kvm_vcpu *vcpu);
/* Runs until an exit. 0, -EINTR (signal or immediate_exit), -EAGAIN, or the kernel's error. */
int kvm_vcpu_run(struct kvm_vcpu *vcpu);
/* The vCPU's dirty ring (`bytes` long), mapped; valid as long as the vCPU. */
_must_check_ int kvm_vcpu_map_dirty_ring(struct kvm_vcpu *vcpu, size_t bytes,
					 struct kvm_dirty_gfn **ret_ring);

_must_check_ int kvm_vcpu_set_cpuid(struct kvm_vcpu *vcpu, const struct kvm_cpuid2 *cpuid);
_must_check_ int kvm_vcpu_get_regs(struct kvm_vcpu *vcpu, struct kvm_regs *ret);
_must_check_ int kvm_vcpu_set_regs(struct kvm_vcpu *vcpu, const struct kvm_regs *regs);
_must_check_ int kvm_vcpu_get_sregs(struct kvm_vcpu *vcpu, struct kvm_sregs *ret);
_must_check_ int kvm_vcpu_set_sregs(struct kvm_vcpu *vcpu, const struct kvm_sregs *sregs);
/* XSAVE area: `size` bytes as KVM_CAP_XSAVE2 says (at least 4096). */
_must_check_ int kvm_vcpu_get_xsave(struct kvm_vcpu *vcpu, void *area, size_t size);
_must_check_ int kvm_vcpu_set_xsave(struct kvm_vcpu *vcpu, const void *area, size_t size);
_must_check_ int kvm_vcpu_get_xcrs(struct kvm_vcpu *vcpu, struct kvm_xcrs *ret);
_must_check_ int kvm_vcpu_set_xcrs(struct kvm_vcpu *vcpu, const struct kvm_xcrs *xcrs);
_must_check_ int kvm_vcpu_get_debugregs(struct kvm_vcpu *vcpu, struct kvm_debugregs *ret);
_must_check_ int kvm_vcpu_set_debugregs(struct kvm_vcpu *vcpu, const struct kvm_debugregs *regs);
_must_check_ int kvm_vcpu_get_lapic(struct kvm_vcpu *vcpu, struct kvm_lapic_state *ret);
_must_check_ int kvm_vcpu_set_lapic(struct kvm_vcpu *vcpu, const struct kvm_lapic_state *lapic);
_must_check_ int kvm_vcpu_get_events(struct kvm_vcpu *vcpu, struct kvm_vcpu_events *ret);
_must_check_ int kvm_vcpu_set_events(struct kvm_vcpu *vcpu, const struct kvm_vcpu_events *events);
_must_check_ int kvm_vcpu_get_mp_state(struct kvm_vcpu *vcpu, struct kvm_mp_state *ret);
_must_check_ int kvm_vcpu_set_mp_state(struct kvm_vcpu *vcpu, const struct kvm_mp_state *state);
/* How many entries were read or written, which may be fewer than asked; negative errno. */
int kvm_vcpu_get_msrs(struct kvm_vcpu *vcpu, struct kvm_msrs *msrs);
int kvm_vcpu_set_msrs(struct kvm_vcpu *vcpu, const struct kvm_msrs *msrs);
_must_check_ int kvm_vcpu_get_tsc_khz(struct kvm_vcpu *vcpu, uint32_t *ret_khz);
_must_check_ int kvm_vcpu_set_tsc_khz(struct kvm_vcpu *vcpu, uint32_t khz);
/* TSC offset against the host's TSC (KVM_VCPU_TSC_CTRL). */
_must_check_ int kvm_vcpu_get_tsc_offset(struct kvm_vcpu *vcpu, uint64_t *ret_offset);
_must_check_ int kvm_vcpu_set_tsc_offset(struct kvm_vcpu *vcpu, uint64_t offset);
/* Tells the guest's kvmclock that it was stopped, so that its watchdogs do not bark. */
int kvm_vcpu_kvmclock_ctrl(struct kvm_vcpu *vcpu);
/* What makes the vCPU leave with KVM_EXIT_DEBUG: KVM_GUESTDBG_*. It stays until it is set again; flags that inject an
 * exception count once. Registers that were set before are what a single step starts from. */
_must_check_ int kvm_vcpu_set_guest_debug(struct kvm_vcpu *vcpu,
					  const struct kvm_guest_debug *debug);
/* `linear` through the page tables in force; -EFAULT where they map nothing. Without paging it is the address itself. */
_must_check_ int kvm_vcpu_translate(struct kvm_vcpu *vcpu, uint64_t linear, uint64_t *ret_physical);
/* Injects a legacy (PIC) interrupt; only when run->ready_for_interrupt_injection. */
_must_check_ int kvm_vcpu_interrupt(struct kvm_vcpu *vcpu, uint32_t vector);
