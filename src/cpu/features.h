/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The CPU features that models and baselines speak of: names as /proc/cpuinfo has them, and where CPUID has them. */

#include "cpu/cpuid.h"

enum feature_class {
	FEATURE_BASE,	    /* every 64-bit guest may expect it */
	FEATURE_V2,	    /* x86-64 psABI, level 2; and crypto that came with it */
	FEATURE_V3,	    /* level 3, and what came with it */
	FEATURE_KVM,	    /* paravirtual: every KVM from Linux 5.10 on has them */
	FEATURE_MITIGATION, /* against speculation attacks: given wherever the host has it */
	FEATURE_MONITOR,    /* not the host's to have: we or KVM make it */
};

struct cpu_feature {
	const char *name;
	uint32_t leaf;
	uint8_t subleaf;
	uint8_t reg; /* enum cpuid_register */
	uint8_t bit;
	uint8_t class; /* enum feature_class */
};

extern const struct cpu_feature cpu_features[];
extern const size_t cpu_features_count;

bool cpu_feature_in(const struct kvm_cpuid2 *cpuid, const struct cpu_feature *feature);
