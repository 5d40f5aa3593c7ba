/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/read_back.h"

#include <string.h>

/* AMD's SYSENTER registers have 32 bits (APM 2, 6.1.2): KVM keeps no more of what it is given. A guest's own write, which goes to the
 * processor, may leave all 64 where that is an emulated one. */
static const struct {
	uint32_t index;
	const char *name;
	uint64_t ignored; /* bits */
} steady_msrs[] = {
	{ 0x174, "SYSENTER_CS" },
	{ 0x175, "SYSENTER_ESP", 0xffffffff00000000 },
	{ 0x176, "SYSENTER_EIP", 0xffffffff00000000 },
	{ 0x277, "PAT" },
	{ 0xc0000081, "STAR" },
	{ 0xc0000082, "LSTAR" },
	{ 0xc0000083, "CSTAR" },
	{ 0xc0000084, "SFMASK" },
	{ 0xc0000102, "KERNEL_GS_BASE" },
	{ 0x4b564d00, "kvmclock wall" },
	{ 0x4b564d01, "kvmclock" },
};

static const uint64_t *find_msr(const struct vcpu_state *state, uint32_t index)
{
	for (uint32_t i = 0; i < state->n_msrs; i++)
		if (state->msrs[i].index == index)
			return &state->msrs[i].value;
	return NULL;
}

/* One that is not there reads as 0. */
static const char *differing_msr(const struct vcpu_state *set, const struct vcpu_state *read)
{
	for (size_t i = 0; i < ARRAY_SIZE(steady_msrs); i++) {
		const uint64_t *a = find_msr(set, steady_msrs[i].index),
			       *b = find_msr(read, steady_msrs[i].index);

		if (((a ? *a : 0) ^ (b ? *b : 0)) & ~steady_msrs[i].ignored)
			return steady_msrs[i].name;
	}
	return NULL;
}

/* An XSAVE area may come back with other bits for the same registers (SDM 1, 13.6: init optimisation); the list of MSRs is each
 * kernel's own; the rest moves by itself. */
static void leave_out(struct vcpu_state *read, const struct vcpu_state *set)
{
	read->xsave_len = set->xsave_len;
	memcpy(read->xsave, set->xsave, sizeof(read->xsave));
	read->n_msrs = set->n_msrs;
	memcpy(read->msrs, set->msrs, sizeof(read->msrs));
	read->lapic = set->lapic;
	read->events = set->events;
	read->mp_state = set->mp_state;
	read->tsc_deadline = set->tsc_deadline;
}

const char *vcpu_read_back_differs(const struct vcpu_state *set, struct vcpu_state *read)
{
	const char *msr = differing_msr(set, read);

	if (msr)
		return msr;
	leave_out(read, set);
	return state_compare(&vcpu_state_table, set, read);
}
