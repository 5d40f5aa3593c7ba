/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A vCPU's registers as state: one plain struct, one table of its fields, and one table of the order in which they
 * are loaded (invariant 14; vcpu_load_order). The vCPU is at a point where KVM has no access half done.
 *
 * Time. `tsc` is what the guest's TSC read at one moment of the host, the same moment for all vCPUs of a snapshot
 * (struct vcpu_moment), so that they stay in step with each other to the tick. Loading sets the offset to the
 * host's TSC such that the guest's goes on from there plus the time it was stopped. It never looks at a wall
 * clock and never goes back. Its frequency stays what the guest measured: a host that is not as fast scales, or is
 * refused by name (vcpu_tsc_adopt).
 */

#include "base/error.h"
#include "kvm/kvm.h"
#include "state/state.h"

#define VCPU_XSAVE_MAX 12288 /* AMX's area included; KVM_CAP_XSAVE2 tells the real size */
#define VCPU_MSRS_MAX 320
#define VCPU_TSC_TOLERANCE_PPM 250 /* what KVM takes without scaling */

/* The LAPIC's page, cut at the one register that a clock moves. */
struct vcpu_lapic {
	uint8_t low[0x390];
	uint32_t
		timer_count; /* current count; CLOCK: counts on over the stop, see vcpu_state_set */
	uint8_t high[0x400 - 0x394];
};

struct vcpu_msr {
	uint32_t index;
	uint64_t value;
};

struct vcpu_state {
	uint32_t tsc_khz;    /* of the guest's TSC */
	uint64_t tsc;	     /* CLOCK: see above */
	uint64_t tsc_offset; /* LOCAL: for information */
	uint32_t mp_state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debugregs;
	struct kvm_xcrs xcrs;
	uint32_t xsave_len;
	uint8_t xsave[VCPU_XSAVE_MAX];
	uint32_t n_msrs;
	struct vcpu_msr msrs[VCPU_MSRS_MAX];
	struct vcpu_lapic lapic;
	uint64_t tsc_deadline;
	struct kvm_vcpu_events events;
};
extern const struct state_table vcpu_state_table;

/* Which MSRs make up a vCPU here and how large its XSAVE area is. One for all vCPUs of a VM. */
struct vcpu_layout {
	uint32_t tsc_khz; /* of this host's */
	bool tsc_scales;  /* a guest's may be of another frequency */
	uint32_t xsave_len;
	uint32_t n_msrs;
	uint32_t msrs[VCPU_MSRS_MAX];
};

/* Asks KVM, and tries each MSR on `vcpu` (new, its CPUID set): what cannot be read is left out. Control thread. */
_must_check_ int vcpu_layout_init(struct kvm_system *system, struct kvm_vm *vm,
				  struct kvm_vcpu *vcpu, struct vcpu_layout *ret_layout);

/* The moment of a snapshot or of its loading. */
struct vcpu_moment {
	uint64_t
		host_tsc; /* as offsets count it (after scaling); read once for all vCPUs: vcpu_moment_now */
	uint64_t
		stopped_ns; /* loading: how long the guest stood still since the snapshot; measured, never told */
};

/* `vcpu`: any of them, its frequency adopted. Its own thread, or any while it is not running. stopped_ns is 0. */
_must_check_ int vcpu_moment_now(struct kvm_vcpu *vcpu, struct vcpu_moment *ret_moment);

/* Has the vCPU's TSC run at `khz`, as the guest once measured it: by scaling, or because this host's is as fast (within
 * VCPU_TSC_TOLERANCE_PPM). Else -EINVAL, by name. For all vCPUs, before the moment of a load is taken. */
_must_check_ int vcpu_tsc_adopt(const struct vcpu_layout *layout, struct kvm_vcpu *vcpu,
				uint32_t khz, struct error *err);

/* Reads all of a vCPU. Its own thread, or any while it is not running. */
_must_check_ int vcpu_state_get(const struct vcpu_layout *layout, struct kvm_vcpu *vcpu,
				const struct vcpu_moment *moment, struct vcpu_state *ret_state);

/* Puts a vector (vcpu_waiting_vector) into a state just read, as an interrupt that is being delivered. Without effect
 * when another event is: KVM has then taken the vector. */
void vcpu_state_add_vector(struct vcpu_state *state, uint8_t vector);

/* Loads all of a vCPU, in the order of the table. `state` may come from a peer: what this host's KVM does not keep (an
 * MSR, a part of the XSAVE area) and that is not 0 is refused before anything is set, as is a TSC frequency that cannot be
 * had; what KVM refuses is named. The LAPIC's timer counts on over the stop; one that ended meanwhile interrupts at once.
 * A vCPU that was refused half-way must not run. */
_must_check_ int vcpu_state_set(const struct vcpu_layout *layout, struct kvm_vcpu *vcpu,
				const struct vcpu_moment *moment, const struct vcpu_state *state,
				struct error *err);

/* The order of loading, for tests and documents: how many steps there are, and the first `max` names. */
size_t vcpu_load_order(const char *ret_names[], size_t max);
