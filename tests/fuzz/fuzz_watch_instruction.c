/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: watch/read/instruction.c watch/read/instruction_operand.c watch/read/instruction_boundary.c
 * covers: watch/read/instruction_text.c watch/read/guest_view.c
 *
 * Records of one ring, made of the input, and a guest whose memory and page tables are its end: whatever they say, a verdict holds
 * together, and its instruction is where the record has code.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/macros.h"
#include "watch/read/guest_view.h"
#include "watch/read/instruction.h"

#define RAM KIB(64)
#define TABLES 0x1000 /* map the first 512 GiB to themselves */
#define CODE 0x8000   /* what follows the records in the input stands here */
#define RECORDS_MAX 64

/* One record. Addresses and data are mostly those of a register, as few random ones would fit. */
struct step {
	uint8_t control; /* 0: MMIO; 1: write; 2-3: mode; 4-5: width; 6: sequence goes on; 7: anything at all */
	uint8_t address; /* register, and 16 x what is added */
	uint8_t data;	 /* register; 128: the bytes as they are; 64: altered */
	uint8_t seed;	 /* of the registers */
	uint8_t window;	 /* bytes of code before, and 16 x after */
	int8_t rip;	 /* from CODE on */
	uint8_t code[32];
};

struct input {
	const uint8_t *data;
	size_t size;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int make_ram(const struct input *input)
{
	const uint64_t root = (TABLES + 0x1000) | 1;
	int fd = memfd_create("ram", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, RAM) < 0 ||
	    pwrite(fd, &root, sizeof(root), TABLES) != sizeof(root))
		abort();
	for (uint64_t i = 0; i < 512; i++) {
		uint64_t entry = i << 30 | 0x81;

		if (pwrite(fd, &entry, sizeof(entry), (off_t)(TABLES + 0x1000 + i * 8)) != 8)
			abort();
	}
	if (pwrite(fd, input->data, MIN(input->size, (size_t)(RAM - CODE)), CODE) < 0)
		abort();
	return fd;
}

static bool take(struct input *input, void *to, size_t len)
{
	if (input->size < len)
		return false;
	memcpy(to, input->data, len);
	input->data += len;
	input->size -= len;
	return true;
}

static void fill_access(const struct step *step, struct record_access *access)
{
	static const uint8_t modes[4] = { 64, 32, 16, 0 };
	uint64_t value = step->seed * 0x9e3779b97f4a7c15ULL;

	access->mode = modes[(step->control >> 2) & 3];
	access->n_before = step->window & 15 ? (step->window & 15) + 1 : 0;
	access->n_after = step->window >> 4 ? (step->window >> 4) + 1 : 0;
	memcpy(access->code, step->code, sizeof(step->code));
	for (unsigned int i = 0; i < ARRAY_SIZE(access->registers.general); i++) {
		value ^= value >> 29;
		value *= 0xbf58476d1ce4e5b9ULL;
		access->registers.general[i] = step->seed & 1 ? value & 0x3fffffff : i << 12;
	}
	if (access->mode != 64)
		access->registers.general[14] = (uint64_t)(step->seed & 2) << 30;
	access->registers.rip = (uint64_t)(CODE + step->rip);
	access->registers.rflags = step->seed & 4 ? 0x402 : 2;
	access->cr3 = step->seed & 8 ? CODE : TABLES;
}

static void make_record(const struct step *step, uint64_t sequence, struct watch_record *record)
{
	const uint64_t *general = record->access.registers.general;

	*record = (struct watch_record){ .sequence = sequence };
	fill_access(step, &record->access);
	record->kind = step->control & 1 ? RECORD_PIO : RECORD_MMIO;
	record->flags = (step->control & 2 ? RECORD_WRITE : 0) |
			(step->data & 64 ? RECORD_ALTERED : 0);
	record->size = (uint8_t)(1 << ((step->control >> 4) & 3));
	record->address = general[step->address & 15] + (step->address >> 4) - 8;
	if (record->kind == RECORD_PIO)
		record->address = step->address & 128 ? step->address : general[2] & 0xffff;
	if (step->data & 128)
		memcpy(&record->data, step->code, sizeof(record->data));
	else
		record->data = general[step->data & 15];
}

static void check(const struct watch_record *record)
{
	const struct record_access *access = &record->access;
	const uint8_t *code = insn_code(record);
	char text[96];

	if (access->verdict == RECORD_INSN_NOT_JUDGED || access->verdict >= RECORD_VERDICTS)
		abort();
	if (code && (code < access->code || access->length > 15 ||
		     code + access->length > access->code + sizeof(access->code)))
		abort();
	if ((access->verdict == RECORD_INSN_ON || access->verdict == RECORD_INSN_BEFORE ||
	     access->verdict == RECORD_INSN_PAIRED) &&
	    (!code || insn_format(code, access->length, access->mode, access->instruction, text,
				  sizeof(text)) != access->length))
		abort();
	if ((access->verdict == RECORD_INSN_UNKNOWN || access->verdict == RECORD_INSN_AMBIGUOUS) &&
	    code)
		abort();
}

static void judge_all(struct judge *judge, struct input *input)
{
	struct watch_record record;
	struct step step;
	uint64_t sequence = 0;

	for (unsigned int i = 0; i < RECORDS_MAX && take(input, &step, sizeof(step)); i++) {
		sequence += step.control & 64 ? 1 : 2;
		if (!(step.control & 128)) {
			make_record(&step, sequence, &record);
			judge_record(judge, &record);
			check(&record);
		} else if (take(input, &record, sizeof(record))) {
			char text[64];

			record.access.length &= 15;
			judge_record(judge, &record);
			insn_code(&record);
			insn_format(record.access.code, sizeof(record.access.code),
				    record.access.mode, 0, text, sizeof(text));
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	int fd = make_ram(&input);
	struct guest_view *view;
	struct judge *judge;
	bool blind = size && data[size - 1] & 1;

	if (guest_view_open(fd, &view) < 0)
		abort();
	judge = judge_new(blind ? NULL : guest_view_translate, blind ? NULL : guest_view_read,
			  view);
	if (!judge)
		abort();
	judge_all(judge, &input);
	judge_free(judge);
	guest_view_free(view);
	close(fd);
	return 0;
}
