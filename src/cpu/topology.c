/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/topology.h"

#define HTT (1u << 28)
#define CMP_LEGACY (1u << 1)
#define LEVEL_SMT 1u
#define LEVEL_CORE 2u
#define CACHE_LEVEL(eax) (((eax) >> 5) & 7)
#define CACHE_SHARED 3 /* the level that all cores share */

/* Bits of the APIC id that number the cores. */
static uint32_t core_bits(uint32_t max_count)
{
	uint32_t bits = 0;

	while ((1u << bits) < max_count)
		bits++;
	return bits;
}

/* Cache leaves (4, and 0x8000001d on AMD): EAX 25:14 is how many ids share the cache, less one. */
static void share_caches(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t ids)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
		uint32_t sharing = CACHE_LEVEL(entry->eax) == CACHE_SHARED ? ids - 1 : 0;

		if (entry->function != leaf || (entry->eax & 0x1f) == 0)
			continue;
		entry->eax = (entry->eax & ~(0xfffu << 14)) | sharing << 14;
		if (leaf == 4) /* 31:26: cores in the package, less one */
			entry->eax = (entry->eax & ~(0x3fu << 26)) | (ids - 1) << 26;
	}
}

static int put_levels(struct kvm_cpuid2 *cpuid, uint32_t index, uint32_t max_count)
{
	const uint32_t levels[][4] = {
		{ 0, 1, LEVEL_SMT << 8 | 0, index },
		{ core_bits(max_count), max_count, LEVEL_CORE << 8 | 1, index },
		{ 0, 0, 2, index },
	};

	cpuid_remove(cpuid, 0x1f);
	cpuid_remove(cpuid, 0xb);
	if (cpuid_get(cpuid, 0, 0, CPUID_EAX) < 0xb)
		return 0;
	for (uint32_t i = 0; i < ARRAY_SIZE(levels); i++) {
		int r = cpuid_put(cpuid, 0xb, i, true, levels[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

int topology_apply(struct kvm_cpuid2 *cpuid, uint32_t index, uint32_t max_count)
{
	uint32_t bits = core_bits(max_count), ids = 1u << bits;
	bool several = max_count > 1;

	cpuid_change(cpuid, 1, 0, CPUID_EBX, 0xffff0000u, index << 24 | ids << 16);
	cpuid_change(cpuid, 1, 0, CPUID_EDX, HTT, several ? HTT : 0);
	share_caches(cpuid, 4, ids);
	if (cpuid_vendor(cpuid) == CPU_VENDOR_AMD) {
		cpuid_change(cpuid, 0x80000001, 0, CPUID_ECX, CMP_LEGACY, several ? CMP_LEGACY : 0);
		cpuid_change(cpuid, 0x80000008, 0, CPUID_ECX, 0xf0ff, bits << 12 | (max_count - 1));
		share_caches(cpuid, 0x8000001d, ids);
		cpuid_change(cpuid, 0x8000001e, 0, CPUID_EAX, ~0u, index);
		cpuid_change(cpuid, 0x8000001e, 0, CPUID_EBX, 0xffffu, index & 0xff);
		cpuid_change(cpuid, 0x8000001e, 0, CPUID_ECX, ~0u, 0);
	}
	return put_levels(cpuid, index, max_count);
}
