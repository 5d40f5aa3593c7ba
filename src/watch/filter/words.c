/* SPDX-License-Identifier: Apache-2.0 */
/* What the words of filters mean: THE tables of fields, flags and values. docs/filters.md has every word. */
#include <string.h>

#include "base/macros.h"
#include "watch/filter/internal.h"

#define PIO (1U << RECORD_PIO)
#define MMIO (1U << RECORD_MMIO)
#define PCI (1U << RECORD_PCI)
#define DISK (1U << RECORD_DISK)
#define ACCESSES (PIO | MMIO | PCI)
#define REQUESTS (DISK | 1U << RECORD_NET | 1U << RECORD_QUEUE)
#define ALL (~0U)

#define SECTOR_BYTES 512
#define REGISTER_BITS 12 /* of a PCI record's address; above them is the function */

/* Loads. What `offset` means to them stands in the table. */

static bool load_u8(const struct filter_test *test, const struct filter_input *input,
		    uint64_t *ret_value)
{
	*ret_value = *((const uint8_t *)input->record + test->field->offset);
	return true;
}

static bool load_u16(const struct filter_test *test, const struct filter_input *input,
		     uint64_t *ret_value)
{
	uint16_t value;

	memcpy(&value, (const char *)input->record + test->field->offset, sizeof(value));
	*ret_value = value;
	return true;
}

static bool load_u32(const struct filter_test *test, const struct filter_input *input,
		     uint64_t *ret_value)
{
	uint32_t value;

	memcpy(&value, (const char *)input->record + test->field->offset, sizeof(value));
	*ret_value = value;
	return true;
}

static bool load_u64(const struct filter_test *test, const struct filter_input *input,
		     uint64_t *ret_value)
{
	memcpy(ret_value, (const char *)input->record + test->field->offset, sizeof(*ret_value));
	return true;
}

/* What stands above the access's bytes is nobody's. */
static bool load_data(const struct filter_test *test _unused_, const struct filter_input *input,
		      uint64_t *ret_value)
{
	unsigned int size = input->record->size;

	*ret_value = input->record->data;
	if (size < sizeof(uint64_t))
		*ret_value &= (1ULL << (8 * size)) - 1;
	return true;
}

static bool load_sector(const struct filter_test *test _unused_, const struct filter_input *input,
			uint64_t *ret_value)
{
	*ret_value = input->record->address / SECTOR_BYTES;
	return true;
}

static bool load_pci_register(const struct filter_test *test _unused_,
			      const struct filter_input *input, uint64_t *ret_value)
{
	*ret_value = input->record->address & ((1U << REGISTER_BITS) - 1);
	return true;
}

static bool load_status(const struct filter_test *test _unused_, const struct filter_input *input,
			uint64_t *ret_value)
{
	*ret_value = (uint64_t)(int64_t)input->record->status + FILTER_SIGN;
	return true;
}

static bool load_latency(const struct filter_test *test _unused_, const struct filter_input *input,
			 uint64_t *ret_value)
{
	const struct filter_names *names = input->names;

	if (!names || !names->ticks_ns)
		return false;
	*ret_value = names->ticks_ns(names->ctx, input->record->duration);
	return true;
}

/* 1 is out. A disk's request tells by its operation: a flush goes neither way. */
static bool load_direction(const struct filter_test *test _unused_,
			   const struct filter_input *input, uint64_t *ret_value)
{
	unsigned int operation = input->record->operation;

	*ret_value = !!(input->record->flags & RECORD_WRITE);
	if (input->kind != DISK)
		return true;
	*ret_value = operation != RECORD_DISK_READ;
	return operation == RECORD_DISK_READ || operation == RECORD_DISK_WRITE ||
	       operation == RECORD_DISK_WRITE_ZEROES;
}

/* Registers, and the mode itself: unknown in mode 0. */
static bool load_mode(const struct filter_test *test _unused_, const struct filter_input *input,
		      uint64_t *ret_value)
{
	*ret_value = input->record->access.mode;
	return *ret_value != 0;
}

static bool load_register(const struct filter_test *test, const struct filter_input *input,
			  uint64_t *ret_value)
{
	return load_u64(test, input, ret_value) && input->record->access.mode != 0;
}

/* In other modes their place is taken by something else. */
static bool load_register_64(const struct filter_test *test, const struct filter_input *input,
			     uint64_t *ret_value)
{
	return load_u64(test, input, ret_value) && input->record->access.mode == 64;
}

static bool load_instruction(const struct filter_test *test, const struct filter_input *input,
			     uint64_t *ret_value)
{
	static const bool is_known[RECORD_VERDICTS] = {
		[RECORD_INSN_ON] = true,
		[RECORD_INSN_BEFORE] = true,
		[RECORD_INSN_PAIRED] = true,
		[RECORD_INSN_STEPPED] = true,
	};
	unsigned int verdict = input->record->access.verdict;

	return load_u64(test, input, ret_value) && verdict < RECORD_VERDICTS && is_known[verdict];
}

/* `*` stands for any bytes. At most one return to the last star for each byte of the name, which is short. */
static bool pattern_matches(const char *pattern, const char *name)
{
	const char *star = NULL, *again = NULL;

	while (*name) {
		if (*pattern == '*') {
			star = ++pattern;
			again = name;
		} else if (*pattern == *name) {
			pattern++;
			name++;
		} else if (star) {
			pattern = star;
			name = ++again;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return !*pattern;
}

static bool load_device(const struct filter_test *test, const struct filter_input *input,
			uint64_t *ret_value)
{
	const struct filter_names *names = input->names;
	const char *name;

	if (!names || !names->device || input->record->device == STORE_NO_DEVICE)
		return false;
	name = names->device(names->ctx, input->record->device);
	*ret_value = pattern_matches(test->pattern, name);
	return strcmp(name, "-") != 0;
}

/* Values. */

#define VALUE(name_, help_, value_)                                                                \
	{                                                                                          \
		.word = { name_, help_, FILTER_VALUE }, .value = value_                            \
	}

static const struct filter_symbol kinds[] = {
	VALUE("pio", "kind: access to a port", RECORD_PIO),
	VALUE("mmio", "kind: access to a guest-physical address", RECORD_MMIO),
	VALUE("pci", "kind: access to PCI configuration", RECORD_PCI),
	VALUE("disk", "kind: request of a disk", RECORD_DISK),
	VALUE("net", "kind: frame", RECORD_NET),
	VALUE("queue", "kind: request of another device with queues", RECORD_QUEUE),
};

static const struct filter_symbol operations[] = {
	VALUE("read", "op: disk to guest", RECORD_DISK_READ),
	VALUE("write", "op: guest to disk", RECORD_DISK_WRITE),
	VALUE("flush", "op: what was written shall be safe", RECORD_DISK_FLUSH),
	VALUE("discard", "op: sectors are no longer needed", RECORD_DISK_DISCARD),
	VALUE("zeroes", "op: sectors become zeroes", RECORD_DISK_WRITE_ZEROES),
	VALUE("other", "op: answered without the disk", RECORD_DISK_OTHER),
};

static const struct filter_symbol verdicts[] = {
	VALUE("not-judged", "verdict: nobody looked", RECORD_INSN_NOT_JUDGED),
	VALUE("unknown", "verdict: no code, or none that fits", RECORD_INSN_UNKNOWN),
	VALUE("on", "verdict: the exit stood on the instruction", RECORD_INSN_ON),
	VALUE("before", "verdict: the exit stood behind it", RECORD_INSN_BEFORE),
	VALUE("paired", "verdict: second half of an access in two", RECORD_INSN_PAIRED),
	VALUE("stepped", "verdict: seen by single-stepping", RECORD_INSN_STEPPED),
	VALUE("ambiguous", "verdict: several instructions fit", RECORD_INSN_AMBIGUOUS),
};

/* Fields. */

#define SYMBOLS(table) .symbols = table, .n_symbols = ARRAY_SIZE(table)
#define AT(member) .offset = offsetof(struct watch_record, member)
#define FIELD(name_, example_, help_) .word = { name_, help_, FILTER_FIELD }, .example = example_
#define GENERAL(name, index, load_)                                                                \
	{                                                                                          \
		FIELD(name, name "==0", "register " name " at the exit"),                          \
			.kinds = ACCESSES, .load = load_, AT(access.registers.general[index])      \
	}

enum {
	HIDDEN_DIRECTION,
	HIDDEN_FLAGS,
	HIDDEN_FATE,
	FIELD_KIND,
	FIELD_OP,
	FIELD_STATUS,
	FIELD_VERDICT,
	FIELD_ADDRESS,
};
#define FIELDS_HIDDEN 3 /* asked by flags only */

static const struct filter_field fields[] = {
	[HIDDEN_DIRECTION] = { .kinds = ALL, .load = load_direction },
	[HIDDEN_FLAGS] = { .kinds = ALL, .load = load_u8, AT(flags) },
	[HIDDEN_FATE] = { .kinds = ALL, .late = true, .load = load_u8, AT(flags) },
	[FIELD_KIND] = { FIELD("kind", "kind==disk", "pio, mmio, pci, disk, net or queue"),
			 .class = FILTER_SYMBOL, .kinds = ALL, .load = load_u8, AT(kind),
			 SYMBOLS(kinds) },
	[FIELD_OP] = { FIELD("op", "op==flush", "a disk request's operation"),
		       .class = FILTER_SYMBOL, .kinds = DISK, .load = load_u8, AT(operation),
		       SYMBOLS(operations) },
	[FIELD_STATUS] = { FIELD("status", "status==EIO", "a request's result: 0 or an error"),
			   .class = FILTER_STATUS, .kinds = REQUESTS, .late = true,
			   .load = load_status },
	[FIELD_VERDICT] = { FIELD("verdict", "verdict==on", "how the instruction is known"),
			    .class = FILTER_SYMBOL, .kinds = ACCESSES, .late = true,
			    .load = load_u8, AT(access.verdict), SYMBOLS(verdicts) },
	[FIELD_ADDRESS] = { FIELD("address", "address==0xfebd0010",
				  "port, guest-physical address, or PCI function << 12 | register"),
			    .kinds = ACCESSES, .load = load_u64, AT(address) },
	{ FIELD("dev", "dev==virtio-blk.*", "name of the device; * stands for anything"),
	  .class = FILTER_NAME, .kinds = ALL, .load = load_device },
	{ FIELD("latency", "latency>500us", "time until it was answered"), .class = FILTER_TIME,
	  .kinds = ALL, .late = true, .load = load_latency },
	{ FIELD("vcpu", "vcpu==1", "vCPU that made the access"), .kinds = ACCESSES,
	  .load = load_u16, AT(source) },
	{ FIELD("port", "port in 0x3f8..0x3ff", "port of a PIO access"), .kinds = PIO,
	  .load = load_u64, AT(address) },
	{ FIELD("register", "register==0x10", "register in PCI configuration"), .kinds = PCI,
	  .load = load_pci_register },
	{ FIELD("data", "data==0x20", "value read or written by an access"), .kinds = ACCESSES,
	  .load = load_data },
	{ FIELD("size", "size==4", "bytes of an access: 1, 2, 4 or 8"), .kinds = ACCESSES,
	  .load = load_u8, AT(size) },
	{ FIELD("repeat", "repeat==0", "element of a string access, from 0"), .kinds = ACCESSES,
	  .load = load_u32, AT(repeat) },
	{ FIELD("queue", "queue==0", "queue of a request"), .kinds = REQUESTS, .load = load_u16,
	  AT(source) },
	{ FIELD("len", "len>=64K", "bytes of a request"), .kinds = REQUESTS, .load = load_u64,
	  AT(data) },
	{ FIELD("sector", "sector==2048", "first sector of a disk request, of 512 bytes"),
	  .kinds = DISK, .load = load_sector },
	{ FIELD("offset", "offset>=1G", "first byte of a disk request"), .kinds = DISK,
	  .load = load_u64, AT(address) },
	{ FIELD("insn", "insn==0xffffffff81234567",
		"address of the instruction, where it is known"),
	  .kinds = ACCESSES, .late = true, .load = load_instruction, AT(access.instruction) },
	{ FIELD("mode", "mode==64", "how code is decoded: 16, 32 or 64"), .kinds = ACCESSES,
	  .load = load_mode },
	{ FIELD("rip", "rip in 0xffffffffc0300000..+0x8000", "register rip at the exit"),
	  .kinds = ACCESSES, .load = load_register, AT(access.registers.rip) },
	{ FIELD("rflags", "rflags & 0x200", "register rflags at the exit"), .kinds = ACCESSES,
	  .load = load_register, AT(access.registers.rflags) },
	{ FIELD("cr3", "cr3==0x1234000", "register cr3 at the exit: tells processes apart"),
	  .kinds = ACCESSES, .load = load_register, AT(access.cr3) },
	GENERAL("rax", 0, load_register),
	GENERAL("rcx", 1, load_register),
	GENERAL("rdx", 2, load_register),
	GENERAL("rbx", 3, load_register),
	GENERAL("rsp", 4, load_register),
	GENERAL("rbp", 5, load_register),
	GENERAL("rsi", 6, load_register),
	GENERAL("rdi", 7, load_register),
	GENERAL("r8", 8, load_register_64),
	GENERAL("r9", 9, load_register_64),
	GENERAL("r10", 10, load_register_64),
	GENERAL("r11", 11, load_register_64),
	GENERAL("r12", 12, load_register_64),
	GENERAL("r13", 13, load_register_64),
	GENERAL("r14", 14, load_register_64),
	GENERAL("r15", 15, load_register_64),
};

static const struct {
	struct filter_word word;
	unsigned int field;
} aliases[] = {
	{ { "addr", "the same as address", FILTER_FIELD }, FIELD_ADDRESS },
};

/* Flags. */

#define FLAG(name, help, field_, mask_, low_, high_)                                               \
	{                                                                                          \
		.word = { name, help, FILTER_FLAG }, .test = {                                     \
			.field = &fields[field_],                                                  \
			.mask = mask_,                                                             \
			.low = low_,                                                               \
			.high = high_                                                              \
		}                                                                                  \
	}
#define FLAG_IN(name, help, field, low, high) FLAG(name, help, field, ~0ULL, low, high)
#define FLAG_IS(name, help, field, value) FLAG(name, help, field, ~0ULL, value, value)
#define FLAG_BIT(name, help, field, bit) FLAG(name, help, field, bit, bit, bit)

static const struct filter_flag flags[] = {
	FLAG_IS("in", "device to guest: a read, a frame received", HIDDEN_DIRECTION, 0),
	FLAG_IS("out", "guest to device: a write, a frame sent", HIDDEN_DIRECTION, 1),
	FLAG_IS("read", "the same as in", HIDDEN_DIRECTION, 0),
	FLAG_IS("write", "the same as out", HIDDEN_DIRECTION, 1),
	FLAG_IN("access", "access to a register: pio, mmio or pci", FIELD_KIND, RECORD_PIO,
		RECORD_PCI),
	FLAG_IS("pio", "access to a port", FIELD_KIND, RECORD_PIO),
	FLAG_IS("mmio", "access to a guest-physical address", FIELD_KIND, RECORD_MMIO),
	FLAG_IS("pci", "access to PCI configuration; pio or mmio has it a second time", FIELD_KIND,
		RECORD_PCI),
	FLAG_IN("request", "request behind a doorbell: disk, net or queue", FIELD_KIND, RECORD_DISK,
		RECORD_QUEUE),
	FLAG_IS("disk", "request of a disk", FIELD_KIND, RECORD_DISK),
	FLAG_IS("net", "frame", FIELD_KIND, RECORD_NET),
	FLAG_IS("queue", "request of another device with queues: entropy, console", FIELD_KIND,
		RECORD_QUEUE),
	FLAG_IS("flush", "disk: what was written shall be safe", FIELD_OP, RECORD_DISK_FLUSH),
	FLAG_IS("discard", "disk: sectors are no longer needed", FIELD_OP, RECORD_DISK_DISCARD),
	FLAG_IS("zeroes", "disk: sectors become zeroes", FIELD_OP, RECORD_DISK_WRITE_ZEROES),
	FLAG_IN("failed", "request that ended with an error", FIELD_STATUS, 0, FILTER_SIGN - 1),
	FLAG_BIT("nested", "caused by the handling of another access", HIDDEN_FLAGS, RECORD_NESTED),
	FLAG_BIT("altered", "a breakpoint changed its data", HIDDEN_FATE, RECORD_ALTERED),
	FLAG_BIT("dropped", "a breakpoint kept it from the device", HIDDEN_FATE, RECORD_DROPPED),
	FLAG_BIT("unclaimed", "no device answers at that address", HIDDEN_FLAGS, RECORD_UNCLAIMED),
	FLAG_IS("ambiguous", "several instructions may have made it", FIELD_VERDICT,
		RECORD_INSN_AMBIGUOUS),
};

static bool is_word(const struct filter_word *word, const char *name, unsigned int len)
{
	return strlen(word->name) == len && !memcmp(word->name, name, len);
}

const struct filter_field *filter_find_field(const char *name, unsigned int len)
{
	for (size_t i = FIELDS_HIDDEN; i < ARRAY_SIZE(fields); i++)
		if (is_word(&fields[i].word, name, len))
			return &fields[i];
	for (size_t i = 0; i < ARRAY_SIZE(aliases); i++)
		if (is_word(&aliases[i].word, name, len))
			return &fields[aliases[i].field];
	return NULL;
}

const struct filter_flag *filter_find_flag(const char *name, unsigned int len)
{
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (is_word(&flags[i].word, name, len))
			return &flags[i];
	return NULL;
}

/* Rows begin with their word. */
#define WORDS(table, first)                                                                        \
	{                                                                                          \
		&(table)[first], sizeof((table)[0]), ARRAY_SIZE(table) - (first)                   \
	}

static const struct {
	const void *rows;
	size_t row_size, n_rows;
} words[] = {
	WORDS(fields, FIELDS_HIDDEN), WORDS(aliases, 0),  WORDS(flags, 0), WORDS(kinds, 0),
	WORDS(operations, 0),	      WORDS(verdicts, 0),
};

const struct filter_word *filter_word(unsigned int index)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (index < words[i].n_rows)
			return (const void *)((const char *)words[i].rows +
					      index * words[i].row_size);
		index -= (unsigned int)words[i].n_rows;
	}
	return NULL;
}
