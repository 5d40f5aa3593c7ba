/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/features.h"

#include <asm/kvm_para.h>

#define EAX CPUID_EAX
#define EBX CPUID_EBX
#define ECX CPUID_ECX
#define EDX CPUID_EDX

/*
 * Left out on purpose: vme (a 16-bit mode that no 64-bit kernel uses, and not every KVM has), erms, smap, rtm, hle and
 * all of AVX-512 (some hosts of level 3 lack them or had to switch them off), nested virtualisation (its
 * state is not part of a vCPU's state here).
 */
const struct cpu_feature cpu_features[] = {
	{ "fpu", 1, 0, EDX, 0, FEATURE_BASE },
	{ "de", 1, 0, EDX, 2, FEATURE_BASE },
	{ "pse", 1, 0, EDX, 3, FEATURE_BASE },
	{ "tsc", 1, 0, EDX, 4, FEATURE_BASE },
	{ "msr", 1, 0, EDX, 5, FEATURE_BASE },
	{ "pae", 1, 0, EDX, 6, FEATURE_BASE },
	{ "mce", 1, 0, EDX, 7, FEATURE_BASE },
	{ "cx8", 1, 0, EDX, 8, FEATURE_BASE },
	{ "apic", 1, 0, EDX, 9, FEATURE_BASE },
	{ "sep", 1, 0, EDX, 11, FEATURE_BASE },
	{ "mtrr", 1, 0, EDX, 12, FEATURE_BASE },
	{ "pge", 1, 0, EDX, 13, FEATURE_BASE },
	{ "mca", 1, 0, EDX, 14, FEATURE_BASE },
	{ "cmov", 1, 0, EDX, 15, FEATURE_BASE },
	{ "pat", 1, 0, EDX, 16, FEATURE_BASE },
	{ "pse36", 1, 0, EDX, 17, FEATURE_BASE },
	{ "clflush", 1, 0, EDX, 19, FEATURE_BASE },
	{ "mmx", 1, 0, EDX, 23, FEATURE_BASE },
	{ "fxsr", 1, 0, EDX, 24, FEATURE_BASE },
	{ "sse", 1, 0, EDX, 25, FEATURE_BASE },
	{ "sse2", 1, 0, EDX, 26, FEATURE_BASE },
	{ "syscall", 0x80000001, 0, EDX, 11, FEATURE_BASE },
	{ "nx", 0x80000001, 0, EDX, 20, FEATURE_BASE },
	{ "lm", 0x80000001, 0, EDX, 29, FEATURE_BASE },

	{ "pni", 1, 0, ECX, 0, FEATURE_V2 },
	{ "pclmulqdq", 1, 0, ECX, 1, FEATURE_V2 },
	{ "ssse3", 1, 0, ECX, 9, FEATURE_V2 },
	{ "cx16", 1, 0, ECX, 13, FEATURE_V2 },
	{ "sse4_1", 1, 0, ECX, 19, FEATURE_V2 },
	{ "sse4_2", 1, 0, ECX, 20, FEATURE_V2 },
	{ "popcnt", 1, 0, ECX, 23, FEATURE_V2 },
	{ "aes", 1, 0, ECX, 25, FEATURE_V2 },
	{ "lahf_lm", 0x80000001, 0, ECX, 0, FEATURE_V2 },
	{ "rdtscp", 0x80000001, 0, EDX, 27, FEATURE_V2 },

	{ "fma", 1, 0, ECX, 12, FEATURE_V3 },
	{ "movbe", 1, 0, ECX, 22, FEATURE_V3 },
	{ "xsave", 1, 0, ECX, 26, FEATURE_V3 },
	{ "avx", 1, 0, ECX, 28, FEATURE_V3 },
	{ "f16c", 1, 0, ECX, 29, FEATURE_V3 },
	{ "rdrand", 1, 0, ECX, 30, FEATURE_V3 },
	{ "fsgsbase", 7, 0, EBX, 0, FEATURE_V3 },
	{ "bmi1", 7, 0, EBX, 3, FEATURE_V3 },
	{ "avx2", 7, 0, EBX, 5, FEATURE_V3 },
	{ "smep", 7, 0, EBX, 7, FEATURE_V3 },
	{ "bmi2", 7, 0, EBX, 8, FEATURE_V3 },
	{ "xsaveopt", 0xd, 1, EAX, 0, FEATURE_V3 },
	{ "abm", 0x80000001, 0, ECX, 5, FEATURE_V3 },

	{ "kvmclock_old", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_CLOCKSOURCE, FEATURE_KVM },
	{ "kvm_nop_io_delay", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_NOP_IO_DELAY, FEATURE_KVM },
	{ "kvmclock", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_CLOCKSOURCE2, FEATURE_KVM },
	{ "kvm_async_pf", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_ASYNC_PF, FEATURE_KVM },
	{ "kvm_steal_time", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_STEAL_TIME, FEATURE_KVM },
	{ "kvm_pv_eoi", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_PV_EOI, FEATURE_KVM },
	{ "kvm_pv_unhalt", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_PV_UNHALT, FEATURE_KVM },
	{ "kvm_pv_tlb_flush", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_PV_TLB_FLUSH, FEATURE_KVM },
	{ "kvm_pv_ipi", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_PV_SEND_IPI, FEATURE_KVM },
	{ "kvm_poll_control", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_POLL_CONTROL, FEATURE_KVM },
	{ "kvm_sched_yield", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_PV_SCHED_YIELD, FEATURE_KVM },
	{ "kvm_async_pf_int", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_ASYNC_PF_INT, FEATURE_KVM },
	{ "kvmclock_stable", KVM_CPUID_FEATURES, 0, EAX, KVM_FEATURE_CLOCKSOURCE_STABLE_BIT,
	  FEATURE_KVM },

	{ "md_clear", 7, 0, EDX, 10, FEATURE_MITIGATION },
	{ "spec_ctrl", 7, 0, EDX, 26, FEATURE_MITIGATION },
	{ "intel_stibp", 7, 0, EDX, 27, FEATURE_MITIGATION },
	{ "flush_l1d", 7, 0, EDX, 28, FEATURE_MITIGATION },
	{ "spec_ctrl_ssbd", 7, 0, EDX, 31, FEATURE_MITIGATION },
	{ "ibpb", 0x80000008, 0, EBX, 12, FEATURE_MITIGATION },
	{ "ibrs", 0x80000008, 0, EBX, 14, FEATURE_MITIGATION },
	{ "stibp", 0x80000008, 0, EBX, 15, FEATURE_MITIGATION },
	{ "amd_ssbd", 0x80000008, 0, EBX, 24, FEATURE_MITIGATION },
	{ "virt_ssbd", 0x80000008, 0, EBX, 25, FEATURE_MITIGATION },
	{ "amd_ssb_no", 0x80000008, 0, EBX, 26, FEATURE_MITIGATION },

	{ "x2apic", 1, 0, ECX, 21, FEATURE_MONITOR },
	{ "tsc_deadline_timer", 1, 0, ECX, 24, FEATURE_MONITOR },
	{ "hypervisor", 1, 0, ECX, 31, FEATURE_MONITOR },
	{ "tsc_adjust", 7, 0, EBX, 1, FEATURE_MONITOR },
	{ "arat", 6, 0, EAX, 2, FEATURE_MONITOR },
};
const size_t cpu_features_count = ARRAY_SIZE(cpu_features);

bool cpu_feature_in(const struct kvm_cpuid2 *cpuid, const struct cpu_feature *feature)
{
	return cpuid_get(cpuid, feature->leaf, feature->subleaf, feature->reg) >> feature->bit & 1;
}
