/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * CPU models: what CPUID tells a guest. `host` is all that this KVM gives, but for what a vCPU's saved state does
 * not hold: nested virtualisation, SGX, SEV. v2 and v3 are the x86-64 psABI levels with crypto, a fixed
 * physical-address width, XSAVE layout, signature, caches and feature MSRs, so that two hosts of one vendor give
 * the same guest the same CPU. Mitigations of speculation attacks are given wherever the host has them: where two
 * hosts differ in them, a move is refused by name (cpu/baseline.h tells before).
 *
 * The invariant-TSC bit: `host` passes it, v2 and v3 hide it (kvmclock serves either way).
 */

#include <linux/kvm.h>

#include "base/error.h"
#include "kvm/kvm.h"

enum cpu_model { CPU_MODEL_HOST, CPU_MODEL_V2, CPU_MODEL_V3 };

/* Physical-address width of v2 and v3: the least that any x86-64 host with EPT or NPT has. RAM and the 64-bit
 * PCI window must end below it: 512 GiB. */
#define CPU_MODEL_ADDRESS_BITS 39

/* Builds the CPUID of vCPU `index` of `max_count` (topology, APIC id, KVM's leaves, hypervisor bit).
 * `supported` is KVM's; `*ret` is malloc'ed, the caller's. Model features that this host lacks are refused, all
 * of them by name. */
_must_check_ int cpu_model_cpuid(enum cpu_model model, const struct kvm_cpuid2 *supported,
				 uint32_t index, uint32_t max_count, struct kvm_cpuid2 **ret,
				 struct error *err);

/* The CPUID of another vCPU of the same VM: `given` (any vCPU's) with the topology of `index`. */
_must_check_ int cpu_model_sibling(const struct kvm_cpuid2 *given, uint32_t index,
				   uint32_t max_count, struct kvm_cpuid2 **ret);

#define CPU_LACKS_MAX 128

/* What a host lacks for a model: how many, and the names of the first `max` (static strings). 0: it can run it. */
size_t cpu_model_lacks(enum cpu_model model, const struct kvm_cpuid2 *supported,
		       const char *ret_names[], size_t max);

/* Gives a new vCPU the MSRs that firmware would set (memory types) and the model's feature MSRs (`host`: KVM's own
 * values stay). After kvm_vcpu_set_cpuid. An MSR that this KVM does not have is left out. */
_must_check_ int cpu_model_set_msrs(enum cpu_model model, struct kvm_vcpu *vcpu);

/* Physical-address width that a CPUID table tells; 36 when it says nothing. */
uint32_t cpu_model_address_bits(const struct kvm_cpuid2 *cpuid);
