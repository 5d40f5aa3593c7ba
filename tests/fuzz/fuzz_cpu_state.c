/* SPDX-License-Identifier: Apache-2.0 */
/* The body of a "vcpu" section from a peer, loaded into a vCPU of the fake KVM.
 * covers: cpu/state.c cpu/state_table.c cpu/msr.c cpu/tsc.c */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "cpu/state.h"
#include "kvm/fake.h"

#define KERNEL_GS_BASE 0xc0000102 /* in the fake's list; refused when it would change */

struct target {
	struct kvm_system *system;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct vcpu_layout layout;
};

static void target_make(struct target *target)
{
	assert(kvm_open(-1, &target->system) == 0);
	assert(kvm_vm_new(target->system, &target->vm) == 0);
	assert(kvm_vcpu_new(target->vm, 0, &target->vcpu) == 0);
	kvm_fake_refuse_msr(target->vcpu, KERNEL_GS_BASE);
	assert(vcpu_layout_init(target->system, target->vm, target->vcpu, &target->layout) == 0);
}

static void target_free(struct target *target)
{
	kvm_vcpu_free(target->vcpu);
	kvm_vm_free(target->vm);
	kvm_close(target->system);
}

/* What was accepted survives another trip through the stream. */
static void check_again(const struct vcpu_state *state)
{
	struct vcpu_state *again = calloc(1, sizeof(*again));
	struct state_section section;
	struct buffer out;
	struct cursor in;

	assert(again);
	buffer_init(&out, LIMIT_STATE_SECTION);
	assert(state_save(&out, &vcpu_state_table, "vcpu.0", state) == 0);
	in = (struct cursor){ .data = out.data, .left = out.len };
	assert(state_next_section(&in, &section) == 1);
	assert(state_load(&section, &vcpu_state_table, again, NULL) == 0);
	assert(!state_compare(&vcpu_state_table, state, again));
	buffer_release(&out);
	free(again);
}

/* What was loaded is what the vCPU has: the order of loading overwrites nothing. */
static void check_loaded(const struct target *target, const struct vcpu_moment *moment,
			 const struct vcpu_state *state, struct vcpu_state *now)
{
	assert(vcpu_state_get(&target->layout, target->vcpu, moment, now) == 0);
	assert(memcmp(&now->regs, &state->regs, sizeof(now->regs)) == 0);
	assert(memcmp(&now->lapic, &state->lapic, sizeof(now->lapic)) == 0);
	assert(now->mp_state == state->mp_state && now->tsc == state->tsc);
	assert(now->tsc_deadline == state->tsc_deadline);
	vcpu_state_add_vector(now, 0x30);
	check_again(now);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vcpu_moment moment = { .host_tsc = 0 };
	struct state_section section = {
		.instance = "vcpu.0",
		.version = 1,
		.body = { .data = data, .left = size },
	};
	struct vcpu_state *state = calloc(2, sizeof(*state));
	struct target target;
	struct error err = { 0 };

	assert(state);
	if (state_load(&section, &vcpu_state_table, state, &err) == 0) {
		check_again(state);
		target_make(&target);
		/* As a load does: the frequency first, then the moment; a host that scales every other time. */
		target.layout.tsc_scales = size & 1;
		if (vcpu_tsc_adopt(&target.layout, target.vcpu, state->tsc_khz, &err) == 0)
			assert(vcpu_moment_now(target.vcpu, &moment) == 0);
		if (vcpu_state_set(&target.layout, target.vcpu, &moment, state, &err) == 0)
			check_loaded(&target, &moment, state, state + 1);
		else
			assert(err.message[0]);
		target_free(&target);
	} else {
		assert(err.message[0]);
	}
	free(state);
	return 0;
}
