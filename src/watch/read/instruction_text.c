/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include <Zydis/Zydis.h>

#include "base/macros.h"
#include "watch/read/instruction.h"
#include "watch/read/instruction_operand.h"

const uint8_t *insn_code(const struct watch_record *record)
{
	const struct record_access *access = &record->access;
	uint64_t before;

	if ((record->kind != RECORD_PIO && record->kind != RECORD_MMIO) || access->length == 0 ||
	    access->length > INSN_LENGTH_MAX)
		return NULL;
	before = record_linear_rip(access) - access->instruction;
	if (before > MIN(access->n_before, RECORD_WINDOW) ||
	    access->length > before + MIN(access->n_after, RECORD_WINDOW))
		return NULL;
	return access->code + RECORD_WINDOW - before;
}

static bool prepare(ZydisDecoder *decoder, uint8_t mode)
{
	static const struct {
		uint8_t mode;
		ZydisMachineMode machine;
		ZydisStackWidth stack;
	} modes[] = {
		{ 64, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64 },
		{ 32, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32 },
		{ 16, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		if (modes[i].mode == mode)
			return ZYAN_SUCCESS(
				ZydisDecoderInit(decoder, modes[i].machine, modes[i].stack));
	return false;
}

unsigned int insn_format(const uint8_t *code, size_t n_bytes, uint8_t mode, uint64_t address,
			 char *ret_text, size_t size)
{
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisDecodedInstruction insn;
	ZydisFormatter formatter;
	ZydisDecoder decoder;

	snprintf(ret_text, size, "(bad)");
	if (n_bytes == 0 || size == 0 || !prepare(&decoder, mode) ||
	    ZYAN_FAILED(ZydisDecoderDecodeFull(&decoder, code, n_bytes, &insn, operands)))
		return 0;
	if (ZYAN_FAILED(ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL)) ||
	    ZYAN_FAILED(ZydisFormatterSetProperty(&formatter, ZYDIS_FORMATTER_PROP_FORCE_SIZE,
						  ZYAN_TRUE)) ||
	    ZYAN_FAILED(ZydisFormatterFormatInstruction(&formatter, &insn, operands,
							insn.operand_count_visible, ret_text, size,
							address, NULL)))
		snprintf(ret_text, size, "(bad)");
	return insn.length;
}
