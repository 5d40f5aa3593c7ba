/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "cpu/msr.h"
#include "cpu/tsc.h"

_Static_assert(sizeof(struct vcpu_lapic) == sizeof(struct kvm_lapic_state), "the same page");

/* What a step of reading or loading works with. */
struct transfer {
	const struct vcpu_layout *layout;
	struct kvm_vcpu *vcpu;
	const struct vcpu_moment *moment;
	struct error *err; /* loading */
};

int vcpu_layout_init(struct kvm_system *system, struct kvm_vm *vm, struct kvm_vcpu *vcpu,
		     struct vcpu_layout *ret_layout)
{
	struct kvm_msr_list _cleanup_(freep) *list = NULL;
	int xsave_len = MAX(kvm_vm_check(vm, KVM_CAP_XSAVE2), (int)sizeof(struct kvm_xsave));
	int r;

	if (xsave_len > VCPU_XSAVE_MAX)
		return -E2BIG;
	r = kvm_msr_list(system, &list);
	if (r == 0)
		r = kvm_vcpu_get_tsc_khz(vcpu, &ret_layout->tsc_khz);
	if (r < 0)
		return r;
	ret_layout->tsc_scales = kvm_vm_check(vm, KVM_CAP_TSC_CONTROL) > 0;
	ret_layout->xsave_len = (uint32_t)xsave_len;
	return msr_layout(list, vcpu, ret_layout);
}

static int get_tsc(const struct transfer *t, struct vcpu_state *state)
{
	return tsc_get(t->moment, t->vcpu, state);
}

static int set_tsc(const struct transfer *t, const struct vcpu_state *state)
{
	return tsc_set(t->moment, t->vcpu, state);
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

/* The LAPIC's timer (Intel SDM 3A, 10.5.4). KVM's bus has a cycle of 1 ns. */
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_TIMER_MODE 0x60000 /* one-shot 0, periodic 1, TSC deadline 2 */
#define LAPIC_TIMER_DEADLINE 0x40000
#define LAPIC_DIVIDE 0x3e0

static unsigned int lapic_divider_shift(const struct vcpu_lapic *lapic)
{
	uint64_t divide = le_load(lapic->high + (LAPIC_DIVIDE - 0x394), 4);

	return ((unsigned int)((divide & 3) | (divide & 8) >> 1) + 1) & 7;
}

/* 0 would mean that it rests: one that ended during the stop ends at once. */
static uint32_t lapic_count_after(const struct vcpu_lapic *lapic, uint64_t stopped_ns)
{
	uint64_t mode = le_load(lapic->low + LAPIC_LVT_TIMER, 4) & LAPIC_TIMER_MODE;
	uint64_t passed = stopped_ns >> lapic_divider_shift(lapic);

	if (mode == LAPIC_TIMER_DEADLINE || lapic->timer_count == 0)
		return lapic->timer_count;
	return lapic->timer_count > passed ? lapic->timer_count - (uint32_t)passed : 1;
}

static int set_lapic(const struct transfer *t, const struct vcpu_state *state)
{
	struct vcpu_lapic on = state->lapic;
	struct kvm_lapic_state lapic;

	on.timer_count = lapic_count_after(&state->lapic, t->moment->stopped_ns);
	memcpy(&lapic, &on, sizeof(lapic));
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

static bool is_zero(const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (bytes[i])
			return false;
	return true;
}

/* What this host lacks and the guest never used is no loss. */
static int check_layout(const struct vcpu_layout *layout, const struct vcpu_state *state,
			struct error *err)
{
	if (state->xsave_len > layout->xsave_len &&
	    !is_zero(state->xsave + layout->xsave_len, state->xsave_len - layout->xsave_len))
		return error_set(
			err, -EINVAL, EXIT_STATUS_HOST,
			"state of a vCPU: %u bytes of extended registers, and this host's KVM takes "
			"%u; use the same CPU model on a host that has them",
			state->xsave_len, layout->xsave_len);
	for (uint32_t i = 0; i < state->n_msrs; i++)
		if (state->msrs[i].value && !layout_has(layout, state->msrs[i].index))
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

	r = check_layout(layout, state, err);
	if (r == 0)
		r = vcpu_tsc_adopt(layout, vcpu, state->tsc_khz, err);
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
