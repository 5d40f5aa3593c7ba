/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Which instruction made an access, on programs made at random: instructions as Zydis encodes them, some with prefixes that mean
 * nothing, registers that often hold the same. Exits are simulated as KVM makes them. However little can be told, no other
 * instruction is ever named.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <Zydis/Zydis.h>
#include <cmocka.h>

#include "base/macros.h"
#include "watch/read/instruction.h"

#define PROGRAMS 60
#define LENGTH 120 /* instructions of a program */
#define ROUNDS 3
#define PADDING 256 /* bytes of no-ops around it */
#define DF (1U << 10)

struct form {
	ZydisMnemonic mnemonic;
	bool reads, writes; /* memory or a port */
	enum { STORE, STORE_IMMEDIATE, LOAD, MODIFY, PORT_IN, PORT_OUT, STRING, NO_ACCESS } kind;
};

static const struct form forms[] = {
	{ ZYDIS_MNEMONIC_MOV, false, true, STORE },
	{ ZYDIS_MNEMONIC_MOV, false, true, STORE },
	{ ZYDIS_MNEMONIC_MOV, false, true, STORE_IMMEDIATE },
	{ ZYDIS_MNEMONIC_MOV, true, false, LOAD },
	{ ZYDIS_MNEMONIC_ADD, true, false, LOAD },
	{ ZYDIS_MNEMONIC_XCHG, true, true, MODIFY },
	{ ZYDIS_MNEMONIC_XADD, true, true, MODIFY },
	{ ZYDIS_MNEMONIC_OR, true, true, MODIFY },
	{ ZYDIS_MNEMONIC_IN, true, false, PORT_IN },
	{ ZYDIS_MNEMONIC_OUT, false, true, PORT_OUT },
	{ ZYDIS_MNEMONIC_STOSB, false, true, STRING },
	{ ZYDIS_MNEMONIC_ADD, false, false, NO_ACCESS },
	{ ZYDIS_MNEMONIC_ADD, false, false, NO_ACCESS },
};

struct one {
	const struct form *form;
	unsigned int start, length;
	int base, index; /* numbers of registers; -1: none */
	int scale, reg, size;
	int64_t displacement, immediate;
};

struct program {
	uint8_t mode;
	uint8_t code[PADDING + LENGTH * 20 + PADDING];
	unsigned int len; /* with the padding before it */
	uint64_t linear;
	struct one ones[LENGTH];
	unsigned int n;
};

static uint64_t seed;

/* xorshift64 */
static uint64_t draw(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (seed >> 11) % below;
}

static ZydisRegister register_of(int number, int bits)
{
	static const ZydisRegister bytes[] = {
		ZYDIS_REGISTER_AL,   ZYDIS_REGISTER_CL,	  ZYDIS_REGISTER_DL,   ZYDIS_REGISTER_BL,
		ZYDIS_REGISTER_SPL,  ZYDIS_REGISTER_BPL,  ZYDIS_REGISTER_SIL,  ZYDIS_REGISTER_DIL,
		ZYDIS_REGISTER_R8B,  ZYDIS_REGISTER_R9B,  ZYDIS_REGISTER_R10B, ZYDIS_REGISTER_R11B,
		ZYDIS_REGISTER_R12B, ZYDIS_REGISTER_R13B, ZYDIS_REGISTER_R14B, ZYDIS_REGISTER_R15B,
	};

	if (number < 0)
		return ZYDIS_REGISTER_NONE;
	if (bits == 8)
		return bytes[number];
	return (ZydisRegister)((bits == 16   ? ZYDIS_REGISTER_AX
				: bits == 32 ? ZYDIS_REGISTER_EAX
					     : ZYDIS_REGISTER_RAX) +
			       number);
}

/* Any but the stack pointer; without r8 and up, and the bytes that need them, outside of 64-bit mode. */
static int draw_register(const struct program *program, int size)
{
	int number = (int)draw(program->mode == 64 ? 16 : size == 1 ? 4 : 8);

	return number == 4 ? 3 : number;
}

static void draw_operands(const struct program *program, struct one *one)
{
	static const int64_t displacements[] = { 0, 0, 4, 0x40, -8, 0x26, 0x12345640 };

	one->size = 1 << draw(program->mode == 64 ? 4 : 3);
	one->base = draw_register(program, 4);
	one->index = draw(4) ? -1 : draw_register(program, 4);
	one->scale = 1 << draw(4);
	one->displacement = displacements[draw(ARRAY_SIZE(displacements))];
	one->reg = draw_register(program, one->size);
	one->immediate = (int64_t)draw(3) ? (int64_t)draw(128) : 0;
	if (one->form->kind == PORT_IN || one->form->kind == PORT_OUT) {
		one->size = 1 << draw(3);
		one->reg = 0;
	} else if (one->form->kind == STRING) {
		one->size = 1;
		one->reg = 0;
		one->base = 7;
	}
}

static ZydisEncoderOperand make_register(ZydisRegister reg)
{
	return (ZydisEncoderOperand){ .type = ZYDIS_OPERAND_TYPE_REGISTER, .reg.value = reg };
}

static ZydisEncoderOperand make_memory(const struct program *program, const struct one *one)
{
	return (ZydisEncoderOperand){
		.type = ZYDIS_OPERAND_TYPE_MEMORY,
		.mem = { .base = register_of(one->base, program->mode),
			 .index = register_of(one->index, program->mode),
			 .scale = one->index < 0 ? 0 : (ZyanU8)one->scale,
			 .displacement = one->displacement,
			 .size = (ZyanU16)one->size },
	};
}

static void make_request(const struct program *program, const struct one *one,
			 ZydisEncoderRequest *ret)
{
	ZydisEncoderOperand memory = make_memory(program, one);
	ZydisEncoderOperand reg = make_register(register_of(one->reg, one->size * 8));
	ZydisEncoderOperand port = make_register(ZYDIS_REGISTER_DX);
	ZydisEncoderOperand immediate = { .type = ZYDIS_OPERAND_TYPE_IMMEDIATE,
					  .imm.s = one->immediate };
	bool memory_first = one->form->kind != LOAD && one->form->kind != PORT_IN;

	*ret = (ZydisEncoderRequest){
		.machine_mode = program->mode == 64 ? ZYDIS_MACHINE_MODE_LONG_64
						    : ZYDIS_MACHINE_MODE_LEGACY_32,
		.mnemonic = one->form->mnemonic,
		.operand_count = one->form->kind == STRING ? 0 : 2,
	};
	if (one->form->kind == PORT_IN || one->form->kind == PORT_OUT)
		memory = port;
	if (one->form->kind == STORE_IMMEDIATE || one->form->kind == NO_ACCESS)
		reg = immediate;
	if (one->form->kind == NO_ACCESS)
		memory = make_register(register_of(one->reg, one->size * 8));
	ret->operands[0] = memory_first ? memory : reg;
	ret->operands[1] = memory_first ? reg : memory;
}

/* A prefix without a meaning, before one that may have it; its length. */
static unsigned int put_prefix(const struct program *program, const struct one *one, uint8_t *to)
{
	static const uint8_t prefixes[] = { 0x2e, 0x3e, 0x26, 0x36 };

	if (program->mode != 64 || draw(8) || one->form->kind == PORT_IN ||
	    one->form->kind == PORT_OUT)
		return 0;
	*to = prefixes[draw(ARRAY_SIZE(prefixes))];
	return 1;
}

static void make_program(struct program *program)
{
	*program = (struct program){ .mode = draw(3) ? 64 : 32, .len = PADDING };
	program->linear = program->mode == 64 ? 0xffffffff81000000ULL : 0x400000;
	memset(program->code, 0x90, sizeof(program->code));
	while (program->n < LENGTH) {
		struct one *one = &program->ones[program->n];
		uint8_t code[ZYDIS_MAX_INSTRUCTION_LENGTH + 1];
		ZydisEncoderRequest request;
		ZyanUSize len = ZYDIS_MAX_INSTRUCTION_LENGTH;
		unsigned int prefix;

		*one = (struct one){ .form = &forms[draw(ARRAY_SIZE(forms))] };
		draw_operands(program, one);
		make_request(program, one, &request);
		prefix = put_prefix(program, one, code);
		if (ZYAN_FAILED(ZydisEncoderEncodeInstruction(&request, code + prefix, &len)) ||
		    prefix + len > 15)
			continue;
		one->start = program->len;
		one->length = prefix + (unsigned int)len;
		memcpy(program->code + program->len, code, one->length);
		program->len += one->length;
		program->n++;
	}
}

/* ---- its exits ---- */

static int translate(void *ctx _unused_, uint64_t cr3 _unused_, uint64_t linear,
		     uint64_t *ret_physical)
{
	*ret_physical = linear & 0xffffffffffffULL;
	return 1;
}

static int read_code(void *ctx, uint64_t physical, void *buf, size_t len)
{
	const struct program *program = ctx;
	uint64_t start = (program->linear & 0xffffffffffffULL), offset = physical - start;

	if (offset > sizeof(program->code) || len > sizeof(program->code) - offset)
		return -1;
	memcpy(buf, program->code + offset, len);
	return 0;
}

static uint64_t low(uint64_t value, int size)
{
	return size == 8 ? value : value & ((1ULL << (8 * size)) - 1);
}

static void draw_registers(const struct program *program, struct record_access *access)
{
	uint64_t *general = access->registers.general;

	for (unsigned int i = 0; i < 16; i++) {
		static const uint64_t pool[] = { 0, 0, 0x1000, 0x2000, 0x3f8, 0x10000000 };

		general[i] = draw(3) ? pool[draw(ARRAY_SIZE(pool))] : draw(1 << 28) << 4;
		if (program->mode == 64 && draw(2))
			general[i] |= 0xffff888000000000ULL;
	}
	if (program->mode == 32) {
		for (unsigned int i = 0; i < 8; i++)
			general[i] = (uint32_t)general[i];
		memset(&general[8], 0, 8 * sizeof(*general));
	}
	access->registers.rflags = draw(4) ? 2 : 2 | DF;
}

static uint64_t address_of(const struct program *program, const struct one *one,
			   const uint64_t *general)
{
	uint64_t address = (uint64_t)one->displacement + general[one->base];

	if (one->form->kind == PORT_IN || one->form->kind == PORT_OUT)
		return general[2] & 0xffff;
	if (one->form->kind == STRING)
		address = general[7];
	else if (one->index >= 0)
		address += general[one->index] * (uint64_t)one->scale;
	return program->mode == 64 ? address & 0xffffffffffffULL : (uint32_t)address;
}

static void set_code(const struct program *program, unsigned int rip, struct record_access *access)
{
	access->mode = program->mode;
	access->n_before = access->n_after = RECORD_WINDOW;
	memcpy(access->code, program->code + rip - RECORD_WINDOW, sizeof(access->code));
	access->registers.rip = program->linear + rip;
}

struct score {
	unsigned int named, unnamed;
};

static void check(const struct program *program, const struct one *one,
		  const struct watch_record *record, struct score *score)
{
	switch (record->access.verdict) {
	case RECORD_INSN_ON:
	case RECORD_INSN_BEFORE:
	case RECORD_INSN_PAIRED:
		if (record->access.instruction != program->linear + one->start ||
		    record->access.length != one->length)
			fail_msg("at %u, not %u: named %lld, %u bytes", program->mode, one->start,
				 (long long)(record->access.instruction - program->linear),
				 record->access.length);
		score->named++;
		break;
	case RECORD_INSN_UNKNOWN:
		/* Unless it overwrote its own address. */
		if (one->form->kind != MODIFY || (one->reg != one->base && one->reg != one->index))
			fail_msg("mode %u, at %u: nothing fits", program->mode, one->start);
		score->unnamed++;
		break;
	default:
		score->unnamed++;
		break;
	}
}

/* The registers as the instruction left them, and what it wrote. */
static uint64_t finish(const struct program *program, const struct one *one, uint64_t *general,
		       uint64_t rflags)
{
	uint64_t value = general[one->reg];

	switch (one->form->kind) {
	case STORE_IMMEDIATE:
		return (uint64_t)one->immediate;
	case MODIFY:
		if (one->form->mnemonic != ZYDIS_MNEMONIC_OR)
			general[one->reg] = program->mode == 64 ? seed : (uint32_t)seed;
		return draw(1 << 20);
	case STRING:
		general[7] += rflags & DF ? (uint64_t)-1 : 1;
		if (program->mode == 32)
			general[7] = (uint32_t)general[7];
		return value;
	default:
		return value;
	}
}

static void run_one(struct judge *judge, const struct program *program, const struct one *one,
		    uint64_t *sequence, struct score *score)
{
	bool port = one->form->kind == PORT_IN || one->form->kind == PORT_OUT;
	struct watch_record first = { .kind = port ? RECORD_PIO : RECORD_MMIO,
				      .size = (uint8_t)one->size };
	struct watch_record second;

	draw_registers(program, &first.access);
	first.address = address_of(program, one, first.access.registers.general);
	if (!port && first.address % 4096 + (uint64_t)one->size > 4096)
		return;
	second = first;
	if (one->form->reads) {
		first.sequence = ++*sequence;
		set_code(program, one->start, &first.access);
		judge_record(judge, &first);
		check(program, one, &first, score);
	}
	if (one->form->writes) {
		uint64_t value = finish(program, one, second.access.registers.general,
					second.access.registers.rflags);

		second.sequence = ++*sequence;
		second.flags = RECORD_WRITE;
		second.data = low(value, one->size);
		set_code(program, port ? one->start : one->start + one->length, &second.access);
		judge_record(judge, &second);
		check(program, one, &second, score);
	}
}

static struct score run_programs(bool with_memory)
{
	struct score score = { 0 };
	struct program *program = malloc(sizeof(*program));

	seed = 0x2545f4914f6cdd1dULL;
	for (unsigned int i = 0; i < PROGRAMS; i++) {
		struct judge *judge;
		uint64_t sequence = 0;

		make_program(program);
		judge = judge_new(translate, with_memory ? read_code : NULL, program);
		for (unsigned int k = 0; k < ROUNDS * LENGTH; k++)
			run_one(judge, program, &program->ones[draw(LENGTH)], &sequence, &score);
		judge_free(judge);
	}
	free(program);
	return score;
}

static void no_other_instruction_is_named(void **state _unused_)
{
	struct score score = run_programs(false);

	assert_true(score.named > 10000);
	assert_true(score.unnamed < score.named / 5);
}

static void with_memory_nearly_all_are_named(void **state _unused_)
{
	struct score score = run_programs(true);

	assert_true(score.named > 10000);
	assert_true(score.unnamed < score.named / 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_other_instruction_is_named),
		cmocka_unit_test(with_memory_nearly_all_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
