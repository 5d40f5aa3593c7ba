/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/model.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpu/features.h"
#include "cpu/model_tables.h"
#include "cpu/topology.h"

#define DEFAULT_ADDRESS_BITS 36

#define MSR_IA32_UCODE_REV 0x8b
#define MSR_IA32_ARCH_CAPABILITIES 0x10a
#define MSR_MTRR_DEF_TYPE 0x2ff
#define MTRR_ENABLED 0x800
#define MTRR_WRITE_BACK 0x6

uint32_t cpu_model_address_bits(const struct kvm_cpuid2 *cpuid)
{
	uint32_t bits = cpuid_get(cpuid, 0x80000008, 0, CPUID_EAX) & 0xff;

	return bits ? bits : DEFAULT_ADDRESS_BITS;
}

/* What KVM makes itself and does not always tell. */
static int finish(struct kvm_cpuid2 *cpuid, uint32_t index, uint32_t max_count)
{
	uint32_t signature[4] = { KVM_CPUID_FEATURES };
	int r;

	memcpy(&signature[1], KVM_SIGNATURE, 12);
	for (size_t i = 0; i < cpu_features_count; i++)
		if (cpu_features[i].class == FEATURE_MONITOR)
			cpuid_change(cpuid, cpu_features[i].leaf, cpu_features[i].subleaf,
				     cpu_features[i].reg, 0, 1u << cpu_features[i].bit);
	r = cpuid_put(cpuid, KVM_CPUID_SIGNATURE, 0, false, signature);
	return r < 0 ? r : topology_apply(cpuid, index, max_count);
}

/* All that KVM gives, less what a vCPU's state does not hold. */
static int build_host(struct kvm_cpuid2 *cpuid, const struct kvm_cpuid2 *supported)
{
	if (supported->nent > CPUID_ENTRIES_MAX)
		return -E2BIG;
	cpuid->nent = supported->nent;
	memcpy(cpuid->entries, supported->entries, supported->nent * sizeof(supported->entries[0]));
	cpuid_change(cpuid, 1, 0, CPUID_ECX, 1u << 5, 0);	   /* VMX */
	cpuid_change(cpuid, 0x80000001, 0, CPUID_ECX, 1u << 2, 0); /* SVM */
	cpuid_change(cpuid, 7, 0, CPUID_EBX, 1u << 2, 0);	   /* SGX */
	cpuid_change(cpuid, 7, 0, CPUID_ECX, 1u << 30, 0);	   /* SGX launch configuration */
	cpuid_remove(cpuid, 0x12);				   /* SGX */
	cpuid_remove(cpuid, 0x8000000a);			   /* SVM */
	cpuid_remove(cpuid, 0x8000001f);			   /* SEV */
	return 0;
}

/* True when the model has the feature whatever the host is: then the host must have it too. */
static bool model_requires(enum cpu_model model, const struct cpu_feature *feature)
{
	return feature->class == FEATURE_BASE || feature->class == FEATURE_V2 ||
	       feature->class == FEATURE_KVM ||
	       (feature->class == FEATURE_V3 && model == CPU_MODEL_V3);
}

static void name_lack(const char *name, const char *ret_names[], size_t max, size_t *count)
{
	if (*count < max)
		ret_names[*count] = name;
	(*count)++;
}

size_t cpu_model_lacks(enum cpu_model model, const struct kvm_cpuid2 *supported,
		       const char *ret_names[], size_t max)
{
	size_t count = 0;

	if (model == CPU_MODEL_HOST)
		return 0;
	if (cpuid_vendor(supported) == CPU_VENDOR_OTHER)
		name_lack("vendor Intel or AMD", ret_names, max, &count);
	if (cpu_model_address_bits(supported) < CPU_MODEL_ADDRESS_BITS)
		name_lack("39 bits of physical address", ret_names, max, &count);
	_Static_assert(CPU_MODEL_ADDRESS_BITS == 39, "the name above");
	for (size_t i = 0; i < cpu_features_count; i++)
		if (model_requires(model, &cpu_features[i]) &&
		    !cpu_feature_in(supported, &cpu_features[i]))
			name_lack(cpu_features[i].name, ret_names, max, &count);
	return count;
}

static int check_host(enum cpu_model model, const struct kvm_cpuid2 *supported, struct error *err)
{
	const char *names[CPU_LACKS_MAX];
	size_t count = MIN(cpu_model_lacks(model, supported, names, CPU_LACKS_MAX), CPU_LACKS_MAX);
	char list[256] = "";
	size_t used = 0;

	if (count == 0)
		return 0;
	for (size_t i = 0; i < count && used + strlen(names[i]) + 3 < sizeof(list); i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : " ",
					 names[i]);
	return error_set(err, -ENOTSUP, EXIT_STATUS_HOST,
			 "--cpus model=%s: this host's KVM lacks%s; use model=%s",
			 cpu_model_tables(model)->name, list,
			 model == CPU_MODEL_V3 ? "v2 or host" : "host");
}

static void put_features(enum cpu_model model, const struct kvm_cpuid2 *supported,
			 struct kvm_cpuid2 *cpuid)
{
	for (size_t i = 0; i < cpu_features_count; i++) {
		const struct cpu_feature *feature = &cpu_features[i];

		if (model_requires(model, feature) ||
		    (feature->class == FEATURE_MITIGATION && cpu_feature_in(supported, feature)))
			cpuid_change(cpuid, feature->leaf, feature->subleaf, feature->reg, 0,
				     1u << feature->bit);
	}
}

static int put_vendor(const struct kvm_cpuid2 *supported, uint32_t max_leaf,
		      struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *vendor = cpuid_find(supported, 0, 0);
	bool is_amd = cpuid_vendor(supported) == CPU_VENDOR_AMD;
	uint32_t leaf[4] = { max_leaf, vendor->ebx, vendor->ecx, vendor->edx };
	int r;

	r = cpuid_put(cpuid, 0, 0, false, leaf);
	leaf[0] = 0x80000008;
	if (!is_amd)
		leaf[1] = leaf[2] = leaf[3] = 0;
	return r < 0 ? r : cpuid_put(cpuid, 0x80000000, 0, false, leaf);
}

static int build_model(enum cpu_model model, const struct kvm_cpuid2 *supported,
		       struct kvm_cpuid2 *cpuid)
{
	enum cpu_vendor vendor = cpuid_vendor(supported);
	const struct model_tables *tables = cpu_model_tables(model);
	int r;

	r = put_vendor(supported, tables->max_leaf, cpuid);
	for (size_t i = 0; i < tables->n_leaves && r == 0; i++) {
		const struct model_leaf *leaf = &tables->leaves[i];

		if (leaf->vendor == CPU_VENDOR_OTHER || leaf->vendor == vendor)
			r = cpuid_put(cpuid, leaf->leaf, leaf->subleaf, leaf->indexed,
				      leaf->registers);
	}
	if (r < 0)
		return r;
	put_features(model, supported, cpuid);
	if (vendor == CPU_VENDOR_AMD) /* AMD APM 3, E.4.2: repeats leaf 1 */
		cpuid_change(cpuid, 0x80000001, 0, CPUID_EDX, 0,
			     cpuid_get(cpuid, 1, 0, CPUID_EDX) & 0x0183f3ff);
	return 0;
}

int cpu_model_cpuid(enum cpu_model model, const struct kvm_cpuid2 *supported, uint32_t index,
		    uint32_t max_count, struct kvm_cpuid2 **ret, struct error *err)
{
	struct kvm_cpuid2 _cleanup_(freep) *cpuid = cpuid_new();
	int r;

	if (!cpuid)
		return -ENOMEM;
	if (model == CPU_MODEL_HOST) {
		r = build_host(cpuid, supported);
	} else {
		r = check_host(model, supported, err);
		if (r == 0)
			r = build_model(model, supported, cpuid);
	}
	if (r == 0)
		r = finish(cpuid, index, max_count);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "--cpus: CPUID cannot be built: %s",
				 strerror(-r));
	*ret = TAKE_PTR(cpuid);
	return 0;
}

int cpu_model_sibling(const struct kvm_cpuid2 *given, uint32_t index, uint32_t max_count,
		      struct kvm_cpuid2 **ret)
{
	struct kvm_cpuid2 _cleanup_(freep) *cpuid = cpuid_new();
	int r;

	if (!cpuid)
		return -ENOMEM;
	if (given->nent > CPUID_ENTRIES_MAX)
		return -E2BIG;
	cpuid->nent = given->nent;
	memcpy(cpuid->entries, given->entries, given->nent * sizeof(given->entries[0]));
	r = topology_apply(cpuid, index, max_count);
	if (r == 0)
		*ret = TAKE_PTR(cpuid);
	return r;
}

static int set_msrs(struct kvm_vcpu *vcpu, const struct kvm_msr_entry *entries, size_t count)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = { .head.nmsrs = 1 };

	for (size_t i = 0; i < count; i++) {
		int r;

		msr.entry = entries[i];
		r = kvm_vcpu_set_msrs(vcpu, &msr.head);
		if (r < 0)
			return r;
	}
	return 0;
}

int cpu_model_set_msrs(enum cpu_model model, struct kvm_vcpu *vcpu)
{
	/* Firmware's work: without it Linux takes MTRRs as off and, with them, PAT's write-combining. */
	static const struct kvm_msr_entry firmware[] = {
		{ .index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLED | MTRR_WRITE_BACK },
	};
	/* What a host's microcode says is hidden from a guest that may move: no "not affected" bits, which the
	 * next host might not keep, and the microcode revision that KVM gives by itself. */
	static const struct kvm_msr_entry fixed[] = {
		{ .index = MSR_IA32_UCODE_REV, .data = 0x100000000ULL },
		{ .index = MSR_IA32_ARCH_CAPABILITIES, .data = 0 },
	};
	int r;

	r = set_msrs(vcpu, firmware, ARRAY_SIZE(firmware));
	if (r == 0 && model != CPU_MODEL_HOST)
		r = set_msrs(vcpu, fixed, ARRAY_SIZE(fixed));
	return r;
}
