/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "cpu/baseline.h"
#include "cpu/features.h"
#include "cpu/model.h"

/* A host with everything, of either vendor, as its KVM would tell. */
static struct kvm_cpuid2 *full_host(enum cpu_vendor vendor)
{
	static const char *const names[] = {
		[CPU_VENDOR_INTEL] = "GenuntelineI", [CPU_VENDOR_AMD] = "AuthcAMDenti"
	};
	struct kvm_cpuid2 *cpuid = cpuid_new();
	const uint32_t leaves[] = { 1, 6, 7, 0xd, 0x40000001, 0x80000001, 0x80000007 };
	uint32_t leaf[4] = { 0x1f };
	const uint32_t width[4] = { 46 | 48 << 8 }, extended[4] = { 0x8000001e };
	const uint32_t cache[4] = { 0x163 | 1 << 14, 63, 1023 }, none[4] = { 0 };

	memcpy(&leaf[1], names[vendor], 12);
	assert_int_equal(cpuid_put(cpuid, 0, 0, false, leaf), 0);
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
		assert_int_equal(cpuid_put(cpuid, leaves[i], 0, leaves[i] == 7 || leaves[i] == 0xd,
					   none),
				 0);
	assert_int_equal(cpuid_put(cpuid, 0xd, 1, true, none), 0);
	assert_int_equal(cpuid_put(cpuid, 4, 3, true, cache), 0);
	assert_int_equal(cpuid_put(cpuid, 0x80000000, 0, false, extended), 0);
	assert_int_equal(cpuid_put(cpuid, 0x80000008, 0, false, width), 0);
	assert_int_equal(cpuid_put(cpuid, 0x8000001e, 0, false, none), 0);
	for (size_t i = 0; i < cpu_features_count; i++)
		cpuid_change(cpuid, cpu_features[i].leaf, cpu_features[i].subleaf,
			     cpu_features[i].reg, 0, 1u << cpu_features[i].bit);
	cpuid_change(cpuid, 1, 0, CPUID_ECX, 0, 1u << 5);	   /* VMX */
	cpuid_change(cpuid, 0x80000001, 0, CPUID_ECX, 0, 1u << 2); /* SVM */
	cpuid_change(cpuid, 0x80000007, 0, CPUID_EDX, 0, 1u << 8); /* invariant TSC */
	cpuid_change(cpuid, 7, 0, CPUID_EBX, 0, 1u << 16);	   /* AVX-512 */
	return cpuid;
}

static void remove_feature(struct kvm_cpuid2 *cpuid, const char *name)
{
	for (size_t i = 0; i < cpu_features_count; i++)
		if (strcmp(cpu_features[i].name, name) == 0) {
			cpuid_change(cpuid, cpu_features[i].leaf, cpu_features[i].subleaf,
				     cpu_features[i].reg, 1u << cpu_features[i].bit, 0);
			return;
		}
	fail_msg("no feature %s", name);
}

static struct kvm_cpuid2 *guest(enum cpu_model model, const struct kvm_cpuid2 *host, uint32_t index,
				uint32_t count)
{
	struct kvm_cpuid2 *cpuid;
	struct error err = { 0 };

	if (cpu_model_cpuid(model, host, index, count, &cpuid, &err) < 0)
		fail_msg("%s", err.message);
	return cpuid;
}

static void test_host_hides_what_state_does_not_hold(void **unused _unused_)
{
	struct kvm_cpuid2 *host = full_host(CPU_VENDOR_INTEL),
			  *cpuid = guest(CPU_MODEL_HOST, host, 0, 1);

	assert_int_equal(cpuid_get(cpuid, 1, 0, CPUID_ECX) & 1u << 5, 0);
	assert_int_equal(cpuid_get(cpuid, 0x80000001, 0, CPUID_ECX) & 1u << 2, 0);
	assert_int_not_equal(cpuid_get(cpuid, 7, 0, CPUID_EBX) & 1u << 16, 0);
	assert_int_equal(cpu_model_address_bits(cpuid), 46);
	free(cpuid);
	free(host);
}

static void test_monitor_features_are_always_there(void **unused _unused_)
{
	struct kvm_cpuid2 *host = full_host(CPU_VENDOR_AMD);

	remove_feature(host, "tsc_deadline_timer");
	remove_feature(host, "hypervisor");
	for (int model = CPU_MODEL_HOST; model <= CPU_MODEL_V3; model++) {
		struct kvm_cpuid2 *cpuid = guest((enum cpu_model)model, host, 0, 1);

		assert_int_equal(cpuid_get(cpuid, 1, 0, CPUID_ECX) >> 21 & 1, 1); /* x2APIC */
		assert_int_equal(cpuid_get(cpuid, 1, 0, CPUID_ECX) >> 24 & 1, 1); /* TSC deadline */
		assert_int_equal(cpuid_get(cpuid, 1, 0, CPUID_ECX) >> 31 & 1, 1); /* hypervisor */
		assert_int_equal(cpuid_get(cpuid, 0x40000000, 0, CPUID_EBX), 0x4b4d564b);
		free(cpuid);
	}
	free(host);
}

/* What differs between two hosts must not reach the guest. */
static void test_models_are_the_same_on_different_hosts(void **unused _unused_)
{
	static const enum cpu_vendor vendors[] = { CPU_VENDOR_INTEL, CPU_VENDOR_AMD };

	for (size_t v = 0; v < ARRAY_SIZE(vendors); v++) {
		struct kvm_cpuid2 *one = full_host(vendors[v]), *other = full_host(vendors[v]);

		cpuid_change(other, 1, 0, CPUID_EAX, ~0u, 0x50654);
		cpuid_change(other, 7, 0, CPUID_EBX, 1u << 16, 1u << 20);
		cpuid_change(other, 0x80000008, 0, CPUID_EAX, 0xff, 52);
		cpuid_change(other, 0x80000007, 0, CPUID_EDX, 1u << 8, 0);
		for (int model = CPU_MODEL_V2; model <= CPU_MODEL_V3; model++) {
			struct kvm_cpuid2 *a = guest((enum cpu_model)model, one, 1, 4);
			struct kvm_cpuid2 *b = guest((enum cpu_model)model, other, 1, 4);

			assert_int_equal(a->nent, b->nent);
			assert_memory_equal(a->entries, b->entries,
					    a->nent * sizeof(a->entries[0]));
			free(a);
			free(b);
		}
		free(one);
		free(other);
	}
}

static void test_levels(void **unused _unused_)
{
	struct kvm_cpuid2 *host = full_host(CPU_VENDOR_AMD);
	struct kvm_cpuid2 *v2 = guest(CPU_MODEL_V2, host, 0, 1),
			  *v3 = guest(CPU_MODEL_V3, host, 0, 1);

	for (size_t i = 0; i < cpu_features_count; i++) {
		bool in_v2 = cpu_feature_in(v2, &cpu_features[i]),
		     in_v3 = cpu_feature_in(v3, &cpu_features[i]);

		assert_int_equal(in_v2, cpu_features[i].class != FEATURE_V3);
		assert_true(in_v3);
	}
	assert_int_equal(cpuid_get(v2, 7, 0, CPUID_EBX) & 1u << 16, 0);
	assert_int_equal(cpuid_get(v3, 7, 0, CPUID_EBX) & 1u << 16, 0);
	assert_int_equal(cpuid_get(v3, 0x80000007, 0, CPUID_EDX), 0);
	free(v2);
	free(v3);
	free(host);
}

static void test_xsave_of_models(void **unused _unused_)
{
	struct kvm_cpuid2 *host = full_host(CPU_VENDOR_INTEL);
	struct kvm_cpuid2 *v2 = guest(CPU_MODEL_V2, host, 0, 1),
			  *v3 = guest(CPU_MODEL_V3, host, 0, 1);

	assert_null(cpuid_find(v2, 0xd, 0));
	assert_int_equal(cpuid_get(v3, 0xd, 0, CPUID_EAX), 7);
	assert_int_equal(cpuid_get(v3, 0xd, 0, CPUID_ECX), 832);
	assert_int_equal(cpuid_get(v3, 0xd, 2, CPUID_EAX) + cpuid_get(v3, 0xd, 2, CPUID_EBX), 832);
	free(v2);
	free(v3);
	free(host);
}

static void test_lacking_features_are_named(void **unused _unused_)
{
	struct kvm_cpuid2 *host = full_host(CPU_VENDOR_INTEL), *cpuid = NULL;
	struct error err = { 0 };

	remove_feature(host, "avx2");
	remove_feature(host, "movbe");
	assert_int_equal(cpu_model_cpuid(CPU_MODEL_V3, host, 0, 1, &cpuid, &err), -ENOTSUP);
	assert_non_null(strstr(err.message, "avx2"));
	assert_non_null(strstr(err.message, "movbe"));
	assert_non_null(strstr(err.message, "v2"));
	assert_null(cpuid);
	cpuid = guest(CPU_MODEL_V2, host, 0, 1);
	free(cpuid);
	free(host);
}

static void test_narrow_or_foreign_host_is_refused(void **unused _unused_)
{
	struct kvm_cpuid2 *host = full_host(CPU_VENDOR_INTEL), *cpuid;
	struct error err = { 0 };

	cpuid_change(host, 0x80000008, 0, CPUID_EAX, 0xff, 36);
	assert_int_equal(cpu_model_cpuid(CPU_MODEL_V2, host, 0, 1, &cpuid, &err), -ENOTSUP);
	assert_non_null(strstr(err.message, "39 bits"));
	cpuid_change(host, 0x80000008, 0, CPUID_EAX, 0xff, 39);
	cpuid_change(host, 0, 0, CPUID_EBX, ~0u, 0);
	memset(&err, 0, sizeof(err));
	assert_int_equal(cpu_model_cpuid(CPU_MODEL_V2, host, 0, 1, &cpuid, &err), -ENOTSUP);
	assert_non_null(strstr(err.message, "vendor"));
	free(host);
}

static void test_mitigations_follow_the_host(void **unused _unused_)
{
	struct kvm_cpuid2 *host = full_host(CPU_VENDOR_INTEL), *cpuid;

	remove_feature(host, "md_clear");
	cpuid = guest(CPU_MODEL_V2, host, 0, 1);
	assert_int_equal(cpuid_get(cpuid, 7, 0, CPUID_EDX) >> 10 & 1, 0);
	assert_int_equal(cpuid_get(cpuid, 7, 0, CPUID_EDX) >> 26 & 1, 1);
	free(cpuid);
	free(host);
}

/* Every leaf that tells topology, for every model and vendor. */
static void assert_topology(const struct kvm_cpuid2 *cpuid, uint32_t index, uint32_t count,
			    uint32_t bits)
{
	assert_int_equal(cpuid_get(cpuid, 1, 0, CPUID_EBX) >> 24, index);
	assert_int_equal(cpuid_get(cpuid, 1, 0, CPUID_EBX) >> 16 & 0xff, 1u << bits);
	assert_int_equal(cpuid_get(cpuid, 1, 0, CPUID_EDX) >> 28 & 1, count > 1);
	for (uint32_t level = 0; level < 2; level++)
		assert_int_equal(cpuid_get(cpuid, 0xb, level, CPUID_EDX), index);
	assert_int_equal(cpuid_get(cpuid, 0xb, 0, CPUID_EAX), 0);
	assert_int_equal(cpuid_get(cpuid, 0xb, 1, CPUID_EAX), bits);
	assert_int_equal(cpuid_get(cpuid, 0xb, 1, CPUID_EBX), count);
	assert_int_equal(cpuid_get(cpuid, 0xb, 2, CPUID_ECX) >> 8, 0);
	assert_null(cpuid_find(cpuid, 0x1f, 0));
	if (cpuid_vendor(cpuid) == CPU_VENDOR_AMD) {
		assert_int_equal(cpuid_get(cpuid, 0x80000008, 0, CPUID_ECX) & 0xff, count - 1);
		assert_int_equal(cpuid_get(cpuid, 0x80000008, 0, CPUID_ECX) >> 12 & 0xf, bits);
		assert_int_equal(cpuid_get(cpuid, 0x8000001e, 0, CPUID_EAX),
				 cpuid_find(cpuid, 0x8000001e, 0) ? index : 0);
	} else {
		assert_int_equal(cpuid_get(cpuid, 4, 3, CPUID_EAX) >> 26, (1u << bits) - 1);
		assert_int_equal(cpuid_get(cpuid, 4, 3, CPUID_EAX) >> 14 & 0xfff, (1u << bits) - 1);
	}
}

static void test_topology_leaves_agree(void **unused _unused_)
{
	static const struct {
		uint32_t index, count, bits;
	} cases[] = { { 0, 1, 0 }, { 1, 2, 1 }, { 2, 3, 2 }, { 63, 64, 6 } };
	static const enum cpu_vendor vendors[] = { CPU_VENDOR_INTEL, CPU_VENDOR_AMD };

	for (size_t v = 0; v < ARRAY_SIZE(vendors); v++)
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
			for (int model = CPU_MODEL_HOST; model <= CPU_MODEL_V3; model++) {
				struct kvm_cpuid2 *host = full_host(vendors[v]);
				struct kvm_cpuid2 *cpuid = guest((enum cpu_model)model, host,
								 cases[i].index, cases[i].count);

				assert_topology(cpuid, cases[i].index, cases[i].count,
						cases[i].bits);
				free(cpuid);
				free(host);
			}
}

static const struct baseline_note *find_note(const struct baseline *baseline, size_t host,
					     const char *what)
{
	for (size_t i = 0; i < baseline->n_notes; i++)
		if (baseline->notes[i].host == host && strcmp(baseline->notes[i].what, what) == 0)
			return &baseline->notes[i];
	return NULL;
}

static void test_baseline_of_equal_hosts(void **unused _unused_)
{
	struct kvm_cpuid2 *host = full_host(CPU_VENDOR_INTEL);
	const struct baseline_host hosts[] = { { "a", host }, { "b", host } };
	struct baseline baseline;

	assert_int_equal(cpu_baseline(hosts, 2, &baseline), 0);
	assert_int_equal(baseline.model, CPU_MODEL_V3);
	assert_int_equal(baseline.n_notes, 0);
	assert_int_equal(baseline.address_bits, 46);
	free(host);
}

static void test_baseline_names_the_host_that_lacks(void **unused _unused_)
{
	struct kvm_cpuid2 *new = full_host(CPU_VENDOR_INTEL), *old = full_host(CPU_VENDOR_INTEL);
	const struct baseline_host hosts[] = { { "new", new }, { "old", old } };
	struct baseline baseline;

	remove_feature(old, "bmi2");
	remove_feature(new, "md_clear");
	assert_int_equal(cpu_baseline(hosts, 2, &baseline), 0);
	assert_int_equal(baseline.model, CPU_MODEL_V2);
	assert_int_equal(baseline.n_notes, 2);
	assert_int_equal(find_note(&baseline, 1, "bmi2")->model, CPU_MODEL_V3);
	assert_int_equal(find_note(&baseline, 0, "md_clear")->model, CPU_MODEL_HOST);
	remove_feature(new, "aes");
	assert_int_equal(cpu_baseline(hosts, 2, &baseline), 0);
	assert_int_equal(baseline.model, CPU_MODEL_HOST);
	free(new);
	free(old);
}

static void test_baseline_of_two_vendors(void **unused _unused_)
{
	struct kvm_cpuid2 *intel = full_host(CPU_VENDOR_INTEL), *amd = full_host(CPU_VENDOR_AMD);
	const struct baseline_host hosts[] = { { "a", intel }, { "b", amd } };
	struct baseline baseline;

	assert_int_equal(cpu_baseline(hosts, 2, &baseline), 0);
	assert_true(baseline.vendors_differ);
	assert_int_equal(baseline.model, CPU_MODEL_HOST);
	free(intel);
	free(amd);
}

static void test_baseline_limits(void **unused _unused_)
{
	struct kvm_cpuid2 *nothing = cpuid_new();
	struct baseline_host hosts[BASELINE_HOSTS_MAX + 1];
	struct baseline baseline;

	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
		hosts[i] = (struct baseline_host){ "none", nothing };
	assert_int_equal(cpu_baseline(hosts, 0, &baseline), -EINVAL);
	assert_int_equal(cpu_baseline(hosts, BASELINE_HOSTS_MAX + 1, &baseline), -E2BIG);
	assert_int_equal(cpu_baseline(hosts, BASELINE_HOSTS_MAX, &baseline), 0);
	assert_true(baseline.notes_cut);
	free(nothing);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_host_hides_what_state_does_not_hold),
		cmocka_unit_test(test_monitor_features_are_always_there),
		cmocka_unit_test(test_models_are_the_same_on_different_hosts),
		cmocka_unit_test(test_levels),
		cmocka_unit_test(test_xsave_of_models),
		cmocka_unit_test(test_lacking_features_are_named),
		cmocka_unit_test(test_narrow_or_foreign_host_is_refused),
		cmocka_unit_test(test_mitigations_follow_the_host),
		cmocka_unit_test(test_topology_leaves_agree),
		cmocka_unit_test(test_baseline_of_equal_hosts),
		cmocka_unit_test(test_baseline_names_the_host_that_lacks),
		cmocka_unit_test(test_baseline_of_two_vendors),
		cmocka_unit_test(test_baseline_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
