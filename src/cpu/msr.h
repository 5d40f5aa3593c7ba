/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The MSRs of a vCPU's state, in bulk: KVM stops at the first that it refuses. */

#include "cpu/state.h"

#define MSR_IA32_TSC 0x10
#define MSR_IA32_TSC_DEADLINE 0x6e0

/* Takes from KVM's list what belongs into the layout, in ascending order, and drops what `vcpu` cannot read.
 * -E2BIG: more than VCPU_MSRS_MAX. */
_must_check_ int msr_layout(const struct kvm_msr_list *list, struct kvm_vcpu *vcpu,
			    struct vcpu_layout *layout);

_must_check_ int msr_get_all(const struct vcpu_layout *layout, struct kvm_vcpu *vcpu,
			     struct vcpu_state *state);
/* An MSR that KVM refuses to write counts as loaded when it has the value already, or is 0 and not there. */
_must_check_ int msr_set_all(struct kvm_vcpu *vcpu, const struct vcpu_state *state,
			     struct error *err);

/* One MSR: -ENXIO when this KVM does not have it. */
_must_check_ int msr_get(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *ret_value);
_must_check_ int msr_set(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value);
