/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the models v2 and v3 have besides features: leaves with fixed content. Features are or-ed in later. */

#include <asm/kvm_para.h>

#include "cpu/cpuid.h"
#include "cpu/model.h"

struct model_leaf {
	enum cpu_vendor vendor; /* OTHER: either */
	uint32_t leaf, subleaf;
	bool indexed;
	uint32_t registers[4];
};

struct model_tables {
	const char *name;
	uint32_t max_leaf;
	const struct model_leaf *leaves;
	size_t n_leaves;
};

/* Never NULL for v2 and v3; `host` has none. */
const struct model_tables *cpu_model_tables(enum cpu_model model);

/* Paravirtual features: those that every KVM from Linux 5.10 on has. */
#define MODEL_KVM_FEATURES                                                                         \
	(1u << KVM_FEATURE_CLOCKSOURCE | 1u << KVM_FEATURE_NOP_IO_DELAY |                          \
	 1u << KVM_FEATURE_CLOCKSOURCE2 | 1u << KVM_FEATURE_ASYNC_PF |                             \
	 1u << KVM_FEATURE_STEAL_TIME | 1u << KVM_FEATURE_PV_EOI | 1u << KVM_FEATURE_PV_UNHALT |   \
	 1u << KVM_FEATURE_PV_TLB_FLUSH | 1u << KVM_FEATURE_PV_SEND_IPI |                          \
	 1u << KVM_FEATURE_POLL_CONTROL | 1u << KVM_FEATURE_PV_SCHED_YIELD |                       \
	 1u << KVM_FEATURE_ASYNC_PF_INT | 1u << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT)
