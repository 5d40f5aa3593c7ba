/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * CPU models: what CPUID tells a guest. `host` is all that this KVM gives; v2 and v3 are the x86-64 psABI levels
 * with mitigation and crypto features, a fixed physical-address width, XSAVE layout and feature MSRs, so that
 * two hosts of one vendor give the same guest the same CPU.
 */

#include <linux/kvm.h>

#include "base/error.h"
#include "kvm/kvm.h"

enum cpu_model { CPU_MODEL_HOST, CPU_MODEL_V2, CPU_MODEL_V3 };

/* Builds the CPUID of vCPU `index` of `count` (topology, APIC id, KVM's leaves, hypervisor bit). `supported` is
 * KVM's; `*ret` is malloc'ed, the caller's. A model feature that this host lacks is refused by name. */
_must_check_ int cpu_model_cpuid(enum cpu_model model, const struct kvm_cpuid2 *supported,
				 uint32_t index, uint32_t max_count, struct kvm_cpuid2 **ret,
				 struct error *err);
