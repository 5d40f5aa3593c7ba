/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A KVM without a kernel, for tests and instruction counts: registers are stored and given back, exits come
 * from a script, messages are counted. It has the capabilities that the code here asks for.
 */

#include "kvm/kvm.h"

/* One scripted exit. `fill` writes the run page before kvm_vcpu_run returns; `then` (may be NULL) looks at the
 * answer when the vCPU enters again. */
struct kvm_fake_exit {
	void (*fill)(struct kvm_run *run, void *ctx);
	void (*then)(const struct kvm_run *run, void *ctx);
	void *ctx;
	uint64_t times; /* repeats; 0 counts as 1 */
};

/* Gives the vCPU its script (borrowed). When it is used up, running waits for immediate_exit (polling each
 * millisecond) and gives -EINTR. Before the vCPU's thread starts. */
void kvm_fake_script(struct kvm_vcpu *vcpu, const struct kvm_fake_exit *exits, size_t count);
/* Whether the script is used up. Any thread. */
bool kvm_fake_script_done(const struct kvm_vcpu *vcpu);

/* Marks a page as written by the guest in the fake's dirty log. */
void kvm_fake_dirty(struct kvm_vm *vm, uint32_t slot, uint64_t page);

/* Messages signalled so far, and the last one. */
uint64_t kvm_fake_msi_count(struct kvm_vm *vm, struct kvm_msi *ret_last);

/* Makes the next calls of kvm_vm_get_dirty_log fail with `error` (a negative errno; 0: succeed again). */
void kvm_fake_fail_dirty_log(struct kvm_vm *vm, int error);

/* What kvm_vcpu_set_guest_debug set last. The vCPU's thread, or while it is parked. */
const struct kvm_guest_debug *kvm_fake_guest_debug(const struct kvm_vcpu *vcpu);

/* From now on KVM_SET_MSRS stops at this MSR, as KVM does at one that it does not take. */
void kvm_fake_refuse_msr(struct kvm_vcpu *vcpu, uint32_t index);
/* From now on KVM_SET_MSRS takes this MSR, and it reads as 0 all the same. */
void kvm_fake_forget_msr(struct kvm_vcpu *vcpu, uint32_t index);

/* What kvm_supported_cpuid gives from now on: another host's processor. Copied; at most 256 entries. */
void kvm_fake_set_supported(struct kvm_system *system, const struct kvm_cpuid2 *cpuid);
/* What kvm_vcpu_set_cpuid set last; NULL: nothing. Valid until the next time. */
const struct kvm_cpuid2 *kvm_fake_cpuid(const struct kvm_vcpu *vcpu);

/*
 * The host's clocks: its TSC, at `tsc_khz` ticks a millisecond, as it reads now; its monotonic clock, from which KVM's clock
 * counts. Until it is told they stand still at 0, with a TSC of KVM_FAKE_TSC_KHZ. `scales`: KVM_CAP_TSC_CONTROL, a guest
 * may have a TSC of another frequency.
 */
#define KVM_FAKE_TSC_KHZ 2000000
struct kvm_fake_host {
	uint64_t tsc;
	uint64_t monotonic_ns;
	uint32_t tsc_khz;
	bool scales;
};
void kvm_fake_set_host(struct kvm_vm *vm, const struct kvm_fake_host *host);
/* What the guest's TSC reads now. */
uint64_t kvm_fake_guest_tsc(const struct kvm_vcpu *vcpu);
