/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/compat.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cpu/features.h"
#include "cpu/model.h"

#define LEAF_XSAVE 0xd
#define LEAF_PERFORMANCE 0xa
#define XSAVE_FIRST_EXTENDED 2 /* x87 and SSE have their fixed places */
#define XSAVE_LAST 62

/* Collects lacks; counts on past the room. */
struct lacks {
	struct cpu_lack *list;
	size_t max, count;
};

static void _printf_(2, 3) add(struct lacks *lacks, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (lacks->count < lacks->max)
		vsnprintf(lacks->list[lacks->count].what, sizeof(lacks->list[0].what), format,
			  args);
	va_end(args);
	lacks->count++;
}

/* Registers whose bits each say that there is something to use (Intel SDM 2A, CPUID; AMD APM 3, E.4; Linux,
 * Documentation/virt/kvm/x86/cpuid.rst). `not_judged`: bits that mirror control registers, tell topology, say that something
 * is gone, or that we or KVM make whatever the host is. */
struct feature_register {
	uint32_t leaf;
	uint8_t subleaf;
	uint8_t reg; /* enum cpuid_register */
	uint32_t not_judged;
};

static const struct feature_register registers[] = {
	{ 1, 0, CPUID_ECX, 1u << 3 | 1u << 27 }, /* MONITOR, OSXSAVE */
	{ 1, 0, CPUID_EDX, 1u << 28 },		 /* HTT */
	{ 6, 0, CPUID_EAX, 0 },
	{ 7, 0, CPUID_EBX, 1u << 6 | 1u << 13 }, /* x87 pointers and selectors gone */
	{ 7, 0, CPUID_ECX, 1u << 4 },		 /* OSPKE */
	{ 7, 0, CPUID_EDX, 0 },
	{ 7, 1, CPUID_EAX, 0 },
	{ 7, 1, CPUID_EBX, 0 },
	{ 7, 1, CPUID_EDX, 0 },
	{ 7, 2, CPUID_EDX, 0 },
	{ LEAF_XSAVE, 0, CPUID_EAX, 0 },
	{ LEAF_XSAVE, 0, CPUID_EDX, 0 },
	{ LEAF_XSAVE, 1, CPUID_EAX, 0 },
	{ LEAF_XSAVE, 1, CPUID_ECX, 0 },
	{ LEAF_XSAVE, 1, CPUID_EDX, 0 },
	{ KVM_CPUID_FEATURES, 0, CPUID_EAX, 0 },
	{ 0x80000001, 0, CPUID_ECX, 1u << 1 }, /* CMP_LEGACY */
	{ 0x80000001, 0, CPUID_EDX, 0 },
	{ 0x80000007, 0, CPUID_EDX, 0 },
	{ 0x80000008, 0, CPUID_EBX, 0 },
	{ 0x80000021, 0, CPUID_EAX, 0 },
};

/* Names of what `host` may give beyond the models, as /proc/cpuinfo has them. */
struct bit_name {
	const char *name;
	uint32_t leaf;
	uint8_t subleaf, reg, bit;
};

static const struct bit_name names[] = {
	{ "vme", 1, 0, CPUID_EDX, 1 },
	{ "ss", 1, 0, CPUID_EDX, 27 },
	{ "pcid", 1, 0, CPUID_ECX, 17 },
	{ "hle", 7, 0, CPUID_EBX, 4 },
	{ "erms", 7, 0, CPUID_EBX, 9 },
	{ "invpcid", 7, 0, CPUID_EBX, 10 },
	{ "rtm", 7, 0, CPUID_EBX, 11 },
	{ "mpx", 7, 0, CPUID_EBX, 14 },
	{ "avx512f", 7, 0, CPUID_EBX, 16 },
	{ "avx512dq", 7, 0, CPUID_EBX, 17 },
	{ "rdseed", 7, 0, CPUID_EBX, 18 },
	{ "adx", 7, 0, CPUID_EBX, 19 },
	{ "smap", 7, 0, CPUID_EBX, 20 },
	{ "avx512ifma", 7, 0, CPUID_EBX, 21 },
	{ "clflushopt", 7, 0, CPUID_EBX, 23 },
	{ "clwb", 7, 0, CPUID_EBX, 24 },
	{ "intel_pt", 7, 0, CPUID_EBX, 25 },
	{ "avx512pf", 7, 0, CPUID_EBX, 26 },
	{ "avx512er", 7, 0, CPUID_EBX, 27 },
	{ "avx512cd", 7, 0, CPUID_EBX, 28 },
	{ "sha_ni", 7, 0, CPUID_EBX, 29 },
	{ "avx512bw", 7, 0, CPUID_EBX, 30 },
	{ "avx512vl", 7, 0, CPUID_EBX, 31 },
	{ "avx512vbmi", 7, 0, CPUID_ECX, 1 },
	{ "umip", 7, 0, CPUID_ECX, 2 },
	{ "pku", 7, 0, CPUID_ECX, 3 },
	{ "waitpkg", 7, 0, CPUID_ECX, 5 },
	{ "avx512_vbmi2", 7, 0, CPUID_ECX, 6 },
	{ "gfni", 7, 0, CPUID_ECX, 8 },
	{ "vaes", 7, 0, CPUID_ECX, 9 },
	{ "vpclmulqdq", 7, 0, CPUID_ECX, 10 },
	{ "avx512_vnni", 7, 0, CPUID_ECX, 11 },
	{ "avx512_bitalg", 7, 0, CPUID_ECX, 12 },
	{ "avx512_vpopcntdq", 7, 0, CPUID_ECX, 14 },
	{ "la57", 7, 0, CPUID_ECX, 16 },
	{ "rdpid", 7, 0, CPUID_ECX, 22 },
	{ "cldemote", 7, 0, CPUID_ECX, 25 },
	{ "movdiri", 7, 0, CPUID_ECX, 27 },
	{ "movdir64b", 7, 0, CPUID_ECX, 28 },
	{ "avx512_4vnniw", 7, 0, CPUID_EDX, 2 },
	{ "avx512_4fmaps", 7, 0, CPUID_EDX, 3 },
	{ "fsrm", 7, 0, CPUID_EDX, 4 },
	{ "avx512_vp2intersect", 7, 0, CPUID_EDX, 8 },
	{ "serialize", 7, 0, CPUID_EDX, 14 },
	{ "tsxldtrk", 7, 0, CPUID_EDX, 16 },
	{ "amx_bf16", 7, 0, CPUID_EDX, 22 },
	{ "avx512_fp16", 7, 0, CPUID_EDX, 23 },
	{ "amx_tile", 7, 0, CPUID_EDX, 24 },
	{ "amx_int8", 7, 0, CPUID_EDX, 25 },
	{ "arch_capabilities", 7, 0, CPUID_EDX, 29 },
	{ "avx_vnni", 7, 1, CPUID_EAX, 4 },
	{ "avx512_bf16", 7, 1, CPUID_EAX, 5 },
	{ "XSAVE state of AVX", LEAF_XSAVE, 0, CPUID_EAX, 2 },
	{ "XSAVE state of MPX bounds", LEAF_XSAVE, 0, CPUID_EAX, 3 },
	{ "XSAVE state of MPX configuration", LEAF_XSAVE, 0, CPUID_EAX, 4 },
	{ "XSAVE state of AVX-512 masks", LEAF_XSAVE, 0, CPUID_EAX, 5 },
	{ "XSAVE state of AVX-512 ZMM0-15", LEAF_XSAVE, 0, CPUID_EAX, 6 },
	{ "XSAVE state of AVX-512 ZMM16-31", LEAF_XSAVE, 0, CPUID_EAX, 7 },
	{ "XSAVE state of PKRU", LEAF_XSAVE, 0, CPUID_EAX, 9 },
	{ "XSAVE state of AMX configuration", LEAF_XSAVE, 0, CPUID_EAX, 17 },
	{ "XSAVE state of AMX tiles", LEAF_XSAVE, 0, CPUID_EAX, 18 },
	{ "xsavec", LEAF_XSAVE, 1, CPUID_EAX, 1 },
	{ "xgetbv1", LEAF_XSAVE, 1, CPUID_EAX, 2 },
	{ "xsaves", LEAF_XSAVE, 1, CPUID_EAX, 3 },
	{ "cr8_legacy", 0x80000001, 0, CPUID_ECX, 4 },
	{ "sse4a", 0x80000001, 0, CPUID_ECX, 6 },
	{ "misalignsse", 0x80000001, 0, CPUID_ECX, 7 },
	{ "3dnowprefetch", 0x80000001, 0, CPUID_ECX, 8 },
	{ "osvw", 0x80000001, 0, CPUID_ECX, 9 },
	{ "xop", 0x80000001, 0, CPUID_ECX, 11 },
	{ "fma4", 0x80000001, 0, CPUID_ECX, 16 },
	{ "tbm", 0x80000001, 0, CPUID_ECX, 21 },
	{ "topoext", 0x80000001, 0, CPUID_ECX, 22 },
	{ "perfctr_core", 0x80000001, 0, CPUID_ECX, 23 },
	{ "mmxext", 0x80000001, 0, CPUID_EDX, 22 },
	{ "fxsr_opt", 0x80000001, 0, CPUID_EDX, 25 },
	{ "pdpe1gb", 0x80000001, 0, CPUID_EDX, 26 },
	{ "invariant TSC", 0x80000007, 0, CPUID_EDX, 8 },
	{ "clzero", 0x80000008, 0, CPUID_EBX, 0 },
	{ "xsaveerptr", 0x80000008, 0, CPUID_EBX, 2 },
	{ "wbnoinvd", 0x80000008, 0, CPUID_EBX, 9 },
};

/* What we or KVM make is no matter of the host's. */
static uint32_t made_by_monitor(const struct feature_register *reg)
{
	uint32_t bits = 0;

	for (size_t i = 0; i < cpu_features_count; i++) {
		const struct cpu_feature *f = &cpu_features[i];

		if (f->class == FEATURE_MONITOR && f->leaf == reg->leaf &&
		    f->subleaf == reg->subleaf && f->reg == reg->reg)
			bits |= 1u << f->bit;
	}
	return bits;
}

static const char *name_of(const struct feature_register *reg, unsigned int bit)
{
	for (size_t i = 0; i < cpu_features_count; i++) {
		const struct cpu_feature *f = &cpu_features[i];

		if (f->leaf == reg->leaf && f->subleaf == reg->subleaf && f->reg == reg->reg &&
		    f->bit == bit)
			return f->name;
	}
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].leaf == reg->leaf && names[i].subleaf == reg->subleaf &&
		    names[i].reg == reg->reg && names[i].bit == bit)
			return names[i].name;
	return NULL;
}

static void judge_register(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
			   const struct feature_register *reg, struct lacks *lacks)
{
	static const char *const register_names[] = { "EAX", "EBX", "ECX", "EDX" };
	uint32_t lacking = cpuid_get(guest, reg->leaf, reg->subleaf, reg->reg) &
			   ~cpuid_get(supported, reg->leaf, reg->subleaf, reg->reg) &
			   ~reg->not_judged & ~made_by_monitor(reg);

	for (; lacking; lacking &= lacking - 1) {
		unsigned int bit = (unsigned int)__builtin_ctz(lacking);
		const char *name = name_of(reg, bit);

		if (name)
			add(lacks, "%s", name);
		else
			add(lacks, "CPUID %#x.%u %s bit %u", reg->leaf, reg->subleaf,
			    register_names[reg->reg], bit);
	}
}

static void vendor_name(const struct kvm_cpuid2 *cpuid, char ret_name[13])
{
	const uint32_t parts[3] = {
		cpuid_get(cpuid, 0, 0, CPUID_EBX),
		cpuid_get(cpuid, 0, 0, CPUID_EDX),
		cpuid_get(cpuid, 0, 0, CPUID_ECX),
	};

	memcpy(ret_name, parts, 12);
	ret_name[12] = '\0';
}

/* Instructions, MSRs and errata differ by vendor in ways that no feature bit tells. */
static void judge_vendor(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
			 struct lacks *lacks)
{
	char there[13], here[13];

	vendor_name(guest, there);
	vendor_name(supported, here);
	if (memcmp(there, here, sizeof(there)) != 0)
		add(lacks, "vendor %s (%s here)", there, here);
}

/* Bits that the guest takes for address bits must not be reserved ones here. */
static void judge_width(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
			struct lacks *lacks)
{
	uint32_t there = cpu_model_address_bits(guest), here = cpu_model_address_bits(supported);

	if (there > here)
		add(lacks, "%u bits of physical address (%u here)", there, here);
}

/* The saved area is laid out as the guest's CPUID says (Intel SDM 1, 13.4): a component at another place is another's. */
static void judge_xsave_layout(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
			       struct lacks *lacks)
{
	uint64_t components = cpuid_get(guest, LEAF_XSAVE, 0, CPUID_EAX) |
			      (uint64_t)cpuid_get(guest, LEAF_XSAVE, 0, CPUID_EDX) << 32;
	uint64_t here = cpuid_get(supported, LEAF_XSAVE, 0, CPUID_EAX) |
			(uint64_t)cpuid_get(supported, LEAF_XSAVE, 0, CPUID_EDX) << 32;

	for (uint32_t i = XSAVE_FIRST_EXTENDED; i <= XSAVE_LAST; i++) {
		if (!(components & here & 1ULL << i))
			continue;
		if (cpuid_get(guest, LEAF_XSAVE, i, CPUID_EAX) !=
			    cpuid_get(supported, LEAF_XSAVE, i, CPUID_EAX) ||
		    cpuid_get(guest, LEAF_XSAVE, i, CPUID_EBX) !=
			    cpuid_get(supported, LEAF_XSAVE, i, CPUID_EBX))
			add(lacks, "XSAVE component %u at its place", i);
	}
}

/* Intel SDM 2A, CPUID leaf 0AH: version and number of counters. */
static void judge_counters(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
			   struct lacks *lacks)
{
	uint32_t there = cpuid_get(guest, LEAF_PERFORMANCE, 0, CPUID_EAX);
	uint32_t here = cpuid_get(supported, LEAF_PERFORMANCE, 0, CPUID_EAX);

	if ((there & 0xff) > (here & 0xff) || (there >> 8 & 0xff) > (here >> 8 & 0xff))
		add(lacks, "performance counters");
}

size_t cpu_compat_lacks(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
			struct cpu_lack ret_lacks[], size_t max)
{
	struct lacks lacks = { .list = ret_lacks, .max = max };

	judge_vendor(guest, supported, &lacks);
	judge_width(guest, supported, &lacks);
	for (size_t i = 0; i < ARRAY_SIZE(registers); i++)
		judge_register(guest, supported, &registers[i], &lacks);
	judge_xsave_layout(guest, supported, &lacks);
	judge_counters(guest, supported, &lacks);
	return lacks.count;
}

static bool is_mitigation(const char *what)
{
	for (size_t i = 0; i < cpu_features_count; i++)
		if (strcmp(cpu_features[i].name, what) == 0)
			return cpu_features[i].class == FEATURE_MITIGATION;
	return false;
}

/* The way out. A fixed model is no help where it is the mitigations that differ: it has what its host has. */
static const char *way_out(const struct kvm_cpuid2 *supported, const struct cpu_lack lacks[],
			   size_t n_lacks)
{
	bool mitigations = true;

	if (strncmp(lacks[0].what, "vendor ", 7) == 0)
		return "take a host of the same vendor";
	for (size_t i = 0; i < n_lacks; i++)
		mitigations = mitigations && is_mitigation(lacks[i].what);
	if (mitigations)
		return "take a host with the same microcode and kernel";
	if (cpu_model_lacks(CPU_MODEL_V3, supported, NULL, 0) == 0)
		return "start the VM with --cpus model=v3 to move between these hosts";
	if (cpu_model_lacks(CPU_MODEL_V2, supported, NULL, 0) == 0)
		return "start the VM with --cpus model=v2 to move between these hosts";
	return "take a host whose processor has it";
}

int cpu_compat_check(const struct kvm_cpuid2 *guest, const struct kvm_cpuid2 *supported,
		     struct error *err)
{
	struct cpu_lack lacks[16];
	size_t count = cpu_compat_lacks(guest, supported, lacks, ARRAY_SIZE(lacks));
	size_t named = MIN(count, ARRAY_SIZE(lacks)), used = 0, i = 0;
	char list[256] = "", more[32] = "";

	if (count == 0)
		return 0;
	for (; i < named && used + strlen(lacks[i].what) + 3 < sizeof(list); i++)
		used += (size_t)snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "",
					 lacks[i].what);
	if (count > i)
		snprintf(more, sizeof(more), " and %zu more", count - i);
	return error_set(err, -ENOTSUP, EXIT_STATUS_HOST,
			 "CPU: the guest may use %s%s, which this host lacks; %s", list, more,
			 way_out(supported, lacks, named));
}
