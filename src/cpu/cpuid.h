/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A CPUID table in the making. Leaves: Intel SDM 2A, CPUID; AMD APM 3, appendix E. */

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#define CPUID_ENTRIES_MAX 256 /* as many as KVM takes */

enum cpuid_register { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

enum cpu_vendor { CPU_VENDOR_OTHER, CPU_VENDOR_INTEL, CPU_VENDOR_AMD };

/* Room for CPUID_ENTRIES_MAX entries; malloc'ed, the caller's. NULL: no memory. */
struct kvm_cpuid2 *cpuid_new(void);

/* The entry of a leaf, or NULL. A leaf without subleaves answers for subleaf 0. */
const struct kvm_cpuid_entry2 *cpuid_find(const struct kvm_cpuid2 *cpuid, uint32_t leaf,
					  uint32_t subleaf);
/* One register of it; 0 when there is no such leaf. */
uint32_t cpuid_get(const struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t subleaf,
		   enum cpuid_register reg);

/* Appends or replaces an entry. `indexed`: the leaf has subleaves. -ENOSPC when full. */
_must_check_ int cpuid_put(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t subleaf, bool indexed,
			   const uint32_t registers[4]);
/* Changes bits of an entry that is there: (old & ~clear) | set. Without the entry: nothing. */
void cpuid_change(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t subleaf,
		  enum cpuid_register reg, uint32_t clear, uint32_t set);
void cpuid_remove(struct kvm_cpuid2 *cpuid, uint32_t leaf);

enum cpu_vendor cpuid_vendor(const struct kvm_cpuid2 *cpuid);
