/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's state against a fake KVM: order, time, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "cpu/state.h"
#include "kvm/fake.h"

#define HOST_TSC 1000000000ULL

struct fixture {
	struct kvm_system *system;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct vcpu_layout layout;
	struct vcpu_state state;
	struct error err;
};

static const struct vcpu_moment at_save = { .host_tsc = HOST_TSC };

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	static const uint8_t extended_registers[4096];

	assert_int_equal(kvm_open(-1, &fixture->system), 0);
	assert_int_equal(kvm_vm_new(fixture->system, &fixture->vm), 0);
	assert_int_equal(kvm_vcpu_new(fixture->vm, 0, &fixture->vcpu), 0);
	assert_int_equal(kvm_vcpu_set_xsave(fixture->vcpu, extended_registers, 4096), 0);
	assert_int_equal(
		vcpu_layout_init(fixture->system, fixture->vm, fixture->vcpu, &fixture->layout), 0);
	assert_int_equal(vcpu_state_get(&fixture->layout, fixture->vcpu, &at_save, &fixture->state),
			 0);
	*state = fixture;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	kvm_vcpu_free(fixture->vcpu);
	kvm_vm_free(fixture->vm);
	kvm_close(fixture->system);
	free(fixture);
	return 0;
}

static int load(struct fixture *fixture, const struct vcpu_moment *moment)
{
	return vcpu_state_set(&fixture->layout, fixture->vcpu, moment, &fixture->state,
			      &fixture->err);
}

static size_t position(const char *name)
{
	const char *names[32];
	size_t count = vcpu_load_order(names, ARRAY_SIZE(names));

	for (size_t i = 0; i < count; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	fail_msg("no step %s", name);
	return 0;
}

static void test_order_of_loading(void **unused _unused_)
{
	assert_true(position("sregs") < position("lapic"));
	assert_true(position("xcrs") < position("xsave"));
	assert_true(position("tsc") < position("msrs"));
	assert_true(position("tsc") < position("tsc_deadline"));
	assert_true(position("lapic") < position("tsc_deadline"));
	assert_true(position("lapic") < position("events"));
	assert_true(position("regs") < position("events"));
	assert_int_equal(position("mp_state"), vcpu_load_order(NULL, 0) - 1);
}

static void test_layout_leaves_out_what_is_told_elsewhere(void **state)
{
	const struct fixture *fixture = *state;

	assert_true(fixture->layout.n_msrs > 0);
	for (uint32_t i = 0; i < fixture->layout.n_msrs; i++)
		assert_int_not_equal(fixture->layout.msrs[i], 0x10); /* the TSC */
}

static void test_every_register_is_carried(void **state)
{
	struct fixture *fixture = *state;
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	fixture->state.regs.r13 = 0x1313;
	fixture->state.sregs.cr3 = 0x9000;
	fixture->state.msrs[0].value = 77;
	fixture->state.lapic.low[0x20] = 5;
	assert_int_equal(load(fixture, &at_save), 0);
	assert_int_equal(kvm_vcpu_get_regs(fixture->vcpu, &regs), 0);
	assert_int_equal(kvm_vcpu_get_sregs(fixture->vcpu, &sregs), 0);
	assert_int_equal(regs.r13, 0x1313);
	assert_int_equal(sregs.cr3, 0x9000);
	struct vcpu_state *again = calloc(1, sizeof(*again));
	assert_int_equal(vcpu_state_get(&fixture->layout, fixture->vcpu, &at_save, again), 0);
	assert_null(state_compare(&vcpu_state_table, &fixture->state, again));
	free(again);
}

static void test_tsc_goes_on_after_the_stop(void **state)
{
	struct fixture *fixture = *state;
	/* The other host's TSC is behind; the guest's must not go back. */
	const struct vcpu_moment there = { .host_tsc = 5000, .stopped_ns = 3000000 };
	uint64_t offset;

	fixture->state.tsc = 123456789;
	assert_int_equal(load(fixture, &there), 0);
	assert_int_equal(kvm_vcpu_get_tsc_offset(fixture->vcpu, &offset), 0);
	assert_int_equal(there.host_tsc + offset, 123456789 + 3 * (uint64_t)fixture->state.tsc_khz);
}

static void test_vcpus_of_one_snapshot_stay_in_step(void **state)
{
	struct fixture *fixture = *state;
	const struct vcpu_moment there = { .host_tsc = 42 };
	uint64_t offsets[2];

	for (int i = 0; i < 2; i++) {
		assert_int_equal(kvm_vcpu_set_tsc_offset(fixture->vcpu, 900 + (uint64_t)i), 0);
		assert_int_equal(vcpu_state_get(&fixture->layout, fixture->vcpu, &at_save,
						&fixture->state),
				 0);
		assert_int_equal(load(fixture, &there), 0);
		assert_int_equal(kvm_vcpu_get_tsc_offset(fixture->vcpu, &offsets[i]), 0);
	}
	assert_int_equal(offsets[1] - offsets[0], 1);
}

static void test_another_tsc_frequency_is_refused(void **state)
{
	struct fixture *fixture = *state;
	uint32_t khz = fixture->state.tsc_khz;

	fixture->state.tsc_khz = khz + khz / 4000; /* 250 ppm */
	assert_int_equal(load(fixture, &at_save), 0);
	fixture->state.tsc_khz = khz + khz / 3900;
	assert_int_equal(load(fixture, &at_save), -EINVAL);
	assert_non_null(strstr(fixture->err.message, "kHz"));
}

static void test_small_differences_of_frequency_do_not_add_up(void **state)
{
	struct fixture *fixture = *state;
	uint32_t khz = fixture->state.tsc_khz;

	/* The guest once measured 200 ppm less than this host has: the next host sees that, not this one's. */
	fixture->state.tsc_khz = khz - khz / 5000;
	assert_int_equal(load(fixture, &at_save), 0);
	assert_int_equal(vcpu_state_get(&fixture->layout, fixture->vcpu, &at_save, &fixture->state),
			 0);
	assert_int_equal(fixture->state.tsc_khz, khz - khz / 5000);
	fixture->layout.tsc_khz = khz + khz / 5000; /* of the next host */
	assert_int_equal(load(fixture, &at_save), 0);
	fixture->state.tsc_khz = khz - khz / 5000;
	assert_int_equal(vcpu_tsc_adopt(&fixture->layout, fixture->vcpu, khz, &fixture->err), 0);
	assert_int_equal(load(fixture, &at_save), -EINVAL);
}

/* A guest's TSC of twice the host's frequency, where the processor scales. */
static void test_another_tsc_frequency_is_scaled(void **state)
{
	struct fixture *fixture = *state;
	const struct kvm_fake_host host = { .tsc = 7000000000,
					    .tsc_khz = KVM_FAKE_TSC_KHZ,
					    .scales = true };
	struct kvm_fake_host later = host;
	struct vcpu_moment moment;

	kvm_fake_set_host(fixture->vm, &host);
	fixture->layout.tsc_scales = true;
	fixture->state.tsc = 123;
	fixture->state.tsc_khz = 2 * KVM_FAKE_TSC_KHZ;
	assert_int_equal(vcpu_tsc_adopt(&fixture->layout, fixture->vcpu, fixture->state.tsc_khz,
					&fixture->err),
			 0);
	assert_int_equal(vcpu_moment_now(fixture->vcpu, &moment), 0);
	moment.stopped_ns = 1000000;
	assert_int_equal(load(fixture, &moment), 0);
	assert_int_equal(kvm_fake_guest_tsc(fixture->vcpu), 123 + 2 * KVM_FAKE_TSC_KHZ);
	later.tsc += KVM_FAKE_TSC_KHZ; /* one millisecond */
	kvm_fake_set_host(fixture->vm, &later);
	assert_int_equal(kvm_fake_guest_tsc(fixture->vcpu), 123 + 4 * KVM_FAKE_TSC_KHZ);
}

/* Where the host's KVM knows neither the MSR nor the part of the XSAVE area, but the guest never used them. */
static void test_what_was_never_used_may_be_missing(void **state)
{
	struct fixture *fixture = *state;

	fixture->state.msrs[fixture->state.n_msrs++] = (struct vcpu_msr){ 0xc0010117, 0 };
	kvm_fake_refuse_msr(fixture->vcpu, 0xc0010117);
	fixture->state.xsave_len = fixture->layout.xsave_len + 64;
	assert_int_equal(load(fixture, &at_save), 0);
	fixture->state.xsave[fixture->state.xsave_len - 1] = 1;
	assert_int_equal(load(fixture, &at_save), -EINVAL);
	fixture->state.xsave_len = fixture->layout.xsave_len;
	fixture->err = (struct error){ 0 };
	fixture->state.msrs[fixture->state.n_msrs - 1].value = 1;
	assert_int_equal(load(fixture, &at_save), -EINVAL);
	assert_non_null(strstr(fixture->err.message, "0xc0010117"));
}

/* The LAPIC's timer, divided by 4. */
static uint32_t count_after(struct fixture *fixture, uint32_t mode, uint32_t count,
			    uint64_t stopped_ns)
{
	const struct vcpu_moment there = { .host_tsc = HOST_TSC, .stopped_ns = stopped_ns };
	struct vcpu_lapic *lapic = &fixture->state.lapic;
	struct kvm_lapic_state loaded;
	uint32_t found;

	memcpy(lapic->low + 0x320, &(uint32_t){ mode << 17 | 0xec }, 4);
	memcpy(lapic->high + 0x3e0 - 0x394, &(uint32_t){ 1 }, 4);
	lapic->timer_count = count;
	assert_int_equal(load(fixture, &there), 0);
	assert_int_equal(kvm_vcpu_get_lapic(fixture->vcpu, &loaded), 0);
	memcpy(&found, loaded.regs + 0x390, 4);
	return found;
}

static void test_the_lapic_timer_counts_on_over_the_stop(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(count_after(fixture, 0, 1000, 0), 1000);
	assert_int_equal(count_after(fixture, 0, 1000, 400), 900);
	assert_int_equal(count_after(fixture, 1, 1000, 3999), 1);
	assert_int_equal(count_after(fixture, 1, 1000, 1ULL << 50), 1);
	assert_int_equal(count_after(fixture, 0, 0, 400), 0); /* it rests */
	assert_int_equal(count_after(fixture, 2, 1000, 400),
			 1000); /* it is the TSC's deadline that counts */
}

static void test_unknown_msr_is_refused_before_anything_is_set(void **state)
{
	struct fixture *fixture = *state;
	struct kvm_regs regs;

	fixture->state.regs.rax = 99;
	fixture->state.msrs[0] = (struct vcpu_msr){ 0x3a, 5 };
	assert_int_equal(load(fixture, &at_save), -EINVAL);
	assert_non_null(strstr(fixture->err.message, "0x3a"));
	assert_int_equal(kvm_vcpu_get_regs(fixture->vcpu, &regs), 0);
	assert_int_equal(regs.rax, 0);
}

/* KVM refuses to write some MSRs of its own list even with the value that they have. */
static void test_refused_msr_counts_when_it_has_the_value(void **state)
{
	struct fixture *fixture = *state;
	uint32_t last = fixture->state.n_msrs - 1;

	kvm_fake_refuse_msr(fixture->vcpu, fixture->state.msrs[1].index);
	fixture->state.msrs[last].value = 5;
	assert_int_equal(load(fixture, &at_save), 0);
	assert_int_equal(vcpu_state_get(&fixture->layout, fixture->vcpu, &at_save, &fixture->state),
			 0);
	assert_int_equal(fixture->state.msrs[last].value, 5);
	fixture->state.msrs[1].value = 7;
	assert_int_equal(load(fixture, &at_save), -EINVAL);
	assert_non_null(strstr(fixture->err.message, "MSR"));
}

static void test_too_large_xsave_is_refused(void **state)
{
	struct fixture *fixture = *state;

	fixture->state.xsave_len = fixture->layout.xsave_len + 64;
	fixture->state.xsave[fixture->layout.xsave_len] = 1;
	assert_int_equal(load(fixture, &at_save), -EINVAL);
}

static int save_and_load(struct fixture *fixture, struct vcpu_state *into)
{
	struct state_section section;
	struct buffer out;
	struct cursor in;
	int r;

	buffer_init(&out, LIMIT_STATE_SECTION);
	assert_int_equal(state_save(&out, &vcpu_state_table, "vcpu.0", &fixture->state), 0);
	in = (struct cursor){ .data = out.data, .left = out.len };
	assert_int_equal(state_next_section(&in, &section), 1);
	r = state_load(&section, &vcpu_state_table, into, &fixture->err);
	buffer_release(&out);
	return r;
}

static void test_stream_carries_all_of_it(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu_state *into = calloc(1, sizeof(*into));

	memset(&fixture->state.regs, 0x5a, sizeof(fixture->state.regs));
	memset(&fixture->state.lapic, 0x17, sizeof(fixture->state.lapic));
	fixture->state.xsave[4095] = 9;
	fixture->state.events.nmi.masked = 1;
	fixture->state.tsc = 1234;
	assert_int_equal(save_and_load(fixture, into), 0);
	assert_null(state_compare(&vcpu_state_table, &fixture->state, into));
	assert_int_equal(into->tsc, 1234);
	assert_int_equal(into->lapic.timer_count, 0x17171717);
	free(into);
}

static void test_nonsense_is_refused_on_loading(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu_state *into = calloc(1, sizeof(*into));
	uint32_t mp_state = fixture->state.mp_state;

	fixture->state.mp_state = 99;
	assert_int_equal(save_and_load(fixture, into), -EINVAL);
	fixture->state.mp_state = mp_state;
	fixture->state.xsave_len = 8;
	assert_int_equal(save_and_load(fixture, into), -EINVAL);
	fixture->state.xsave_len = 4096;
	fixture->state.msrs[1].index = fixture->state.msrs[0].index;
	assert_int_equal(save_and_load(fixture, into), -EINVAL);
	free(into);
}

static void test_waiting_vector_is_saved_as_being_delivered(void **state)
{
	struct fixture *fixture = *state;
	struct vcpu_state *saved = &fixture->state;

	saved->mp_state = KVM_MP_STATE_HALTED;
	vcpu_state_add_vector(saved, 0x23);
	assert_int_equal(saved->events.interrupt.injected, 1);
	assert_int_equal(saved->events.interrupt.nr, 0x23);
	assert_int_equal(saved->mp_state, KVM_MP_STATE_RUNNABLE);
	vcpu_state_add_vector(saved, 0x24); /* what is being delivered stays */
	assert_int_equal(saved->events.interrupt.nr, 0x23);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_of_loading),
		TEST(test_layout_leaves_out_what_is_told_elsewhere),
		TEST(test_every_register_is_carried),
		TEST(test_tsc_goes_on_after_the_stop),
		TEST(test_vcpus_of_one_snapshot_stay_in_step),
		TEST(test_another_tsc_frequency_is_refused),
		TEST(test_small_differences_of_frequency_do_not_add_up),
		TEST(test_another_tsc_frequency_is_scaled),
		TEST(test_the_lapic_timer_counts_on_over_the_stop),
		TEST(test_what_was_never_used_may_be_missing),
		TEST(test_unknown_msr_is_refused_before_anything_is_set),
		TEST(test_refused_msr_counts_when_it_has_the_value),
		TEST(test_too_large_xsave_is_refused),
		TEST(test_stream_carries_all_of_it),
		TEST(test_waiting_vector_is_saved_as_being_delivered),
		TEST(test_nonsense_is_refused_on_loading),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
