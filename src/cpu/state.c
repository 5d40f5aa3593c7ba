/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#include "base/cleanup.h"
#include "cpu/msr.h"

_Static_assert(sizeof(struct vcpu_lapic) == sizeof(struct kvm_lapic_state), "the same page");

/* What a step of reading or loading works with. */
struct transfer {
	const struct vcpu_layout *layout;
	struct kvm_vcpu *vcpu;
	const struct vcpu_moment *moment;
	struct error *err; /* loading */
};

struct vcpu_moment vcpu_moment_now(void)
{
	return (struct vcpu_moment){ .host_tsc = __rdtsc() };
}

int vcpu_layout_init(struct kvm_system *system, struct kvm_vm *vm, struct kvm_vcpu *vcpu,
		     struct vcpu_layout *ret_layout)
{
	struct kvm_msr_list _cleanup_(freep) *list = NULL;
	int xsave_len = MAX(kvm_vm_check(vm, KVM_CAP_XSAVE2), (int)sizeof(struct kvm_xsave));
	int r;

	if (xsave_len > VCPU_XSAVE_MAX)
		return -E2BIG;
	r = kvm_msr_list(system, &list);
	if (r < 0)
		return r;
	ret_layout->xsave_len = (uint32_t)xsave_len;
	return msr_layout(list, vcpu, ret_layout);
}

static bool no_offset(int r)
{
	return r == -ENXIO || r == -EINVAL || r == -ENOTTY || r == -EPERM;
}

/* KVM before 5.16 does not tell the offset: the TSC as it reads now is then the best that there is. */
static int get_tsc(const struct transfer *t, struct vcpu_state *state)
{
	int r;

	r = kvm_vcpu_get_tsc_khz(t->vcpu, &state->tsc_khz);
	if (r < 0)
		return r;
	r = kvm_vcpu_get_tsc_offset(t->vcpu, &state->tsc_offset);
	if (r == 0) {
		state->tsc = t->moment->host_tsc + state->tsc_offset;
		return 0;
	}
	return no_offset(r) ? msr_get(t->vcpu, MSR_IA32_TSC, &state->tsc) : r;
}

static int set_tsc(const struct transfer *t, const struct vcpu_state *state)
{
	uint64_t passed =
		(uint64_t)((unsigned __int128)t->moment->stopped_ns * state->tsc_khz / 1000000);
	uint64_t now = state->tsc + passed;
	int r;

	r = kvm_vcpu_set_tsc_offset(t->vcpu, now - t->moment->host_tsc);
	return no_offset(r) ? msr_set(t->vcpu, MSR_IA32_TSC, now) : r;
}

static int get_deadline(const struct transfer *t, struct vcpu_state *state)
{
	int r = msr_get(t->vcpu, MSR_IA32_TSC_DEADLINE, &state->tsc_deadline);

	return r == -ENXIO ? 0 : r; /* a guest without this timer */
}

static int set_deadline(const struct transfer *t, const struct vcpu_state *state)
{
	int r = msr_set(t->vcpu, MSR_IA32_TSC_DEADLINE, state->tsc_deadline);

	return r == -ENXIO && state->tsc_deadline == 0 ? 0 : r;
}

static int get_mp_state(const struct transfer *t, struct vcpu_state *state)
{
	struct kvm_mp_state mp;
	int r;

	r = kvm_vcpu_get_mp_state(t->vcpu, &mp);
	if (r == 0)
		state->mp_state = mp.mp_state;
	return r;
}

static int set_mp_state(const struct transfer *t, const struct vcpu_state *state)
{
	const struct kvm_mp_state mp = { .mp_state = state->mp_state };

	return kvm_vcpu_set_mp_state(t->vcpu, &mp);
}

static int get_xsave(const struct transfer *t, struct vcpu_state *state)
{
	state->xsave_len = t->layout->xsave_len;
	return kvm_vcpu_get_xsave(t->vcpu, state->xsave, state->xsave_len);
}

/* The area has room for the largest layout: KVM reads as much as this host's is long, zero behind xsave_len. */
static int set_xsave(const struct transfer *t, const struct vcpu_state *state)
{
	return kvm_vcpu_set_xsave(t->vcpu, state->xsave, t->layout->xsave_len);
}

static int get_lapic(const struct transfer *t, struct vcpu_state *state)
{
	struct kvm_lapic_state lapic;
	int r;

	r = kvm_vcpu_get_lapic(t->vcpu, &lapic);
	if (r == 0)
		memcpy(&state->lapic, &lapic, sizeof(lapic));
	return r;
}

static int set_lapic(const struct transfer *t, const struct vcpu_state *state)
{
	struct kvm_lapic_state lapic;

	memcpy(&lapic, &state->lapic, sizeof(lapic));
	return kvm_vcpu_set_lapic(t->vcpu, &lapic);
}

static int get_msrs(const struct transfer *t, struct vcpu_state *state)
{
	return msr_get_all(t->layout, t->vcpu, state);
}

static int set_msrs(const struct transfer *t, const struct vcpu_state *state)
{
	return msr_set_all(t->vcpu, state, t->err);
}

#define PLAIN(name)                                                                                \
	static int get_##name(const struct transfer *t, struct vcpu_state *state)                  \
	{                                                                                          \
		return kvm_vcpu_get_##name(t->vcpu, &state->name);                                 \
	}                                                                                          \
	static int set_##name(const struct transfer *t, const struct vcpu_state *state)            \
	{                                                                                          \
		return kvm_vcpu_set_##name(t->vcpu, &state->name);                                 \
	}
PLAIN(regs)
PLAIN(sregs)
PLAIN(xcrs)
PLAIN(debugregs)
PLAIN(events)

struct step {
	const char *name;
	int (*get)(const struct transfer *t, struct vcpu_state *state);
	int (*set)(const struct transfer *t, const struct vcpu_state *state);
};

/*
 * THE order of loading. CPUID comes first of all, when the vCPU is made: everything after is judged by it.
 *   sregs         the APIC's base and mode before the LAPIC's page, EFER and CR4 before what they allow
 *   xcrs, xsave   XCR0 says which components the area has
 *   tsc, msrs     TSC_ADJUST and kvmclock's page are written when the TSC is right
 *   lapic         after APIC base; its timer's mode before its deadline
 *   tsc_deadline  in ticks of a TSC that is right, for a timer that is in deadline mode
 *   events        loading registers and LAPIC would lose them
 *   mp_state      last: from here on the vCPU can be woken
 */
static const struct step steps[] = {
	{ "sregs", get_sregs, set_sregs },
	{ "regs", get_regs, set_regs },
	{ "xcrs", get_xcrs, set_xcrs },
	{ "xsave", get_xsave, set_xsave },
	{ "debugregs", get_debugregs, set_debugregs },
	{ "tsc", get_tsc, set_tsc },
	{ "msrs", get_msrs, set_msrs },
	{ "lapic", get_lapic, set_lapic },
	{ "tsc_deadline", get_deadline, set_deadline },
	{ "events", get_events, set_events },
	{ "mp_state", get_mp_state, set_mp_state },
};

size_t vcpu_load_order(const char *ret_names[], size_t max)
{
	for (size_t i = 0; i < ARRAY_SIZE(steps) && i < max; i++)
		ret_names[i] = steps[i].name;
	return ARRAY_SIZE(steps);
}

/* Reading goes the other way: KVM_GET_MP_STATE takes a pending INIT or SIPI, which changes registers. */
int vcpu_state_get(const struct vcpu_layout *layout, struct kvm_vcpu *vcpu,
		   const struct vcpu_moment *moment, struct vcpu_state *ret_state)
{
	const struct transfer transfer = { .layout = layout, .vcpu = vcpu, .moment = moment };

	memset(ret_state, 0, sizeof(*ret_state));
	for (size_t i = ARRAY_SIZE(steps); i-- > 0;) {
		int r = steps[i].get(&transfer, ret_state);

		if (r < 0)
			return r;
	}
	return 0;
}

static int check_tsc_khz(struct kvm_vcpu *vcpu, const struct vcpu_state *state, struct error *err)
{
	uint32_t here = 0;
	uint64_t apart;
	int r;

	r = kvm_vcpu_get_tsc_khz(vcpu, &here);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "state of a vCPU: KVM does not tell its TSC's "
				 "frequency");
	apart = here > state->tsc_khz ? here - state->tsc_khz : state->tsc_khz - here;
	if (apart * 1000000 <= (uint64_t)here * VCPU_TSC_TOLERANCE_PPM)
		return 0;
	return error_set(
		err, -EINVAL, EXIT_STATUS_HOST,
		"state of a vCPU: its TSC runs at %u kHz and this host's at %u kHz, more than %u ppm "
		"apart; load it on a host whose TSC is as fast",
		state->tsc_khz, here, VCPU_TSC_TOLERANCE_PPM);
}

static bool layout_has(const struct vcpu_layout *layout, uint32_t index)
{
	uint32_t low = 0, high = layout->n_msrs;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (layout->msrs[middle] == index)
			return true;
		if (layout->msrs[middle] < index)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

static int check_layout(const struct vcpu_layout *layout, const struct vcpu_state *state,
			struct error *err)
{
	if (state->xsave_len > layout->xsave_len)
		return error_set(
			err, -EINVAL, EXIT_STATUS_HOST,
			"state of a vCPU: %u bytes of extended registers, and this host's KVM takes "
			"%u; use the same CPU model on a host that has them",
			state->xsave_len, layout->xsave_len);
	for (uint32_t i = 0; i < state->n_msrs; i++)
		if (!layout_has(layout, state->msrs[i].index))
			return error_set(
				err, -EINVAL, EXIT_STATUS_HOST,
				"state of a vCPU: MSR %#x is none that this host's KVM keeps; use the "
				"same CPU model and kernel",
				state->msrs[i].index);
	return 0;
}

void vcpu_state_add_vector(struct vcpu_state *state, uint8_t vector)
{
	if (state->events.interrupt.injected || state->events.exception.injected ||
	    state->events.nmi.injected)
		return;
	state->events.interrupt.injected = 1;
	state->events.interrupt.nr = vector;
	state->events.interrupt.soft = 0;
	if (state->mp_state ==
	    KVM_MP_STATE_HALTED) /* it ends the HLT, which such an event does not by itself */
		state->mp_state = KVM_MP_STATE_RUNNABLE;
}

int vcpu_state_set(const struct vcpu_layout *layout, struct kvm_vcpu *vcpu,
		   const struct vcpu_moment *moment, const struct vcpu_state *state,
		   struct error *err)
{
	const struct transfer transfer = {
		.layout = layout,
		.vcpu = vcpu,
		.moment = moment,
		.err = err,
	};
	int r;

	r = check_tsc_khz(vcpu, state, err);
	if (r == 0)
		r = check_layout(layout, state, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		r = steps[i].set(&transfer, state);
		if (r < 0)
			return error_set(err, r, EXIT_STATUS_FAILED,
					 "state of a vCPU: KVM refuses %s: %s", steps[i].name,
					 strerror(-r));
	}
	return 0;
}
