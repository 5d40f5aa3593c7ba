/* SPDX-License-Identifier: Apache-2.0 */

/* Whether one host can go on giving the CPU that another gave. */

#include "check.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/compat.h"
#include "cpu/model.h"
#include "kvm/kvm.h"

/* An Intel host of level 3 with AVX-512, as its KVM would tell. */
static struct kvm_cpuid2 *host(void)
{
	static const struct {
		uint32_t leaf, subleaf;
		uint32_t registers[4];
	} leaves[] = {
		{ 0, 0, { 0xd, 0x756e6547, 0x6c65746e, 0x49656e69 } },
		{ 1, 0, { 0x50654, 0, 0x7ffefbbf, 0x1fcbfbff } },
		{ 6, 0, { 4 } },
		{ 7, 0, { 0, 0xd19f07ab, 0x08, 0xac000400 } },
		{ 0xa, 0, { 0x07300402 } },
		{ 0xd, 0, { 0x2e7, 2696, 2696, 0 } },
		{ 0xd, 1, { 0xf } },
		{ 0xd, 2, { 256, 576 } },
		{ 0xd, 5, { 64, 1088 } },
		{ 0xd, 6, { 512, 1152 } },
		{ 0xd, 7, { 1024, 1664 } },
		{ 0xd, 9, { 8, 2688 } },
		{ 0x40000001, 0, { 0x01007efb } },
		{ 0x80000000, 0, { 0x80000008 } },
		{ 0x80000001, 0, { 0, 0, 0x121, 0x2c100800 } },
		{ 0x80000007, 0, { 0, 0, 0, 0x100 } },
		{ 0x80000008, 0, { 46 | 48 << 8 } },
	};
	struct kvm_cpuid2 *cpuid = cpuid_new();

	assert_non_null(cpuid);
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
		assert_int_equal(cpuid_put(cpuid, leaves[i].leaf, leaves[i].subleaf,
					   leaves[i].leaf == 7 || leaves[i].leaf == 0xd,
					   leaves[i].registers),
				 0);
	return cpuid;
}

struct fixture {
	struct kvm_cpuid2 *here, *guest;
	struct cpu_lack lacks[8];
	struct error err;
};

static int setup(void **state)
{
	static struct fixture f;
	struct kvm_cpuid2 *there = host();

	memset(&f, 0, sizeof(f));
	f.here = host();
	assert_int_equal(cpu_model_cpuid(CPU_MODEL_HOST, there, 3, 8, &f.guest, &f.err), 0);
	free(there);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	free(f->here);
	free(f->guest);
	return 0;
}

static size_t lacks(struct fixture *f)
{
	return cpu_compat_lacks(f->guest, f->here, f->lacks, ARRAY_SIZE(f->lacks));
}

/* Topology, and what the monitor makes itself, is not the host's to have. */
static void a_guest_of_the_same_host_lacks_nothing(void **state)
{
	struct fixture *f = *state;

	if (lacks(f))
		fail_msg("%s", f->lacks[0].what);
	assert_int_equal(cpu_compat_check(f->guest, f->here, &f->err), 0);
}

static void a_richer_host_is_as_good(void **state)
{
	struct fixture *f = *state;

	cpuid_change(f->guest, 7, 0, CPUID_EBX, 1u << 16 | 1u << 5, 0);
	cpuid_change(f->here, 0x80000008, 0, CPUID_EAX, 0xff, 52);
	cpuid_change(f->here, 7, 0, CPUID_EDX, 0, 1u << 24);
	assert_int_equal(lacks(f), 0);
}

static void each_feature_is_named(void **state)
{
	static const struct {
		uint32_t leaf, subleaf;
		enum cpuid_register reg;
		unsigned int bit;
		const char *name;
	} bits[] = {
		{ 1, 0, CPUID_ECX, 28, "avx" },
		{ 7, 0, CPUID_EBX, 16, "avx512f" },
		{ 7, 0, CPUID_EDX, 26, "spec_ctrl" },
		{ 0xd, 0, CPUID_EAX, 6, "XSAVE state of AVX-512 ZMM0-15" },
		{ 0xd, 1, CPUID_EAX, 1, "xsavec" },
		{ 0x40000001, 0, CPUID_EAX, 24, "kvmclock_stable" },
		{ 0x80000001, 0, CPUID_EDX, 26, "pdpe1gb" },
		{ 0x80000007, 0, CPUID_EDX, 8, "invariant TSC" },
		{ 7, 0, CPUID_EBX, 12, "CPUID 0x7.0 EBX bit 12" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
		uint32_t bit = 1u << bits[i].bit;
		bool here = cpuid_get(f->here, bits[i].leaf, bits[i].subleaf, bits[i].reg) & bit;

		cpuid_change(f->guest, bits[i].leaf, bits[i].subleaf, bits[i].reg, 0, bit);
		cpuid_change(f->here, bits[i].leaf, bits[i].subleaf, bits[i].reg, bit, 0);
		assert_int_equal(lacks(f), 1);
		assert_string_equal(f->lacks[0].what, bits[i].name);
		cpuid_change(f->here, bits[i].leaf, bits[i].subleaf, bits[i].reg, 0, bit);
		if (!here)
			cpuid_change(f->guest, bits[i].leaf, bits[i].subleaf, bits[i].reg, bit, 0);
		assert_int_equal(lacks(f), 0);
	}
}

static void another_vendor_is_another_processor(void **state)
{
	struct fixture *f = *state;
	const uint32_t amd[4] = { 0xd, 0x68747541, 0x444d4163, 0x69746e65 };

	assert_int_equal(cpuid_put(f->here, 0, 0, false, amd), 0);
	assert_int_equal(lacks(f), 1);
	assert_string_equal(f->lacks[0].what, "vendor GenuineIntel (AuthenticAMD here)");
	assert_int_equal(cpu_compat_check(f->guest, f->here, &f->err), -ENOTSUP);
	assert_non_null(strstr(f->err.message, "take a host of the same vendor"));
}

static void a_narrower_host_is_refused(void **state)
{
	struct fixture *f = *state;

	cpuid_change(f->here, 0x80000008, 0, CPUID_EAX, 0xff, 39);
	assert_int_equal(lacks(f), 1);
	assert_string_equal(f->lacks[0].what, "46 bits of physical address (39 here)");
}

/* The bytes of one component would be taken for another's. */
static void another_xsave_layout_is_refused(void **state)
{
	struct fixture *f = *state;

	cpuid_change(f->here, 0xd, 9, CPUID_EBX, ~0u, 2432);
	assert_int_equal(lacks(f), 1);
	assert_string_equal(f->lacks[0].what, "XSAVE component 9 at its place");
}

static void fewer_performance_counters_are_refused(void **state)
{
	struct fixture *f = *state;

	cpuid_change(f->here, 0xa, 0, CPUID_EAX, 0xff00, 2 << 8);
	assert_int_equal(lacks(f), 1);
	assert_string_equal(f->lacks[0].what, "performance counters");
}

static void the_way_out_is_a_model_that_this_host_has(void **state)
{
	struct fixture *f = *state;

	cpuid_change(f->here, 7, 0, CPUID_EBX, 1u << 16 | 1u << 17, 0);
	assert_int_equal(cpu_compat_check(f->guest, f->here, &f->err), -ENOTSUP);
	assert_string_equal(
		f->err.message,
		"CPU: the guest may use avx512f, avx512dq, which this host lacks; start "
		"the VM with --cpus model=v3 to move between these hosts");
	f->err = (struct error){ 0 };
	cpuid_change(f->here, 7, 0, CPUID_EBX, 1u << 5, 0); /* AVX2 */
	assert_int_equal(cpu_compat_check(f->guest, f->here, &f->err), -ENOTSUP);
	assert_non_null(strstr(f->err.message, "model=v2"));
	f->err = (struct error){ 0 };
	cpuid_change(f->here, 1, 0, CPUID_ECX, 1u << 23, 0); /* POPCNT */
	assert_int_equal(cpu_compat_check(f->guest, f->here, &f->err), -ENOTSUP);
	assert_non_null(strstr(f->err.message, "take a host whose processor has it"));
}

/* A model has whatever mitigations its host has: another model would not help. */
static void the_way_out_of_mitigations_is_another(void **state)
{
	struct fixture *f = *state;

	cpuid_change(f->here, 7, 0, CPUID_EDX, 1u << 26, 0);
	assert_int_equal(cpu_compat_check(f->guest, f->here, &f->err), -ENOTSUP);
	assert_non_null(strstr(f->err.message, "spec_ctrl"));
	assert_non_null(strstr(f->err.message, "same microcode and kernel"));
}

/* More than a line holds. */
static void many_lacks_are_counted(void **state)
{
	struct fixture *f = *state;

	cpuid_change(f->here, 1, 0, CPUID_EDX, ~0u, 0);
	cpuid_change(f->here, 1, 0, CPUID_ECX, ~0u, 0);
	assert_true(lacks(f) > ARRAY_SIZE(f->lacks));
	assert_int_equal(cpu_compat_check(f->guest, f->here, &f->err), -ENOTSUP);
	assert_non_null(strstr(f->err.message, " more, which"));
}

/* From a stream: twice the same leaf, none at all. */
static void a_strange_table_is_judged_all_the_same(void **state)
{
	struct fixture *f = *state;
	struct kvm_cpuid2 *strange = cpuid_new();

	assert_int_equal(cpu_compat_lacks(strange, f->here, f->lacks, 1), 1); /* no vendor */
	strange->nent = CPUID_ENTRIES_MAX;
	memset(strange->entries, 0xff, CPUID_ENTRIES_MAX * sizeof(strange->entries[0]));
	assert_true(cpu_compat_lacks(strange, f->here, f->lacks, 1) > 0);
	free(strange);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_guest_of_the_same_host_lacks_nothing),
		TEST(a_richer_host_is_as_good),
		TEST(each_feature_is_named),
		TEST(another_vendor_is_another_processor),
		TEST(a_narrower_host_is_refused),
		TEST(another_xsave_layout_is_refused),
		TEST(fewer_performance_counters_are_refused),
		TEST(the_way_out_is_a_model_that_this_host_has),
		TEST(the_way_out_of_mitigations_is_another),
		TEST(many_lacks_are_counted),
		TEST(a_strange_table_is_judged_all_the_same),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
