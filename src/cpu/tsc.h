/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A vCPU's TSC among its state: which frequency, and how it goes on. Private to the room. */

#include "cpu/state.h"

/* Reads tsc_khz, tsc and tsc_offset of the vCPU into `state`, as of `moment`. */
_must_check_ int tsc_get(const struct vcpu_moment *moment, struct kvm_vcpu *vcpu,
			 struct vcpu_state *state);
/* Lets it go on from `state->tsc` plus the time of the stop. Its frequency was adopted before. */
_must_check_ int tsc_set(const struct vcpu_moment *moment, struct kvm_vcpu *vcpu,
			 const struct vcpu_state *state);
