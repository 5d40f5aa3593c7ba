/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/cpuid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct kvm_cpuid2 *cpuid_new(void)
{
	return calloc(1, sizeof(struct kvm_cpuid2) +
				 CPUID_ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2));
}

const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *cpuid, uint32_t leaf,
					  uint32_t subleaf)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
		bool indexed = entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

		if (entry->function == leaf && (indexed ? entry->index : 0) == subleaf)
			return entry;
	}
	return NULL;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t subleaf)
{
	return (struct kvm_cpuid_entry2 *)cpuid_find(cpuid, leaf, subleaf);
}

static uint32_t *reg_of(struct kvm_cpuid_entry2 *entry, enum cpuid_register reg)
{
	uint32_t *registers[] = { &entry->eax, &entry->ebx, &entry->ecx, &entry->edx };

	return registers[reg];
}

uint32_t cpuid_get(const struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t subleaf,
		   enum cpuid_register reg)
{
	struct kvm_cpuid_entry2 *entry = find((struct kvm_cpuid2 *)cpuid, leaf, subleaf);

	return entry ? *reg_of(entry, reg) : 0;
}

int cpuid_put(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t subleaf, bool indexed,
	      const uint32_t registers[4])
{
	struct kvm_cpuid_entry2 *entry = find(cpuid, leaf, subleaf);

	if (!entry && cpuid->nent >= CPUID_ENTRIES_MAX)
		return -ENOSPC;
	if (!entry)
		entry = &cpuid->entries[cpuid->nent++];
	*entry = (struct kvm_cpuid_entry2){
		.function = leaf,
		.index = indexed ? subleaf : 0,
		.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = registers[CPUID_EAX],
		.ebx = registers[CPUID_EBX],
		.ecx = registers[CPUID_ECX],
		.edx = registers[CPUID_EDX],
	};
	return 0;
}

void cpuid_change(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t subleaf,
		  enum cpuid_register reg, uint32_t clear, uint32_t set)
{
	struct kvm_cpuid_entry2 *entry = find(cpuid, leaf, subleaf);

	if (entry)
		*reg_of(entry, reg) = (*reg_of(entry, reg) & ~clear) | set;
}

void cpuid_remove(struct kvm_cpuid2 *cpuid, uint32_t leaf)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < cpuid->nent; i++)
		if (cpuid->entries[i].function != leaf)
			cpuid->entries[kept++] = cpuid->entries[i];
	cpuid->nent = kept;
}

enum cpu_vendor cpuid_vendor(const struct kvm_cpuid2 *cpuid)
{
	const struct kvm_cpuid_entry2 *entry = cpuid_find(cpuid, 0, 0);
	char name[12];

	if (!entry)
		return CPU_VENDOR_OTHER;
	memcpy(name, &entry->ebx, 4);
	memcpy(name + 4, &entry->edx, 4);
	memcpy(name + 8, &entry->ecx, 4);
	if (memcmp(name, "GenuineIntel", sizeof(name)) == 0)
		return CPU_VENDOR_INTEL;
	if (memcmp(name, "AuthenticAMD", sizeof(name)) == 0)
		return CPU_VENDOR_AMD;
	return CPU_VENDOR_OTHER;
}
