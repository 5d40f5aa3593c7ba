/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/model_tables.h"

#include <asm/kvm_para.h>

#define INTEL CPU_VENDOR_INTEL
#define AMD CPU_VENDOR_AMD
#define BOTH CPU_VENDOR_OTHER

/* Family, model, stepping: real parts of the level that guests know, the same on every host of a vendor. */
#define SIGNATURE_INTEL 0x000306c4 /* Haswell */
#define SIGNATURE_AMD 0x00800f12   /* Zen */

/* Caches. Leaf 4: type | level << 5 | self-initialising; ways-1 << 22 | line-1; sets-1. */
#define CACHE_DATA 1
#define CACHE_CODE 2
#define CACHE_UNIFIED 3
#define CACHE4(n, type, level, ways, sets)                                                         \
	{                                                                                          \
		INTEL, 4, n, true,                                                                 \
		{                                                                                  \
			(type) | (level) << 5 | 1 << 8, ((ways)-1) << 22 | 63, (sets)-1, 0         \
		}                                                                                  \
	}
/* AMD APM 3, E.4.4: associativity codes of 0x80000006. */
#define WAYS_8 6
#define WAYS_16 8

/* The brand string, 16 bytes a leaf. */
#define TEXT(a, b, c, d)                                                                           \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define BRAND(level)                                                                               \
	{ BOTH,                                                                                    \
	  0x80000002,                                                                              \
	  0,                                                                                       \
	  false,                                                                                   \
	  { TEXT('u', 't', 's', 'u'), TEXT('s', 'u', ' ', 'x'), TEXT('8', '6', '-', '6'),          \
	    TEXT('4', '-', 'v', level) } },                                                        \
		{ BOTH, 0x80000003, 0, false, { 0 } },                                             \
	{                                                                                          \
		BOTH, 0x80000004, 0, false,                                                        \
		{                                                                                  \
			0                                                                          \
		}                                                                                  \
	}

#define COMMON(level)                                                                              \
	{ INTEL, 1, 0, false, { SIGNATURE_INTEL, 8 << 8, 0, 0 } },                                 \
		{ AMD, 1, 0, false, { SIGNATURE_AMD, 8 << 8, 0, 0 } },                             \
		{ INTEL, 2, 0, false, { 0x0000ff01, 0, 0, 0 } }, /* caches: see leaf 4 */          \
		CACHE4(0, CACHE_DATA, 1, 8, 64), CACHE4(1, CACHE_CODE, 1, 8, 64),                  \
		CACHE4(2, CACHE_UNIFIED, 2, 8, 1024), CACHE4(3, CACHE_UNIFIED, 3, 16, 16384),      \
		{ INTEL, 4, 4, true, { 0 } }, { BOTH, 6, 0, false, { 0 } },                        \
		{ BOTH, 7, 0, true, { 0 } }, { BOTH, 0x80000001, 0, false, { 0 } }, BRAND(level),  \
		{ AMD,                                                                             \
		  0x80000005,                                                                      \
		  0,                                                                               \
		  false,                                                                           \
		  { 0, 0, 32u << 24 | 8 << 16 | 1 << 8 | 64,                                       \
		    32u << 24 | 8 << 16 | 1 << 8 | 64 } },                                         \
		{ AMD,                                                                             \
		  0x80000006,                                                                      \
		  0,                                                                               \
		  false,                                                                           \
		  { 0, 0, 512 << 16 | WAYS_8 << 12 | 1 << 8 | 64,                                  \
		    32 << 18 | WAYS_16 << 12 | 1 << 8 | 64 } },                                    \
		{ INTEL, 0x80000006, 0, false, { 0, 0, 512 << 16 | WAYS_8 << 12 | 64, 0 } },       \
		{ BOTH, KVM_CPUID_FEATURES, 0, false, { 0 } },                                     \
		{ BOTH, 0x80000007, 0, false, { 0 } },                                             \
	{                                                                                          \
		BOTH, 0x80000008, 0, false,                                                        \
		{                                                                                  \
			CPU_MODEL_ADDRESS_BITS | 48 << 8, 0, 0, 0                                  \
		}                                                                                  \
	}

/* XSAVE of v3: x87, SSE and AVX, standard form (Intel SDM 1, 13.4). */
#define XSAVE_COMPONENTS 0x7
#define XSAVE_SIZE 832
#define AVX_SIZE 256
#define AVX_OFFSET 576

/* clang-format off */
static const struct model_leaf v2_leaves[] = {
	COMMON('2'),
};

static const struct model_leaf v3_leaves[] = {
	COMMON('3'),
	{ BOTH, 0xd, 0, true, { XSAVE_COMPONENTS, XSAVE_SIZE, XSAVE_SIZE, 0 } },
	{ BOTH, 0xd, 1, true, { 0 } },
	{ BOTH, 0xd, 2, true, { AVX_SIZE, AVX_OFFSET, 0, 0 } },
};
/* clang-format on */

static const struct model_tables tables[] = {
	[CPU_MODEL_HOST] = { "host", 0, NULL, 0 },
	[CPU_MODEL_V2] = { "v2", 0xb, v2_leaves, ARRAY_SIZE(v2_leaves) },
	[CPU_MODEL_V3] = { "v3", 0xd, v3_leaves, ARRAY_SIZE(v3_leaves) },
};

const struct model_tables *cpu_model_tables(enum cpu_model model)
{
	return &tables[model];
}
