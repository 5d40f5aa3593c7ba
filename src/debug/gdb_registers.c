/* SPDX-License-Identifier: Apache-2.0 */
#include "debug/gdb_registers.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define CR0_PE (1ULL << 0)
#define EFER_LMA (1ULL << 10)
#define RFLAGS_VM (1ULL << 17)

enum feature { CORE, SSE, SEGMENTS, SYSTEM, FEATURES };

struct feature_text {
	const char *name;
	const char *types;
};

/* The first three names are GDB's own, which knows their registers by name (GDB manual, G.5.5). */
static const struct feature_text features[FEATURES] = {
	[CORE] = { "org.gnu.gdb.i386.core",
		   "<flags id=\"i386_eflags\" size=\"4\">"
		   "<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/>"
		   "<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
		   "<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
		   "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
		   "<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
		   "<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
		   "<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
		   "<field name=\"VIF\" start=\"19\" end=\"19\"/><field name=\"VIP\" start=\"20\" end=\"20\"/>"
		   "<field name=\"ID\" start=\"21\" end=\"21\"/></flags>\n" },
	[SSE] = { "org.gnu.gdb.i386.sse",
		  "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
		  "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
		  "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
		  "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"
		  "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
		  "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
		  "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/>"
		  "<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"
		  "<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
		  "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/>"
		  "</union>\n" },
	[SEGMENTS] = { "org.gnu.gdb.i386.segments", "" },
	[SYSTEM] = { "org.utsusu.system",
		     "<flags id=\"cr0\" size=\"8\">"
		     "<field name=\"PE\" start=\"0\" end=\"0\"/><field name=\"MP\" start=\"1\" end=\"1\"/>"
		     "<field name=\"EM\" start=\"2\" end=\"2\"/><field name=\"TS\" start=\"3\" end=\"3\"/>"
		     "<field name=\"ET\" start=\"4\" end=\"4\"/><field name=\"NE\" start=\"5\" end=\"5\"/>"
		     "<field name=\"WP\" start=\"16\" end=\"16\"/><field name=\"AM\" start=\"18\" end=\"18\"/>"
		     "<field name=\"NW\" start=\"29\" end=\"29\"/><field name=\"CD\" start=\"30\" end=\"30\"/>"
		     "<field name=\"PG\" start=\"31\" end=\"31\"/></flags>\n"
		     "<flags id=\"efer\" size=\"8\">"
		     "<field name=\"SCE\" start=\"0\" end=\"0\"/><field name=\"LME\" start=\"8\" end=\"8\"/>"
		     "<field name=\"LMA\" start=\"10\" end=\"10\"/><field name=\"NXE\" start=\"11\" end=\"11\"/>"
		     "</flags>\n" },
};

enum kind {
	PLAIN,
	SELECTOR, /* of a segment: 2 bytes here, 4 on the wire */
	TAG,	  /* of the x87 stack: 2 bits for each register on the wire, 1 here */
};

struct row {
	const char *name, *type;
	enum feature feature;
	enum kind kind;
	size_t offset; /* in struct gdb_registers */
	uint8_t size;  /* bytes here */
	uint8_t wire;  /* bytes on the wire */
};

#define PLACE(member)                                                                              \
	offsetof(struct gdb_registers, member), sizeof(((struct gdb_registers *)NULL)->member)
#define REG(name, member, type)                                                                    \
	{                                                                                          \
		name, type, CORE, PLAIN, PLACE(regs.member), 8                                     \
	}
#define SEG(name)                                                                                  \
	{                                                                                          \
#name, "int32", CORE, SELECTOR, PLACE(sregs.name.selector), 4                      \
	}
#define FPU(name, type, kind, at, size, wire)                                                      \
	{                                                                                          \
		name, type, CORE, kind, offsetof(struct gdb_registers, fpu) + (at), size, wire     \
	}
#define ST(i) FPU("st" #i, "i387_ext", PLAIN, 32 + 16 * (i), 10, 10)
#define XMM(i)                                                                                     \
	{                                                                                          \
		"xmm" #i, "vec128", SSE, PLAIN,                                                    \
			offsetof(struct gdb_registers, fpu) + 160 + 16 * (i), 16, 16               \
	}
#define SYS(name, type, member)                                                                    \
	{                                                                                          \
		name, type, SYSTEM, PLAIN, PLACE(member), 8                                        \
	}

/* GDB numbers registers as the description lists them. The legacy area's layout: Intel SDM 1, table 10-2. */
static const struct row rows[] = {
	REG("rax", rax, "int64"),
	REG("rbx", rbx, "int64"),
	REG("rcx", rcx, "int64"),
	REG("rdx", rdx, "int64"),
	REG("rsi", rsi, "int64"),
	REG("rdi", rdi, "int64"),
	REG("rbp", rbp, "data_ptr"),
	REG("rsp", rsp, "data_ptr"),
	REG("r8", r8, "int64"),
	REG("r9", r9, "int64"),
	REG("r10", r10, "int64"),
	REG("r11", r11, "int64"),
	REG("r12", r12, "int64"),
	REG("r13", r13, "int64"),
	REG("r14", r14, "int64"),
	REG("r15", r15, "int64"),
	REG("rip", rip, "code_ptr"),
	{ "eflags", "i386_eflags", CORE, PLAIN, offsetof(struct gdb_registers, regs.rflags), 4, 4 },
	SEG(cs),
	SEG(ss),
	SEG(ds),
	SEG(es),
	SEG(fs),
	SEG(gs),
	ST(0),
	ST(1),
	ST(2),
	ST(3),
	ST(4),
	ST(5),
	ST(6),
	ST(7),
	FPU("fctrl", "int", PLAIN, 0, 2, 4),
	FPU("fstat", "int", PLAIN, 2, 2, 4),
	FPU("ftag", "int", TAG, 4, 1, 4),
	FPU("fiseg", "int", PLAIN, 12, 2, 4),
	FPU("fioff", "int", PLAIN, 8, 4, 4),
	FPU("foseg", "int", PLAIN, 20, 2, 4),
	FPU("fooff", "int", PLAIN, 16, 4, 4),
	FPU("fop", "int", PLAIN, 6, 2, 4),
	XMM(0),
	XMM(1),
	XMM(2),
	XMM(3),
	XMM(4),
	XMM(5),
	XMM(6),
	XMM(7),
	XMM(8),
	XMM(9),
	XMM(10),
	XMM(11),
	XMM(12),
	XMM(13),
	XMM(14),
	XMM(15),
	{ "mxcsr", "int", SSE, PLAIN, offsetof(struct gdb_registers, fpu) + 24, 4, 4 },
	{ "fs_base", "int64", SEGMENTS, PLAIN, PLACE(sregs.fs.base), 8 },
	{ "gs_base", "int64", SEGMENTS, PLAIN, PLACE(sregs.gs.base), 8 },
	SYS("k_gs_base", "int64", kernel_gs_base),
	SYS("cr0", "cr0", sregs.cr0),
	SYS("cr2", "data_ptr", sregs.cr2),
	SYS("cr3", "int64", sregs.cr3),
	SYS("cr4", "int64", sregs.cr4),
	SYS("cr8", "int64", sregs.cr8),
	SYS("efer", "efer", sregs.efer),
};

unsigned int gdb_registers_count(void)
{
	return ARRAY_SIZE(rows);
}

size_t gdb_register_size(unsigned int number)
{
	return number < ARRAY_SIZE(rows) ? rows[number].wire : 0;
}

enum tag { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

/* What a register of the x87 stack holds (Intel SDM 1, 8.1.7): 64 bits of mantissa, then sign and exponent. */
static enum tag tag_of(const uint8_t st[10])
{
	uint64_t mantissa;
	uint16_t exponent;

	memcpy(&mantissa, st, 8);
	memcpy(&exponent, st + 8, 2);
	exponent &= 0x7fff;
	if (exponent == 0 && mantissa == 0)
		return TAG_ZERO;
	return exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? TAG_SPECIAL : TAG_VALID;
}

/* FXSAVE keeps one bit for each physical register; ST(i) is register (top + i) modulo 8. */
static uint32_t tags_get(const uint8_t fpu[GDB_FPU_BYTES])
{
	const unsigned int top = fpu[3] >> 3 & 7;
	uint32_t tags = 0;

	for (unsigned int i = 0; i < 8; i++) {
		const uint8_t *st = fpu + 32 + 16 * ((i - top) & 7);

		tags |= (uint32_t)(fpu[4] >> i & 1 ? tag_of(st) : TAG_EMPTY) << 2 * i;
	}
	return tags;
}

static void tags_set(uint8_t fpu[GDB_FPU_BYTES], const uint8_t value[2])
{
	const unsigned int tags = value[0] | (unsigned int)value[1] << 8;

	fpu[4] = 0;
	for (unsigned int i = 0; i < 8; i++)
		if ((tags >> 2 * i & 3) != TAG_EMPTY)
			fpu[4] |= (uint8_t)(1U << i);
}

void gdb_register_get(const struct gdb_registers *registers, unsigned int number,
		      uint8_t *ret_value)
{
	const struct row *row = &rows[number];

	memset(ret_value, 0, row->wire);
	if (row->kind == TAG) {
		uint32_t tags = tags_get(registers->fpu);

		memcpy(ret_value, &tags, sizeof(tags));
		return;
	}
	memcpy(ret_value, (const uint8_t *)registers + row->offset, row->size);
}

static bool in_real_mode(const struct gdb_registers *registers)
{
	return !(registers->sregs.cr0 & CR0_PE) || (registers->regs.rflags & RFLAGS_VM);
}

/* In real mode a segment begins at its selector times 16 (Intel SDM 3, 21.1.1). */
static int selector_set(struct gdb_registers *registers, const struct row *row,
			const uint8_t *value)
{
	struct kvm_segment *segment = (void *)((uint8_t *)registers + row->offset -
					       offsetof(struct kvm_segment, selector));
	uint16_t selector;

	memcpy(&selector, value, sizeof(selector));
	if (selector == segment->selector)
		return 0;
	if (!in_real_mode(registers))
		return -EINVAL;
	segment->selector = selector;
	segment->base = (uint64_t)selector << 4;
	return 0;
}

int gdb_register_set(struct gdb_registers *registers, unsigned int number, const uint8_t *value)
{
	const struct row *row = &rows[number];

	switch (row->kind) {
	case SELECTOR:
		return selector_set(registers, row, value);
	case TAG:
		tags_set(registers->fpu, value);
		return 0;
	case PLAIN:
		break;
	}
	memcpy((uint8_t *)registers + row->offset, value, row->size);
	return 0;
}

static int append(struct buffer *out, const char *text)
{
	return buffer_append(out, text, strlen(text));
}

static int append_register(struct buffer *out, const struct row *row)
{
	char text[128];

	snprintf(text, sizeof(text), "<reg name=\"%s\" bitsize=\"%u\" type=\"%s\"/>\n", row->name,
		 row->wire * 8U, row->type);
	return append(out, text);
}

static int append_feature(struct buffer *out, enum feature feature)
{
	int r = append(out, "<feature name=\"");

	if (r == 0)
		r = append(out, features[feature].name);
	if (r == 0)
		r = append(out, "\">\n");
	if (r == 0)
		r = append(out, features[feature].types);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(rows); i++)
		if (rows[i].feature == feature)
			r = append_register(out, &rows[i]);
	return r < 0 ? r : append(out, "</feature>\n");
}

int gdb_registers_describe(struct buffer *out)
{
	int r = append(out, "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
			    "<target version=\"1.0\">\n<architecture>i386:x86-64</architecture>\n");

	for (int feature = 0; r == 0 && feature < FEATURES; feature++)
		r = append_feature(out, (enum feature)feature);
	return r < 0 ? r : append(out, "</target>\n");
}

void gdb_registers_mode(const struct gdb_registers *registers, char *ret_text, size_t size)
{
	const struct kvm_sregs *sregs = &registers->sregs;
	unsigned int bits = sregs->cs.db ? 32 : 16;

	if (sregs->efer & EFER_LMA && sregs->cs.l)
		bits = 64;
	if (in_real_mode(registers))
		bits = 16;
	if (registers->mp_state == KVM_MP_STATE_UNINITIALIZED ||
	    registers->mp_state == KVM_MP_STATE_INIT_RECEIVED)
		snprintf(ret_text, size, "not started");
	else
		snprintf(ret_text, size, "%u-bit, ring %u%s", bits, sregs->ss.dpl,
			 registers->mp_state == KVM_MP_STATE_HALTED ? ", halted" : "");
}
