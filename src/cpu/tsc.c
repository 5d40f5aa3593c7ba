/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/tsc.h"

#include <errno.h>

#include "cpu/msr.h"

/* KVM before 5.16, or without a constant TSC, does not tell the offset. */
static bool no_offset(int r)
{
	return r == -ENXIO || r == -EINVAL || r == -ENOTTY || r == -EPERM;
}

/* The offset counts from the host's TSC after scaling, whose fraction only KVM knows: so KVM is asked, not the processor. */
int vcpu_moment_now(struct kvm_vcpu *vcpu, struct vcpu_moment *ret_moment)
{
	uint64_t tsc, offset = 0;
	int r = msr_get(vcpu, MSR_IA32_TSC, &tsc);

	if (r < 0)
		return r;
	r = kvm_vcpu_get_tsc_offset(vcpu, &offset);
	if (r < 0 && !no_offset(r))
		return r;
	*ret_moment = (struct vcpu_moment){ .host_tsc = tsc - offset };
	return 0;
}

static bool within_tolerance(uint32_t a, uint32_t of)
{
	uint64_t apart = a > of ? a - of : of - a;

	return apart * 1000000 <= (uint64_t)of * VCPU_TSC_TOLERANCE_PPM;
}

/* Within the tolerance KVM takes the frequency without scaling: the TSC runs as fast as the host's, and who reads the
 * frequency sees what the guest once measured, so that small differences do not add up unseen from move to move. */
int vcpu_tsc_adopt(const struct vcpu_layout *layout, struct kvm_vcpu *vcpu, uint32_t khz,
		   struct error *err)
{
	bool near = within_tolerance(khz, layout->tsc_khz);
	uint32_t now = 0;
	int r = kvm_vcpu_get_tsc_khz(vcpu, &now);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "state of a vCPU: KVM does not tell its TSC's "
				 "frequency");
	if (khz == now)
		return 0;
	if (!near && !layout->tsc_scales)
		return error_set(err, -EINVAL, EXIT_STATUS_HOST,
				 "state of a vCPU: its TSC runs at %u kHz and this host's at %u "
				 "kHz, more than %u ppm apart, and this processor cannot scale; "
				 "load it on a host whose TSC is as fast",
				 khz, layout->tsc_khz, VCPU_TSC_TOLERANCE_PPM);
	r = kvm_vcpu_set_tsc_khz(vcpu, khz);
	if (r < 0 && !near)
		return error_set(
			err, r, EXIT_STATUS_HOST,
			"state of a vCPU: its TSC runs at %u kHz, which this host's KVM "
			"(%u kHz) does not scale to; load it on a host whose TSC is as fast",
			khz, layout->tsc_khz);
	return 0;
}

int tsc_get(const struct vcpu_moment *moment, struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	int r = kvm_vcpu_get_tsc_khz(vcpu, &state->tsc_khz);

	if (r < 0)
		return r;
	r = kvm_vcpu_get_tsc_offset(vcpu, &state->tsc_offset);
	if (r == 0) {
		state->tsc = moment->host_tsc + state->tsc_offset;
		return 0;
	}
	return no_offset(r) ? msr_get(vcpu, MSR_IA32_TSC, &state->tsc) : r;
}

int tsc_set(const struct vcpu_moment *moment, struct kvm_vcpu *vcpu, const struct vcpu_state *state)
{
	uint64_t passed =
		(uint64_t)((unsigned __int128)moment->stopped_ns * state->tsc_khz / 1000000);
	uint64_t now = state->tsc + passed;
	int r = kvm_vcpu_set_tsc_offset(vcpu, now - moment->host_tsc);

	return no_offset(r) ? msr_set(vcpu, MSR_IA32_TSC, now) : r;
}
