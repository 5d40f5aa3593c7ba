/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/msr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A request of up to VCPU_MSRS_MAX entries, on the stack. */
union msr_request {
	struct kvm_msrs msrs;
	char bytes[sizeof(struct kvm_msrs) + VCPU_MSRS_MAX * sizeof(struct kvm_msr_entry)];
};

struct msr_range {
	uint32_t first, last;
};

/* In KVM's list, but not part of a vCPU's state here. */
static const struct msr_range left_out[] = {
	{ MSR_IA32_TSC, MSR_IA32_TSC }, /* vcpu_state.tsc */
	{ 0x480, 0x49f },		/* VMX capabilities: no nested guests */
	{ MSR_IA32_TSC_DEADLINE,
	  MSR_IA32_TSC_DEADLINE },  /* vcpu_state.tsc_deadline: loaded later */
	{ 0x40000000, 0x400001ff }, /* Hyper-V's: touching one makes KVM set it up */
};

static bool is_left_out(uint32_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(left_out); i++)
		if (index >= left_out[i].first && index <= left_out[i].last)
			return true;
	return false;
}

int msr_get(struct kvm_vcpu *vcpu, uint32_t index, uint64_t *ret_value)
{
	union msr_request request = { .msrs.nmsrs = 1 };
	int r;

	request.msrs.entries[0].index = index;
	r = kvm_vcpu_get_msrs(vcpu, &request.msrs);
	if (r < 0)
		return r;
	if (r < 1)
		return -ENXIO;
	*ret_value = request.msrs.entries[0].data;
	return 0;
}

int msr_set(struct kvm_vcpu *vcpu, uint32_t index, uint64_t value)
{
	union msr_request request = { .msrs.nmsrs = 1 };
	int r;

	request.msrs.entries[0] = (struct kvm_msr_entry){ .index = index, .data = value };
	r = kvm_vcpu_set_msrs(vcpu, &request.msrs);
	if (r < 0)
		return r;
	return r < 1 ? -ENXIO : 0;
}

static int compare_indices(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

	return left < right ? -1 : left > right;
}

int msr_layout(const struct kvm_msr_list *list, struct kvm_vcpu *vcpu, struct vcpu_layout *layout)
{
	uint64_t ignored;

	layout->n_msrs = 0;
	for (uint32_t i = 0; i < list->nmsrs; i++) {
		if (is_left_out(list->indices[i]) || msr_get(vcpu, list->indices[i], &ignored) < 0)
			continue;
		if (layout->n_msrs == VCPU_MSRS_MAX)
			return -E2BIG;
		layout->msrs[layout->n_msrs++] = list->indices[i];
	}
	qsort(layout->msrs, layout->n_msrs, sizeof(layout->msrs[0]), compare_indices);
	return 0;
}

int msr_get_all(const struct vcpu_layout *layout, struct kvm_vcpu *vcpu, struct vcpu_state *state)
{
	union msr_request request;
	int r;

	memset(&request, 0,
	       sizeof(struct kvm_msrs) + layout->n_msrs * sizeof(struct kvm_msr_entry));
	request.msrs.nmsrs = layout->n_msrs;
	for (uint32_t i = 0; i < layout->n_msrs; i++)
		request.msrs.entries[i].index = layout->msrs[i];
	r = kvm_vcpu_get_msrs(vcpu, &request.msrs);
	if (r < 0)
		return r;
	if ((uint32_t)r != layout->n_msrs)
		return -ENXIO;
	state->n_msrs = layout->n_msrs;
	for (uint32_t i = 0; i < layout->n_msrs; i++)
		state->msrs[i] = (struct vcpu_msr){ layout->msrs[i], request.msrs.entries[i].data };
	return 0;
}

/* KVM stopped at this one. */
static int accept_refused(struct kvm_vcpu *vcpu, const struct vcpu_msr *msr, struct error *err)
{
	uint64_t value;

	int r = msr_get(vcpu, msr->index, &value);

	if ((r == 0 && value == msr->value) || (r == -ENXIO && msr->value == 0))
		return 0;
	return error_set(
		err, -EINVAL, EXIT_STATUS_FAILED,
		"state of a vCPU: KVM refuses MSR %#x = %#llx; this host's processor or KVM lacks "
		"what the guest uses",
		msr->index, (unsigned long long)msr->value);
}

int msr_set_all(struct kvm_vcpu *vcpu, const struct vcpu_state *state, struct error *err)
{
	union msr_request request;
	uint32_t done = 0;

	while (done < state->n_msrs) {
		uint32_t count = state->n_msrs - done;
		int r;

		request.msrs.nmsrs = count;
		for (uint32_t i = 0; i < count; i++)
			request.msrs.entries[i] = (struct kvm_msr_entry){
				.index = state->msrs[done + i].index,
				.data = state->msrs[done + i].value,
			};
		r = kvm_vcpu_set_msrs(vcpu, &request.msrs);
		if (r < 0)
			return r;
		done += (uint32_t)r;
		if (done >= state->n_msrs)
			break;
		r = accept_refused(vcpu, &state->msrs[done], err);
		if (r < 0)
			return r;
		done++;
	}
	return 0;
}
