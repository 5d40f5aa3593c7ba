/* SPDX-License-Identifier: Apache-2.0 */
/* An access's instruction and registers as text. */
#include <inttypes.h>
#include <string.h>

#include "view/view.h"
#include "watch/read/instruction.h"

#define TEXT_MAX 128

bool view_has_instruction(const struct watch_record *record)
{
	uint8_t mode = record->access.mode;

	return record_is_access(record) && (mode == 16 || mode == 32 || mode == 64);
}

bool view_is_sure(const struct watch_record *record)
{
	switch (record->access.verdict) {
	case RECORD_INSN_ON:
	case RECORD_INSN_BEFORE:
	case RECORD_INSN_PAIRED:
	case RECORD_INSN_STEPPED:
		return view_has_instruction(record);
	default:
		return false;
	}
}

uint64_t view_instruction_address(const struct watch_record *record)
{
	return view_is_sure(record) ? record->access.instruction
				    : record_linear_rip(&record->access);
}

size_t view_instruction_code(const struct watch_record *record, const uint8_t **ret_code)
{
	const struct record_access *access = &record->access;
	char text[TEXT_MAX];

	if (view_is_sure(record)) {
		*ret_code = insn_code(record);
		return *ret_code ? MIN(access->length, RECORD_WINDOW) : 0;
	}
	*ret_code = access->code + RECORD_WINDOW;
	if (!view_has_instruction(record))
		return 0;
	return insn_format(*ret_code, MIN(access->n_after, RECORD_WINDOW), access->mode, 0, text,
			   sizeof(text));
}

void view_format_disassembly(const struct watch_record *record, char *ret_text, size_t size)
{
	const uint8_t *code;
	size_t n = view_instruction_code(record, &code);

	ret_text[0] = '\0';
	if (n && !insn_format(code, n, record->access.mode, view_instruction_address(record),
			      ret_text, size))
		ret_text[0] = '\0';
}

void view_format_symbol(const struct view_context *view, const struct watch_record *record,
			char *ret_text, size_t size)
{
	char text[TEXT_MAX] = "";

	if (view_has_instruction(record) &&
	    !symbols_find(view->symbols, view_instruction_address(record), text, sizeof(text)))
		text[0] = '\0';
	view_copy_text(text, ret_text, size);
}

void view_format_instruction(const struct view_context *view, const struct watch_record *record,
			     char *ret_text, size_t size)
{
	char code[TEXT_MAX], symbol[TEXT_MAX];

	ret_text[0] = '\0';
	if (!view_has_instruction(record))
		return;
	view_format_disassembly(record, code, sizeof(code));
	view_format_symbol(view, record, symbol, sizeof(symbol));
	snprintf(ret_text, size, "%s0x%" PRIx64 "%s%s%s%s", view_is_sure(record) ? "" : "~",
		 view_instruction_address(record), symbol[0] ? " " : "", symbol,
		 code[0] ? ": " : "", code);
}

static const char *const names_64[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };
/* As record.h says: what stands in the place of r8 to r15. */
static const char *const names_32[] = { "eax",	   "ecx",     "edx",	 "ebx",	    "esp",
					"ebp",	   "esi",     "edi",	 "es_base", "cs_base",
					"ss_base", "ds_base", "fs_base", "gs_base", "cr0" };

void view_each_register(const struct watch_record *record,
			void (*each)(void *ctx, const char *name, uint64_t value), void *ctx)
{
	const struct record_registers *registers = &record->access.registers;
	bool wide = record->access.mode == 64;
	size_t n = wide ? ARRAY_SIZE(names_64) : ARRAY_SIZE(names_32);

	if (!view_has_instruction(record))
		return;
	for (size_t i = 0; i < n; i++)
		each(ctx, wide ? names_64[i] : names_32[i], registers->general[i]);
	each(ctx, wide ? "rip" : "eip", registers->rip);
	each(ctx, wide ? "rflags" : "eflags", registers->rflags);
	each(ctx, "cr3", record->access.cr3);
}

struct text {
	char *text;
	size_t size, used;
};

static void add_register(void *ctx, const char *name, uint64_t value)
{
	struct text *text = ctx;
	int n;

	if (text->used >= text->size)
		return;
	n = snprintf(text->text + text->used, text->size - text->used, "%s%s=%" PRIx64,
		     text->used ? " " : "", name, value);
	text->used += (size_t)n;
}

void view_format_registers(const struct watch_record *record, char *ret_text, size_t size)
{
	struct text text = { ret_text, size, 0 };

	ret_text[0] = '\0';
	view_each_register(record, add_register, &text);
}
