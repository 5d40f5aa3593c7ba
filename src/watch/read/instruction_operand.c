/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/read/instruction_operand.h"

#include <Zydis/Zydis.h>

#include "base/macros.h"

#define PAGE 4096U
#define FLAG_DIRECTION (1U << 10)
#define CR0_PG (1U << 31)

/* Of `general`. */
enum { RCX = 1, RDX = 2, RSP = 4, RSI = 6, RDI = 7, SEGMENTS = RECORD_ES_BASE, CR0 = 14 };

struct decoded {
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

static ZyanStatus decode_start(uint8_t mode, const uint8_t *code, size_t n_bytes,
			       ZydisDecoder *decoder, ZydisDecoderContext *context,
			       ZydisDecodedInstruction *insn)
{
	if (n_bytes == 0)
		return ZYDIS_STATUS_NO_MORE_DATA;
	if (mode == 64)
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	else if (mode == 32)
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32);
	else
		ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16);
	return ZydisDecoderDecodeInstruction(decoder, context, code, n_bytes, insn);
}

static bool decode(uint8_t mode, const uint8_t *code, size_t n_bytes, struct decoded *ret,
		   bool *ret_cut)
{
	ZydisDecoderContext context;
	ZydisDecoder decoder;
	ZyanStatus status = decode_start(mode, code, n_bytes, &decoder, &context, &ret->insn);

	*ret_cut = status == ZYDIS_STATUS_NO_MORE_DATA;
	return ZYAN_SUCCESS(status) &&
	       ZYAN_SUCCESS(ZydisDecoderDecodeOperands(&decoder, &context, &ret->insn,
						       ret->operands, ret->insn.operand_count));
}

bool insn_is_paged(const struct record_access *access)
{
	return access->mode == 64 || (access->registers.general[CR0] & CR0_PG);
}

/* The register's number in `general`; -1: it is another kind of register. */
static int8_t general_of(ZydisRegister reg)
{
	ZydisRegister whole = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);

	if (reg == ZYDIS_REGISTER_NONE || ZydisRegisterGetClass(whole) != ZYDIS_REGCLASS_GPR64)
		return -1;
	return (int8_t)ZydisRegisterGetId(whole);
}

/* The index of the segment's base in `general`. In 64-bit mode four bases are 0, and two are not in the record. */
static int8_t segment_of(uint8_t mode, ZydisRegister segment)
{
	bool thread = segment == ZYDIS_REGISTER_FS || segment == ZYDIS_REGISTER_GS;

	if (mode == 64)
		return thread ? -2 : -1;
	if (segment < ZYDIS_REGISTER_ES || segment > ZYDIS_REGISTER_GS)
		return -1;
	return (int8_t)(SEGMENTS + (segment - ZYDIS_REGISTER_ES));
}

static bool is_read(const ZydisDecodedOperand *operand)
{
	return operand->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
}

static bool is_written(const ZydisDecodedOperand *operand)
{
	return operand->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
}

static bool is_memory(const ZydisDecodedOperand *operand)
{
	return operand->type == ZYDIS_OPERAND_TYPE_MEMORY &&
	       (operand->mem.type == ZYDIS_MEMOP_TYPE_MEM ||
		operand->mem.type == ZYDIS_MEMOP_TYPE_VSIB);
}

/* Hints, which name memory without an access to it. */
static bool is_hint(const ZydisDecodedInstruction *insn)
{
	switch (insn->meta.category) {
	case ZYDIS_CATEGORY_NOP:
	case ZYDIS_CATEGORY_WIDENOP:
	case ZYDIS_CATEGORY_PREFETCH:
		return true;
	default:
		break;
	}
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
	case ZYDIS_MNEMONIC_CLWB:
	case ZYDIS_MNEMONIC_CLDEMOTE:
	case ZYDIS_MNEMONIC_INVLPG:
		return true;
	default:
		return false;
	}
}

/* Whether the instruction itself changes the register. */
static bool changes(const struct decoded *d, int8_t reg)
{
	for (unsigned int i = 0; i < d->insn.operand_count; i++) {
		const ZydisDecodedOperand *operand = &d->operands[i];

		if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER && is_written(operand) &&
		    general_of(operand->reg.value) == reg)
			return true;
	}
	return false;
}

static bool is_repeated(const ZydisDecodedInstruction *insn)
{
	return insn->attributes &
	       (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

static bool is_bit_test(ZydisMnemonic mnemonic)
{
	return mnemonic == ZYDIS_MNEMONIC_BT || mnemonic == ZYDIS_MNEMONIC_BTS ||
	       mnemonic == ZYDIS_MNEMONIC_BTR || mnemonic == ZYDIS_MNEMONIC_BTC;
}

static bool is_string(const ZydisDecodedInstruction *insn)
{
	return insn->meta.category == ZYDIS_CATEGORY_STRINGOP ||
	       insn->meta.category == ZYDIS_CATEGORY_IOSTRINGOP;
}

/* Instructions that write to the stack once, an operand's width below where the pointer was; and its inverse. */
static bool is_simple_stack(const ZydisDecodedInstruction *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
	case ZYDIS_MNEMONIC_POP:
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ:
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		return true;
	case ZYDIS_MNEMONIC_CALL:
	case ZYDIS_MNEMONIC_RET:
		return insn->meta.branch_type != ZYDIS_BRANCH_TYPE_FAR;
	default:
		return false;
	}
}

/*
 * How the operand's address follows from the registers at the exit. Those that the instruction changes itself: at a read's exit
 * the instruction is not done, but strings may have stepped; at a write's exit it may be done.
 */
static enum insn_address address_kind(const struct decoded *d, const ZydisDecodedOperand *operand,
				      const struct insn_access *access, bool write)
{
	bool base = access->base >= 0 && changes(d, access->base);
	bool index = access->index >= 0 && changes(d, access->index);

	if (operand->mem.type == ZYDIS_MEMOP_TYPE_VSIB || access->segment == -2 ||
	    d->insn.mnemonic == ZYDIS_MNEMONIC_XLAT)
		return ADDRESS_UNKNOWN;
	if (is_string(&d->insn))
		return ADDRESS_STRING;
	if (base && access->base == RSP)
		return is_simple_stack(&d->insn) && !index ? ADDRESS_STACK : ADDRESS_UNKNOWN;
	if (operand->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && access->base == RSP)
		return ADDRESS_UNKNOWN;
	if (!base && !index)
		return ADDRESS_FIXED;
	return write ? ADDRESS_UNKNOWN : ADDRESS_FIXED;
}

static void describe_memory(const struct decoded *d, const ZydisDecodedOperand *operand,
			    const struct watch_record *record, uint64_t start,
			    struct insn_access *access)
{
	const ZydisDecodedOperandMem *mem = &operand->mem;
	bool relative = mem->base == ZYDIS_REGISTER_RIP || mem->base == ZYDIS_REGISTER_EIP;

	access->segment = segment_of(record->access.mode, mem->segment);
	access->base = general_of(mem->base);
	access->index = mem->type == ZYDIS_MEMOP_TYPE_MEM ? general_of(mem->index) : -1;
	access->scale = mem->scale;
	access->displacement = mem->disp.value;
	if (relative)
		access->displacement += (int64_t)(start + d->insn.length);
	access->address_bits = d->insn.address_width;
	access->size = operand->size / 8;
	access->reads_and_writes = is_read(operand) && is_written(operand);
	access->step = (uint8_t)MIN(access->size, 8);
	access->bit_register = -1;
	if (is_bit_test(d->insn.mnemonic) && d->operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
		access->bit_register = general_of(d->operands[1].reg.value);
	access->address = address_kind(d, operand, access, record->flags & RECORD_WRITE);
	if (access->address == ADDRESS_STACK)
		access->step = d->insn.operand_width / 8;
}

static void source_is_register(const struct decoded *d, ZydisRegister reg,
			       struct insn_access *access)
{
	int8_t general = general_of(reg);

	if (general < 0 || changes(d, general))
		return;
	access->source = d->insn.mnemonic == ZYDIS_MNEMONIC_MOVBE ? SOURCE_SWAPPED
								  : SOURCE_REGISTER;
	access->source_register = (uint8_t)general;
	access->source_shift = reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH ? 8 : 0;
}

static void source_is(const struct decoded *d, const ZydisDecodedOperand *operand,
		      struct insn_access *access)
{
	if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		source_is_register(d, operand->reg.value, access);
	} else if (operand->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		access->source = SOURCE_CONSTANT;
		access->constant = operand->imm.value.u;
	}
}

/* Where a write's data comes from, for the instructions of which that can be told afterwards. */
static void describe_source(const struct decoded *d, const struct watch_record *record,
			    struct insn_access *access)
{
	access->source = SOURCE_UNKNOWN;
	switch (d->insn.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVNTI:
	case ZYDIS_MNEMONIC_MOVBE:
	case ZYDIS_MNEMONIC_STOSB:
	case ZYDIS_MNEMONIC_STOSW:
	case ZYDIS_MNEMONIC_STOSD:
	case ZYDIS_MNEMONIC_STOSQ:
	case ZYDIS_MNEMONIC_OUT:
		source_is(d, &d->operands[1], access);
		break;
	case ZYDIS_MNEMONIC_PUSH:
		source_is(d, &d->operands[0], access);
		break;
	case ZYDIS_MNEMONIC_CALL:
		access->source = SOURCE_CONSTANT;
		access->constant = record->access.registers.rip + access->length;
		break;
	default:
		if (d->insn.meta.category == ZYDIS_CATEGORY_SETCC)
			access->source = SOURCE_TRUTH;
		break;
	}
}

static bool is_port_read(ZydisMnemonic mnemonic)
{
	return mnemonic == ZYDIS_MNEMONIC_IN || mnemonic == ZYDIS_MNEMONIC_INSB ||
	       mnemonic == ZYDIS_MNEMONIC_INSW || mnemonic == ZYDIS_MNEMONIC_INSD;
}

static bool is_port_write(ZydisMnemonic mnemonic)
{
	return mnemonic == ZYDIS_MNEMONIC_OUT || mnemonic == ZYDIS_MNEMONIC_OUTSB ||
	       mnemonic == ZYDIS_MNEMONIC_OUTSW || mnemonic == ZYDIS_MNEMONIC_OUTSD;
}

/* Bytes of a port access: of the accumulator, or of memory. */
static uint16_t port_size(const struct decoded *d)
{
	const ZydisDecodedOperand *operand = d->operands;

	if (is_memory(&operand[0]) || d->insn.mnemonic == ZYDIS_MNEMONIC_IN)
		return operand[0].size / 8;
	return operand[1].size / 8;
}

/* Of IN and OUT's kin. Operands: IN acc, port; OUT port, acc; INS mem, DX; OUTS DX, mem. */
static bool describe_port(const struct decoded *d, const struct watch_record *record,
			  struct insn_access *access)
{
	bool write = record->flags & RECORD_WRITE;
	const ZydisDecodedOperand *port = &d->operands[write ? 0 : 1];

	if (!(write ? is_port_write(d->insn.mnemonic) : is_port_read(d->insn.mnemonic)))
		return false;
	access->address = ADDRESS_PORT;
	access->size = port_size(d);
	access->base = -1;
	if (port->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
		access->displacement = (uint8_t)port->imm.value.u;
	else
		access->base = RDX;
	describe_source(d, record, access);
	return access->size == record->size;
}

static void describe_instruction(const struct decoded *d, unsigned int before,
				 struct insn_access *access)
{
	access->before = (uint8_t)before;
	access->length = d->insn.length;
	access->repeated = is_repeated(&d->insn);
	access->string = is_string(&d->insn);
	for (unsigned int i = 0; i < d->insn.operand_count; i++)
		access->also_writes |= is_memory(&d->operands[i]) && is_written(&d->operands[i]);
}

static bool add_access(const struct insn_access *access, struct insn_access *list, unsigned int *n)
{
	if (*n == INSN_ACCESSES)
		return false;
	list[(*n)++] = *access;
	return true;
}

static bool find_memory(const struct decoded *d, const struct watch_record *record,
			const struct insn_access *of_instruction, struct insn_access *list,
			unsigned int *n)
{
	uint64_t start = record_linear_rip(&record->access) - of_instruction->before;
	bool write = record->flags & RECORD_WRITE;

	for (unsigned int i = 0; i < d->insn.operand_count; i++) {
		const ZydisDecodedOperand *operand = &d->operands[i];
		struct insn_access access = *of_instruction;

		if (!is_memory(operand) || !(write ? is_written(operand) : is_read(operand)))
			continue;
		describe_memory(d, operand, record, start, &access);
		if (write)
			describe_source(d, record, &access);
		if (access.size && access.size < record->size)
			continue;
		if (!add_access(&access, list, n))
			return false;
	}
	return true;
}

static bool leaves(const ZydisDecodedInstruction *insn)
{
	switch (insn->meta.category) {
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
	case ZYDIS_CATEGORY_RET:
	case ZYDIS_CATEGORY_INTERRUPT:
	case ZYDIS_CATEGORY_SYSCALL:
	case ZYDIS_CATEGORY_SYSRET:
	case ZYDIS_CATEGORY_SYSTEM:
		return true;
	default:
		return false;
	}
}

bool insn_find_accesses(const struct watch_record *record, const uint8_t *code, size_t n_bytes,
			unsigned int before, struct insn_access *list, unsigned int *n)
{
	struct insn_access access = { 0 };
	struct decoded d;
	bool cut;

	if (!decode(record->access.mode, code, n_bytes, &d, &cut))
		return before != 0 || !cut;
	/* RIP does not come to stand behind an instruction that leads elsewhere. */
	if (before != 0 && (d.insn.length != before || leaves(&d.insn)))
		return true;
	describe_instruction(&d, before, &access);
	if (record->kind == RECORD_PIO)
		return !describe_port(&d, record, &access) || add_access(&access, list, n);
	if (is_hint(&d.insn))
		return true;
	return find_memory(&d, record, &access, list, n);
}

static uint64_t low_bytes(uint64_t value, unsigned int n)
{
	return n >= 8 ? value : value & ((1ULL << (8 * n)) - 1);
}

/* Whether the record's data are the bytes of the operand from `offset` on. */
static bool data_fits(const struct insn_access *access, const struct watch_record *record,
		      unsigned int offset)
{
	const uint64_t *general = record->access.registers.general;
	uint64_t value;

	if (!(record->flags & RECORD_WRITE) || (record->flags & RECORD_ALTERED))
		return true;
	switch (access->source) {
	case SOURCE_REGISTER:
		value = general[access->source_register] >> access->source_shift;
		break;
	case SOURCE_SWAPPED:
		value = __builtin_bswap64(general[access->source_register]) >>
			(64 - 8 * MIN(access->size, 8));
		break;
	case SOURCE_CONSTANT:
		value = access->constant;
		break;
	case SOURCE_TRUTH:
		return low_bytes(record->data, 1) <= 1;
	default:
		return true;
	}
	if (offset >= 8)
		return true;
	return low_bytes(value >> (8 * offset), record->size) ==
	       low_bytes(record->data, record->size);
}

/* BT and its kin with a register reach beyond their operand, by its signed value in whole operands. */
static int64_t bit_displacement(const struct insn_access *access, const uint64_t *general)
{
	int64_t bit;

	if (access->bit_register < 0)
		return 0;
	bit = (int64_t)general[access->bit_register];
	if (access->size == 2)
		bit = (int16_t)bit;
	else if (access->size == 4)
		bit = (int32_t)bit;
	return (bit >> 3) & -(int64_t)access->size;
}

/* The operand's linear address, when its base had `moved` from where it stands now. */
static uint64_t linear_address(const struct insn_access *access, const struct watch_record *record,
			       int64_t moved)
{
	const uint64_t *general = record->access.registers.general;
	uint64_t address = (uint64_t)access->displacement + (uint64_t)moved;

	if (access->base >= 0)
		address += general[access->base];
	if (access->index >= 0)
		address += general[access->index] * access->scale;
	address += (uint64_t)bit_displacement(access, general);
	address = low_bytes(address, access->address_bits / 8);
	if (record->access.mode == 64)
		return address;
	if (access->segment >= 0)
		address += general[access->segment];
	return (uint32_t)address;
}

/* Whether KVM makes an access of the record's width `offset` bytes into the operand: operands of 1, 2, 4, 8 bytes in a page
 * are one access, others come in pieces. */
static bool piece_fits(const struct insn_access *access, const struct watch_record *record,
		       uint64_t linear, unsigned int offset)
{
	bool whole = access->size == 1 || access->size == 2 || access->size == 4 ||
		     access->size == 8;

	if (offset + record->size > access->size)
		return false;
	if (whole && linear % PAGE + access->size <= PAGE)
		return offset == 0 && record->size == access->size;
	return true;
}

static enum insn_fit linear_fits(const struct insn_access *access,
				 const struct watch_record *record, uint64_t linear,
				 insn_maps_fn *maps, void *ctx)
{
	unsigned int offset = (unsigned int)(record->address - linear) % PAGE;

	if (!piece_fits(access, record, linear, offset) || !data_fits(access, record, offset))
		return FIT_NOT;
	linear += offset;
	if (!insn_is_paged(&record->access))
		return linear == record->address ? FIT_WHOLE : FIT_NOT;
	/* Without EFER nothing tells which form 32-bit page tables have. */
	if (record->access.mode != 64 || !maps)
		return FIT_OFFSET;
	return maps(ctx, record->access.cr3, linear, record->address) ? FIT_WHOLE : FIT_OFFSET;
}

static bool port_fits(const struct insn_access *access, const struct watch_record *record)
{
	uint64_t port = (uint64_t)access->displacement;

	if (access->base >= 0)
		port = record->access.registers.general[RDX];
	return (uint16_t)port == record->address && data_fits(access, record, 0);
}

enum insn_fit insn_fits(const struct insn_access *access, const struct watch_record *record,
			insn_maps_fn *maps, void *ctx)
{
	bool down = record->access.registers.rflags & FLAG_DIRECTION;
	int64_t moves[3] = { 0, 0, 0 };
	enum insn_fit best = FIT_NOT;
	unsigned int n = 1;

	switch (access->address) {
	case ADDRESS_PORT:
		return port_fits(access, record) ? FIT_WHOLE : FIT_NOT;
	case ADDRESS_UNKNOWN:
		return FIT_MAYBE;
	case ADDRESS_STRING:
		moves[n++] = down ? access->step : -(int64_t)access->step;
		break;
	case ADDRESS_STACK:
		moves[n++] = access->step;
		moves[n++] = -(int64_t)access->step;
		break;
	default:
		break;
	}
	for (unsigned int i = 0; i < n; i++) {
		uint64_t linear = linear_address(access, record, moves[i]);

		best = MAX(best, linear_fits(access, record, linear, maps, ctx));
	}
	return best;
}

unsigned int insn_length(uint8_t mode, const uint8_t *code, size_t n_bytes)
{
	ZydisDecoderContext context;
	ZydisDecodedInstruction insn;
	ZydisDecoder decoder;

	return ZYAN_SUCCESS(decode_start(mode, code, n_bytes, &decoder, &context, &insn))
		       ? insn.length
		       : 0;
}

unsigned int insn_straight_length(uint8_t mode, const uint8_t *code, size_t n_bytes)
{
	ZydisDecoderContext context;
	ZydisDecodedInstruction insn;
	ZydisDecoder decoder;

	if (ZYAN_FAILED(decode_start(mode, code, n_bytes, &decoder, &context, &insn)))
		return 0;
	return leaves(&insn) ? 0 : insn.length;
}
