/* SPDX-License-Identifier: Apache-2.0 */

/* Which instruction made an access: kinds of instructions in three modes, those that look alike, pairs, and what is learned. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/macros.h"
#include "watch/read/instruction.h"
#include "watch_instruction_kinds.h"

/* The window is mapped to devices, and so is what lies at 0. */
static int translate(void *ctx, uint64_t cr3 _unused_, uint64_t linear, uint64_t *ret_physical)
{
	unsigned int *count = ctx;

	if (count)
		++*count;
	if (linear < WINDOW_LEN)
		linear += WINDOW + LOW;
	if (linear - WINDOW >= LOW + WINDOW_LEN)
		return 0;
	*ret_physical = DEVICES + linear - WINDOW;
	return 1;
}

static int translate_nothing(void *ctx _unused_, uint64_t cr3 _unused_, uint64_t linear _unused_,
			     uint64_t *ret_physical _unused_)
{
	return -EFAULT;
}

static void set_registers(struct record_access *access, uint8_t mode)
{
	uint64_t window = mode == 64 ? WINDOW : 0;
	const uint64_t general[16] = {
		RAX,	     5,		  PORT,	  window + BX, window + SP,  window + BP,
		window + SI, window + DI, 0x8888, 0x9999,      window + R10, 0xbbbb,
		0xcccc,	     0xdddd,	  0xeeee, 0xffff,
	};
	/* ES CS SS DS FS GS, CR0 */
	const uint64_t segments[8] = {
		0x1000, 0, 0x2000, mode == 16 ? 0x3000 : 0, 0x4000, 0x5000, mode == 16 ? 0 : 1, 0
	};

	memcpy(access->registers.general, general, sizeof(general));
	if (mode != 64)
		memcpy(&access->registers.general[8], segments, sizeof(segments));
	access->registers.rip = window + CODE;
	access->registers.rflags = 2;
	access->mode = mode;
	access->cr3 = 0x1000;
}

/* An exit with the code before and from RIP on; no-ops fill the rest. */
static void make_record(struct watch_record *ret_record, uint8_t mode, enum access kind,
			uint8_t size, uint64_t address, uint64_t data)
{
	static uint64_t sequence;
	uint64_t devices = mode == 64 && kind >= READ ? DEVICES : 0;

	*ret_record = (struct watch_record){
		.sequence = ++sequence,
		.kind = kind >= READ ? RECORD_MMIO : RECORD_PIO,
		.flags = kind == OUT || kind == WRITE ? RECORD_WRITE : 0,
		.size = size,
		.address = devices + address,
		.data = data,
	};
	ret_record->access.n_before = ret_record->access.n_after = RECORD_WINDOW;
	memset(ret_record->access.code, 0x90, sizeof(ret_record->access.code));
	set_registers(&ret_record->access, mode);
}

static void put_before(struct watch_record *record, const char *code, size_t len)
{
	memcpy(record->access.code + RECORD_WINDOW - len, code, len);
}

static void put_on(struct watch_record *record, const char *code, size_t len)
{
	memcpy(record->access.code + RECORD_WINDOW, code, len);
}

static void make_one(const struct one *one, struct watch_record *ret_record)
{
	make_record(ret_record, one->mode, one->access, one->size, one->address, one->data);
	if (one->where == ON)
		put_on(ret_record, one->code, one->len);
	else
		put_before(ret_record, one->code, one->len);
}

static void expect(const struct watch_record *record, const char *text, enum record_verdict verdict,
		   uint64_t instruction, size_t length)
{
	if (record->access.verdict != verdict)
		fail_msg("%s (mode %d): verdict %d, not %d", text, record->access.mode,
			 record->access.verdict, verdict);
	if (record->access.instruction != instruction || record->access.length != length)
		fail_msg("%s (mode %d): at %#llx, %u bytes", text, record->access.mode,
			 (unsigned long long)record->access.instruction, record->access.length);
}

static void expect_one(const struct one *one, const struct watch_record *record)
{
	uint64_t rip = record->access.registers.rip;

	expect(record, one->text, one->where == ON ? RECORD_INSN_ON : RECORD_INSN_BEFORE,
	       one->where == ON ? rip : rip - one->len, one->len);
}

static void each_kind_is_found(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(ones); i++) {
		struct judge *judge = judge_new(translate, NULL, NULL);
		struct watch_record record;

		make_one(&ones[i], &record);
		judge_record(judge, &record);
		expect_one(&ones[i], &record);
		judge_free(judge);
	}
}

static void each_kind_is_found_by_one_judge_again_and_again(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);

	for (unsigned int round = 0; round < 3; round++)
		for (size_t i = 0; i < ARRAY_SIZE(ones); i++) {
			struct watch_record record;

			make_one(&ones[i], &record);
			judge_record(judge, &record);
			expect_one(&ones[i], &record);
		}
	judge_free(judge);
}

static void judge_write(struct judge *judge, const char *code, size_t len, uint8_t size,
			uint64_t address, uint64_t data, struct watch_record *ret_record)
{
	make_record(ret_record, 64, WRITE, size, address, data);
	put_before(ret_record, code, len);
	judge_record(judge, ret_record);
}

static void judge_read(struct judge *judge, const char *code, size_t len, uint8_t size,
		       uint64_t address, struct watch_record *ret_record)
{
	make_record(ret_record, 64, READ, size, address, 0);
	put_on(ret_record, code, len);
	judge_record(judge, ret_record);
}

static void what_does_not_fit_is_unknown(void **state _unused_)
{
	static const struct {
		const char *text;
		enum access access;
		uint8_t size;
		uint64_t address, data;
	} wrongs[] = {
		{ "address", WRITE, 4, DI + 4, 0x55667788 }, { "data", WRITE, 4, DI, 0x55667789 },
		{ "width", WRITE, 2, DI, 0x7788 },	     { "direction", READ, 4, DI, 0 },
		{ "space", OUT, 4, PORT, 0x55667788 },
	};
	struct judge *judge = judge_new(translate, NULL, NULL);

	for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
		struct watch_record record;

		make_record(&record, 64, wrongs[i].access, wrongs[i].size, wrongs[i].address,
			    wrongs[i].data);
		put_before(&record, BYTES("\x89\x07")); /* mov %eax,(%rdi) */
		judge_record(judge, &record);
		expect(&record, wrongs[i].text, RECORD_INSN_UNKNOWN, WINDOW + CODE, 0);
	}
	judge_free(judge);
}

static void another_page_does_when_memory_cannot_be_looked_at(void **state _unused_)
{
	struct judge *blind = judge_new(NULL, NULL, NULL),
		     *late = judge_new(translate_nothing, NULL, NULL);
	struct watch_record record;

	judge_write(blind, BYTES("\x89\x07"), 4, DI + 0x5000, 0x55667788, &record);
	expect(&record, "no memory", RECORD_INSN_BEFORE, WINDOW + CODE - 2, 2);
	judge_write(late, BYTES("\x89\x07"), 4, DI + 0x5000, 0x55667788, &record);
	expect(&record, "memory gone", RECORD_INSN_BEFORE, WINDOW + CODE - 2, 2);
	judge_free(blind);
	judge_free(late);
}

static void the_mapped_address_decides(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	/* addr32 mov %eax,(%rdi): the same offset within the page, another page */
	judge_write(judge, BYTES("\x67\x89\x07"), 4, DI, 0x55667788, &record);
	expect(&record, "(%rdi)", RECORD_INSN_BEFORE, WINDOW + CODE - 2, 2);
	judge_free(judge);
	judge = judge_new(NULL, NULL, NULL);
	judge_write(judge, BYTES("\x67\x89\x07"), 4, DI, 0x55667788, &record);
	expect(&record, "blind", RECORD_INSN_AMBIGUOUS, WINDOW + CODE, 0);
	judge_free(judge);
}

static void a_page_is_translated_once(void **state _unused_)
{
	unsigned int count = 0;
	struct judge *judge = judge_new(translate, NULL, &count);
	struct watch_record record;

	for (unsigned int i = 0; i < 100; i++)
		judge_write(judge, BYTES("\x89\x07"), 4, DI, 0x55667788, &record);
	assert_int_equal(count, 1);
	judge_free(judge);
}

/* What could be a prefix of the instruction, or the end of the one before it. */
static const struct one lookalikes[] = {
	{ "REX", 64, BEFORE, BYTES("\x40\x89\x07"), WRITE, 4, DI, 0x55667788 },
	{ "ES", 64, BEFORE, BYTES("\x26\x89\x07"), WRITE, 4, DI, 0x55667788 },
	{ "CS", 64, BEFORE, BYTES("\x2e\x89\x07"), WRITE, 4, DI, 0x55667788 },
	{ "SS", 64, BEFORE, BYTES("\x36\x89\x07"), WRITE, 4, DI, 0x55667788 },
	{ "DS", 64, BEFORE, BYTES("\x3e\x89\x07"), WRITE, 4, DI, 0x55667788 },
	{ "GS", 64, BEFORE, BYTES("\x65\x89\x07"), WRITE, 4, DI, 0x55667788 },
	{ "REPNE", 64, BEFORE, BYTES("\xf2\x89\x07"), WRITE, 4, DI, 0x55667788 },
	{ "data16", 64, BEFORE, BYTES("\x66\x88\x07"), WRITE, 1, DI, 0x88 },
	{ "two", 64, BEFORE, BYTES("\x3e\x40\x89\x07"), WRITE, 4, DI, 0x55667788 },
	{ "ds in 32", 32, BEFORE, BYTES("\x3e\x89\x07"), WRITE, 4, DI, 0x55667788 },
};

static void lookalikes_are_ambiguous(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(lookalikes); i++) {
		struct judge *judge = judge_new(translate, NULL, NULL);
		struct watch_record record;

		make_one(&lookalikes[i], &record);
		judge_record(judge, &record);
		expect(&record, lookalikes[i].text, RECORD_INSN_AMBIGUOUS,
		       record.access.registers.rip, 0);
		judge_free(judge);
	}
}

/* add $0x40,%rdx; mov %eax,(%rdi): the 0x40 is no prefix for one who comes from the addition. */
static void a_known_boundary_settles_a_lookalike(void **state _unused_)
{
	static const char code[] = "\x48\x83\xc2\x40\x89\x07";
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	judge_write(judge, BYTES(code), 4, DI, 0x55667788, &record);
	expect(&record, "not known", RECORD_INSN_AMBIGUOUS, WINDOW + CODE, 0);
	/* An exit that stood on the addition. */
	make_record(&record, 64, WRITE, 4, SI, 0x12345678);
	record.access.registers.rip -= sizeof(code) - 1;
	put_before(&record, BYTES("\xc7\x06\x78\x56\x34\x12"));
	put_on(&record, BYTES(code));
	judge_record(judge, &record);
	expect(&record, "before it", RECORD_INSN_BEFORE, WINDOW + CODE - 12, 6);
	judge_write(judge, BYTES(code), 4, DI, 0x55667788, &record);
	expect(&record, "known", RECORD_INSN_BEFORE, WINDOW + CODE - 2, 2);
	/* The code there is another meanwhile. */
	judge_write(judge, BYTES("\x48\x83\xc2\x40\x89\x0f"), 4, DI, 5, &record);
	expect(&record, "changed", RECORD_INSN_AMBIGUOUS, WINDOW + CODE, 0);
	judge_free(judge);
}

static void no_walk_crosses_a_branch(void **state _unused_)
{
	static const char code[] = "\x74\x01\x40\x89\x07"; /* je past the 0x40 */
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	make_record(&record, 64, WRITE, 4, SI, 0x12345678);
	record.access.registers.rip -= sizeof(code) - 1;
	put_before(&record, BYTES("\xc7\x06\x78\x56\x34\x12"));
	put_on(&record, BYTES(code));
	judge_record(judge, &record);
	judge_write(judge, BYTES(code), 4, DI, 0x55667788, &record);
	expect(&record, "behind a branch", RECORD_INSN_AMBIGUOUS, WINDOW + CODE, 0);
	judge_free(judge);
}

/* Code in memory that ends where exits stand. */
#define FAR 256

struct memory {
	uint8_t code[FAR];
	uint64_t end; /* physical */
};

static int translate_memory(void *ctx _unused_, uint64_t cr3, uint64_t linear,
			    uint64_t *ret_physical)
{
	return translate(NULL, cr3, linear, ret_physical);
}

static int read_memory(void *ctx, uint64_t physical, void *buf, size_t len)
{
	struct memory *memory = ctx;
	uint64_t offset = physical - (memory->end - FAR);

	if (offset > FAR || len > FAR - offset)
		return -EFAULT;
	memcpy(buf, memory->code + offset, len);
	return 0;
}

/* No-ops, then this, is what is in memory; what the exit saw is `seen`. */
static void expect_with_memory(const char *code, size_t len, const char *seen, uint8_t mode,
			       enum record_verdict verdict, size_t length)
{
	uint64_t window = mode == 64 ? WINDOW : 0;
	struct memory memory = { .end = (mode == 64 ? DEVICES : 0) + CODE };
	struct judge *judge = judge_new(translate_memory, read_memory, &memory);
	struct watch_record record;

	memset(memory.code, 0x90, FAR);
	memcpy(memory.code + FAR - len, code, len);
	make_record(&record, mode, WRITE, 4, DI, 0x55667788);
	put_before(&record, seen, len);
	judge_record(judge, &record);
	expect(&record, "with memory", verdict, window + CODE - length, length);
	judge_free(judge);
}

static void the_code_before_settles_a_lookalike(void **state _unused_)
{
	static const char addition[] = "\x48\x83\xc2\x40\x89\x07", prefix[] = "\x90\x40\x89\x07";
	static const char other[] = "\x48\x83\xc3\x40\x89\x07", segment[] = "\x83\xc2\x3e\x89\x07";

	expect_with_memory(BYTES(addition), addition, 64, RECORD_INSN_BEFORE, 2);
	expect_with_memory(BYTES(prefix), prefix, 64, RECORD_INSN_BEFORE, 3);
	expect_with_memory(BYTES(segment), segment, 32, RECORD_INSN_BEFORE, 2);
	/* Memory holds other code meanwhile. */
	expect_with_memory(BYTES(addition), other, 64, RECORD_INSN_AMBIGUOUS, 0);
}

static void code_that_reads_in_two_ways_settles_nothing(void **state _unused_)
{
	struct memory memory = { .end = DEVICES + CODE };
	struct judge *judge = judge_new(translate_memory, read_memory, &memory);
	struct watch_record record;

	/* add $4,%al over and over: by where one begins, the last takes the 0x40 or does not. */
	memset(memory.code, 0x04, FAR);
	memcpy(memory.code + FAR - 3, "\x40\x89\x07", 3);
	make_record(&record, 64, WRITE, 4, DI, 0x55667788);
	put_before(&record, (const char *)memory.code + FAR - RECORD_WINDOW, RECORD_WINDOW);
	judge_record(judge, &record);
	expect(&record, "two ways", RECORD_INSN_AMBIGUOUS, WINDOW + CODE, 0);
	judge_free(judge);
}

/* mov %r8d,(%rdi) ends in mov %eax,(%rdi): alike only while both registers hold the same. */
static void what_was_found_once_settles_a_lookalike(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	for (unsigned int i = 0; i < 2; i++) {
		make_record(&record, 64, WRITE, 4, DI, 0);
		record.access.registers.general[0] = record.access.registers.general[8] = 0;
		put_before(&record, BYTES("\x44\x89\x07"));
		judge_record(judge, &record);
		if (i == 0) {
			expect(&record, "alike", RECORD_INSN_AMBIGUOUS, WINDOW + CODE, 0);
			judge_write(judge, BYTES("\x44\x89\x07"), 4, DI, 0x8888, &record);
		}
		expect(&record, "found", RECORD_INSN_BEFORE, WINDOW + CODE - 3, 3);
	}
	judge_free(judge);
}

static void judge_twin(struct judge *judge, struct watch_record *ret_record)
{
	make_record(ret_record, 64, OUT, 1, PORT, 0x88);
	put_before(ret_record, BYTES("\xee"));
	put_on(ret_record, BYTES("\xee"));
	judge_record(judge, ret_record);
}

/* OUT twice in a row: only the habit of this KVM tells which of the two it was. */
static void habits_decide_between_twins(void **state _unused_)
{
	for (unsigned int before = 0; before < 2; before++) {
		struct judge *judge = judge_new(translate, NULL, NULL);
		struct watch_record record;

		judge_twin(judge, &record);
		expect(&record, "no habit", RECORD_INSN_AMBIGUOUS, WINDOW + CODE, 0);
		for (unsigned int i = 0; i < 8; i++) {
			make_record(&record, 64, OUT, 1, PORT, 0x88);
			if (before)
				put_before(&record, BYTES("\xee"));
			else
				put_on(&record, BYTES("\xee"));
			judge_record(judge, &record);
		}
		judge_twin(judge, &record);
		expect(&record, "habit", before ? RECORD_INSN_BEFORE : RECORD_INSN_ON,
		       WINDOW + CODE - before, 1);
		/* Twins of another kind are not decided by it. */
		make_record(&record, 64, IN, 1, PORT, 0);
		put_before(&record, BYTES("\xec"));
		put_on(&record, BYTES("\xec"));
		judge_record(judge, &record);
		expect(&record, "other kind", RECORD_INSN_AMBIGUOUS, WINDOW + CODE, 0);
		judge_free(judge);
	}
}

static void an_unsteady_habit_decides_nothing(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	for (unsigned int i = 0; i < 100; i++) {
		make_record(&record, 64, OUT, 1, PORT, 0x88);
		if (i == 50)
			put_before(&record, BYTES("\xee"));
		else
			put_on(&record, BYTES("\xee"));
		judge_record(judge, &record);
	}
	judge_twin(judge, &record);
	expect(&record, "unsteady", RECORD_INSN_AMBIGUOUS, WINDOW + CODE, 0);
	judge_free(judge);
}

static const struct one pairs[] = {
	{ "xchg %eax,(%rdi)", 64, BEFORE, BYTES("\x87\x07"), WRITE, 4, DI, 0x99 },
	{ "xchg %rdi,(%rdi)", 64, BEFORE, BYTES("\x48\x87\x3f"), WRITE, 8, DI, 0x99 },
	{ "lock xadd %eax,(%rdi)", 64, BEFORE, BYTES("\xf0\x0f\xc1\x07"), WRITE, 4, DI, 0x99 },
	{ "lock orl $1,(%rdi)", 64, BEFORE, BYTES("\xf0\x83\x0f\x01"), WRITE, 4, DI, 0x99 },
	{ "lock cmpxchg %ecx,(%rdi)", 64, BEFORE, BYTES("\xf0\x0f\xb1\x0f"), WRITE, 4, DI, 5 },
	{ "xchg %al,(%edi)", 32, BEFORE, BYTES("\x86\x07"), WRITE, 1, DI, 0x99 },
	{ "incw (%di)", 16, BEFORE, BYTES("\xff\x05"), WRITE, 2, (DI & 0xffff) + 0x3000, 0x99 },
};

static void make_first_half(const struct one *one, struct watch_record *ret_record)
{
	make_record(ret_record, one->mode, READ, one->size, one->address, 0);
	ret_record->access.registers.rip -= one->len;
	put_on(ret_record, one->code, one->len);
}

static void two_halves_are_a_pair(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		const struct one *one = &pairs[i];
		struct judge *judge = judge_new(translate, NULL, NULL);
		struct watch_record record;
		uint64_t start;

		make_first_half(one, &record);
		judge_record(judge, &record);
		start = record.access.registers.rip;
		expect(&record, one->text, RECORD_INSN_ON, start, one->len);
		make_one(one, &record);
		judge_record(judge, &record);
		expect(&record, one->text, RECORD_INSN_PAIRED, start, one->len);
		judge_free(judge);
	}
}

static void a_half_that_was_lost_makes_no_pair(void **state _unused_)
{
	const struct one *one = &pairs[3];
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	make_first_half(one, &record);
	judge_record(judge, &record);
	make_one(one, &record);
	record.sequence++;
	judge_record(judge, &record);
	expect(&record, "lost between", RECORD_INSN_BEFORE, WINDOW + CODE - 4, 4);
	judge_free(judge);
}

/* movsl from one device to another: a read on it, a write behind it; with REP both on it. */
static void a_move_between_devices_is_a_pair(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	judge_read(judge, BYTES("\xa5"), 4, SI, &record);
	expect(&record, "read", RECORD_INSN_ON, WINDOW + CODE, 1);
	make_record(&record, 64, WRITE, 4, DI - 4, 0);
	record.access.registers.rip++;
	put_before(&record, BYTES("\xa5"));
	judge_record(judge, &record);
	expect(&record, "write", RECORD_INSN_PAIRED, WINDOW + CODE, 1);
	judge_read(judge, BYTES("\xf3\xa5"), 4, SI, &record);
	expect(&record, "rep read", RECORD_INSN_ON, WINDOW + CODE, 2);
	make_record(&record, 64, WRITE, 4, DI - 4, 0);
	put_on(&record, BYTES("\xf3\xa5"));
	judge_record(judge, &record);
	expect(&record, "rep write", RECORD_INSN_PAIRED, WINDOW + CODE, 2);
	judge_free(judge);
}

static void a_window_that_is_cut_proves_nothing(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	make_record(&record, 64, WRITE, 4, DI, 0x55667788);
	put_before(&record, BYTES("\x89\x07"));
	record.access.n_before = 2;
	judge_record(judge, &record);
	expect(&record, "before", RECORD_INSN_AMBIGUOUS, WINDOW + CODE, 0);
	make_record(&record, 64, WRITE, 4, DI, 0x55667788);
	put_on(&record, BYTES("\x89\x07"));
	record.access.n_before = 0;
	judge_record(judge, &record);
	expect(&record, "on", RECORD_INSN_AMBIGUOUS, WINDOW + CODE, 0);
	judge_free(judge);
}

static void a_record_without_code_is_unknown(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	make_one(&ones[0], &record);
	record.access.mode = 0;
	judge_record(judge, &record);
	expect(&record, "no mode", RECORD_INSN_UNKNOWN, WINDOW + CODE, 0);
	assert_null(insn_code(&record));
	make_one(&ones[0], &record);
	record.access.n_before = record.access.n_after = 0;
	judge_record(judge, &record);
	expect(&record, "no code", RECORD_INSN_UNKNOWN, WINDOW + CODE, 0);
	judge_free(judge);
}

static void what_is_judged_stays_so(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	make_one(&ones[0], &record);
	record.access.verdict = RECORD_INSN_PAIRED;
	record.access.instruction = 0x1234;
	judge_record(judge, &record);
	expect(&record, "paired", RECORD_INSN_PAIRED, 0x1234, 0);
	make_one(&ones[0], &record);
	record.kind = RECORD_DISK;
	judge_record(judge, &record);
	assert_int_equal(record.access.verdict, RECORD_INSN_NOT_JUDGED);
	judge_free(judge);
}

static void judge_stepped(struct judge *judge, uint64_t instruction, const char *code, size_t len,
			  struct watch_record *ret_record)
{
	make_record(ret_record, 64, WRITE, 4, DI, 0x55667788);
	put_before(ret_record, code, len);
	ret_record->access.verdict = RECORD_INSN_STEPPED;
	ret_record->access.instruction = instruction;
	judge_record(judge, ret_record);
}

static void a_stepped_instruction_settles_a_lookalike(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	judge_stepped(judge, WINDOW + CODE - 3, BYTES("\x40\x89\x07"), &record);
	expect(&record, "stepped", RECORD_INSN_STEPPED, WINDOW + CODE - 3, 3);
	judge_write(judge, BYTES("\x40\x89\x07"), 4, DI, 0x55667788, &record);
	expect(&record, "then", RECORD_INSN_BEFORE, WINDOW + CODE - 3, 3);
	judge_free(judge);
}

/* The judgement is put to the proof by steps, not the other way. */
static void a_stepped_instruction_stays(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	judge_stepped(judge, WINDOW + CODE - 3, BYTES("\x90\x89\x07"), &record);
	expect(&record, "another", RECORD_INSN_STEPPED, WINDOW + CODE - 3, 0);
	judge_stepped(judge, 0x1234, BYTES("\x90\x89\x07"), &record);
	expect(&record, "far away", RECORD_INSN_STEPPED, 0x1234, 0);
	judge_write(judge, BYTES("\x90\x89\x07"), 4, DI, 0x55667788, &record);
	expect(&record, "nothing learned", RECORD_INSN_BEFORE, WINDOW + CODE - 2, 2);
	judge_free(judge);
}

static void data_that_a_breakpoint_altered_are_not_compared(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;

	make_record(&record, 64, WRITE, 4, DI, 1);
	record.flags |= RECORD_ALTERED;
	put_before(&record, BYTES("\x89\x07"));
	judge_record(judge, &record);
	expect(&record, "altered", RECORD_INSN_BEFORE, WINDOW + CODE - 2, 2);
	judge_free(judge);
}

static void code_and_text_are_those_of_the_instruction(void **state _unused_)
{
	struct judge *judge = judge_new(translate, NULL, NULL);
	struct watch_record record;
	const uint8_t *code;
	char text[64], small[8];

	judge_write(judge, BYTES("\x89\x07"), 4, DI, 0x55667788, &record);
	code = insn_code(&record);
	assert_non_null(code);
	assert_memory_equal(code, "\x89\x07", 2);
	assert_int_equal(insn_format(code, record.access.length, 64, record.access.instruction,
				     text, sizeof(text)),
			 2);
	assert_string_equal(text, "mov dword ptr [rdi], eax");
	assert_int_equal(insn_format((const uint8_t *)"\x0f\xff", 2, 64, 0, text, sizeof(text)), 0);
	assert_string_equal(text, "(bad)");
	assert_int_equal(insn_format(code, 2, 17, 0, text, sizeof(text)), 0);
	insn_format(code, 2, 64, 0, small, sizeof(small));
	assert_true(strlen(small) < sizeof(small));
	judge_free(judge);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_is_found),
		cmocka_unit_test(each_kind_is_found_by_one_judge_again_and_again),
		cmocka_unit_test(what_does_not_fit_is_unknown),
		cmocka_unit_test(another_page_does_when_memory_cannot_be_looked_at),
		cmocka_unit_test(the_mapped_address_decides),
		cmocka_unit_test(a_page_is_translated_once),
		cmocka_unit_test(lookalikes_are_ambiguous),
		cmocka_unit_test(a_known_boundary_settles_a_lookalike),
		cmocka_unit_test(no_walk_crosses_a_branch),
		cmocka_unit_test(the_code_before_settles_a_lookalike),
		cmocka_unit_test(code_that_reads_in_two_ways_settles_nothing),
		cmocka_unit_test(what_was_found_once_settles_a_lookalike),
		cmocka_unit_test(habits_decide_between_twins),
		cmocka_unit_test(an_unsteady_habit_decides_nothing),
		cmocka_unit_test(two_halves_are_a_pair),
		cmocka_unit_test(a_half_that_was_lost_makes_no_pair),
		cmocka_unit_test(a_move_between_devices_is_a_pair),
		cmocka_unit_test(a_window_that_is_cut_proves_nothing),
		cmocka_unit_test(a_record_without_code_is_unknown),
		cmocka_unit_test(what_is_judged_stays_so),
		cmocka_unit_test(a_stepped_instruction_settles_a_lookalike),
		cmocka_unit_test(a_stepped_instruction_stays),
		cmocka_unit_test(data_that_a_breakpoint_altered_are_not_compared),
		cmocka_unit_test(code_and_text_are_those_of_the_instruction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
