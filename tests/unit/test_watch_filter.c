/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/macros.h"
#include "watch/filter/filter.h"

/* A machine with four devices and a TSC of 2 GHz. */
static const char *const device_names[] = { "serial", "virtio-blk.0", "virtio-blk.1", "rtc" };
enum { SERIAL, BLK0, BLK1, RTC };

static const char *device_name(void *ctx _unused_, uint16_t device)
{
	return device < ARRAY_SIZE(device_names) ? device_names[device] : "-";
}

static uint64_t ticks_ns(void *ctx _unused_, uint64_t ticks)
{
	return ticks / 2;
}

static const struct filter_names names = { .device = device_name, .ticks_ns = ticks_ns };

/* 'a' is written to the serial port by vCPU 1, in 3 us. */
static const struct watch_record serial_out = {
	.kind = RECORD_PIO,
	.flags = RECORD_WRITE | RECORD_ALTERED,
	.size = 1,
	.address = 0x3f8,
	.data = 0xffffff61,
	.source = 1,
	.device = SERIAL,
	.duration = 6000,
	.repeat = 2,
	.access = { .mode = 64,
		    .verdict = RECORD_INSN_BEFORE,
		    .instruction = 0xffffffff81000010,
		    .cr3 = 0x1234000,
		    .registers = { .general = { 100, 101, 102, 103, 104, 105, 106, 107, 108, 109,
						110, 111, 112, 113, 114, 115 },
				   .rip = 0xffffffffc0300ffe,
				   .rflags = 0x246 } },
};

/* 32-bit code reads a register of the second disk. */
static const struct watch_record mmio_in = {
	.kind = RECORD_MMIO,
	.flags = RECORD_NESTED,
	.size = 8,
	.address = 0xfebd0010,
	.data = 0xf0e1d2c3b4a59687,
	.source = 0,
	.device = BLK1,
	.duration = 2000000,
	.access = { .mode = 32,
		    .verdict = RECORD_INSN_AMBIGUOUS,
		    .instruction = 0x1000,
		    .registers = { .general = { 7 }, .rip = 0x1000 } },
};

static const struct watch_record pci_in = {
	.kind = RECORD_PCI,
	.flags = RECORD_UNCLAIMED,
	.size = 4,
	.address = 0x18 << 12 | 0x10,
	.source = 2,
	.device = STORE_NO_DEVICE,
};

/* 128 KiB from sector 2048 on could not be written. */
static const struct watch_record disk_write = {
	.kind = RECORD_DISK,
	.address = 2048 * 512,
	.data = 131072,
	.operation = RECORD_DISK_WRITE,
	.source = 3,
	.device = BLK0,
	.duration = 10000000,
	.status = -EIO,
};

static const struct watch_record disk_flush = {
	.kind = RECORD_DISK,
	.operation = RECORD_DISK_FLUSH,
	.device = BLK0,
	.duration = 1000,
};

static const struct watch_record disk_zeroes = {
	.kind = RECORD_DISK,
	.operation = RECORD_DISK_WRITE_ZEROES,
	.device = BLK1,
};

static const struct watch_record disk_discard = {
	.kind = RECORD_DISK,
	.operation = RECORD_DISK_DISCARD,
	.device = BLK1,
};

static const struct watch_record frame_out = {
	.kind = RECORD_NET,
	.flags = RECORD_WRITE,
	.data = 60,
	.source = 1,
	.device = RTC,
};

static const struct watch_record from_elsewhere = { .kind = 200, .operation = 200 };

static bool matches(const char *text, const struct watch_record *record)
{
	_cleanup_(freep) struct filter *filter = NULL;
	struct error err = { 0 };

	if (filter_compile(text, &filter, NULL, &err) < 0)
		fail_msg("'%s': %s", text, err.message);
	return filter_match(filter, record, &names);
}

static const struct {
	const char *text;
	const struct watch_record *record;
	bool expected;
} matching[] = {
	/* Nothing asked. */
	{ "", &serial_out, true },
	{ " \t\n", &disk_flush, true },

	/* As in the documents. */
	{ "dev==serial && out && data in 0x20..0x7e", &serial_out, true },
	{ "dev==serial && in && data in 0x20..0x7e", &serial_out, false },
	{ "vcpu==1 && latency>2us", &serial_out, true },
	{ "vcpu==1 && latency>3us", &serial_out, false },
	{ "rip in 0xffffffffc0300000..+0x1000", &serial_out, true },
	{ "rip in 0xffffffffc0300000..+0xffe", &serial_out, false },

	/* Relations, at their borders. */
	{ "data==0x61", &serial_out, true },
	{ "data==0x60", &serial_out, false },
	{ "data!=0x61", &serial_out, false },
	{ "data!=0x60", &serial_out, true },
	{ "data<0x61", &serial_out, false },
	{ "data<0x62", &serial_out, true },
	{ "data<=0x60", &serial_out, false },
	{ "data<=0x61", &serial_out, true },
	{ "data>0x61", &serial_out, false },
	{ "data>0x60", &serial_out, true },
	{ "data>=0x62", &serial_out, false },
	{ "data>=0x61", &serial_out, true },

	/* Ranges and sets, at their borders. */
	{ "data in 0x61..0x61", &serial_out, true },
	{ "data in 0x62..0x70", &serial_out, false },
	{ "data in 0x20..0x60", &serial_out, false },
	{ "data in 0x60..+1", &serial_out, false },
	{ "data in 0x60..+2", &serial_out, true },
	{ "data in 0x60 .. + 2", &serial_out, true },
	{ "data in {0x61}", &serial_out, true },
	{ "data in {1, 2, 0x60..0x62}", &serial_out, true },
	{ "data in {1,2,5..9}", &serial_out, false },
	{ "data in 0..0xffffffffffffffff", &mmio_in, true },
	{ "data in 0..+0xffffffffffffffff", &mmio_in, true },

	/* Numbers. */
	{ "data==97", &serial_out, true },
	{ "data==0b1100001", &serial_out, true },
	{ "data==0x0000000000000000000061", &serial_out, true },
	{ "len==128K", &disk_write, true },
	{ "len==0x80K", &disk_write, true },
	{ "offset==1M", &disk_write, true },
	{ "address==0xFEBD0010", &mmio_in, true },
	{ "address<4G && address>3G", &mmio_in, true },
	{ "data==0xf0e1d2c3b4a59687", &mmio_in, true },
	{ "data==17357386176853808775", &mmio_in, true },

	/* Masks bind closer than anything. */
	{ "data & 0x40", &serial_out, true },
	{ "data & 0x80", &serial_out, false },
	{ "data&0x40&&out", &serial_out, true },
	{ "data & 0xf0 == 0x60", &serial_out, true },
	{ "data & 0xf0 == 0x61", &serial_out, false },
	{ "data & 0xf0 != 0x60", &serial_out, false },
	{ "data & 0x0f in {1, 3}", &serial_out, true },
	{ "data & 0x0f in 2..3", &serial_out, false },
	{ "!data & 0x80", &serial_out, true },
	{ "data & 0x80 || size & 1", &serial_out, true },

	/* && before ||, ! before both, in any writing. */
	{ "in || out && mmio", &serial_out, false },
	{ "out || in && mmio", &serial_out, true },
	{ "(out || in) && mmio", &serial_out, false },
	{ "mmio && in || out", &serial_out, true },
	{ "!in && out", &serial_out, true },
	{ "!(in || out)", &serial_out, false },
	{ "!(in && out)", &serial_out, true },
	{ "!!out", &serial_out, true },
	{ "not in and out", &serial_out, true },
	{ "not (in or out)", &serial_out, false },
	{ "not in", &serial_out, true },
	{ "((((out))))", &serial_out, true },

	/* What a record does not have is never true, whatever is asked. */
	{ "port==0x3f8", &mmio_in, false },
	{ "port!=0x3f8", &mmio_in, false },
	{ "!port==0x3f8", &mmio_in, true },
	{ "port!=0x3f8", &serial_out, false },
	{ "vcpu!=7", &disk_write, false },
	{ "queue!=7", &serial_out, false },
	{ "dev!=serial", &pci_in, false },
	{ "data!=1", &disk_write, false },

	/* Fields. */
	{ "vcpu==2", &pci_in, true },
	{ "queue==3", &disk_write, true },
	{ "queue in {2,3}", &disk_write, true },
	{ "kind==disk", &disk_write, true },
	{ "kind!=disk", &disk_write, false },
	{ "kind in {net, pio}", &serial_out, true },
	{ "port==0x3f8", &serial_out, true },
	{ "addr==0x3f8", &serial_out, true },
	{ "register==0x10", &pci_in, true },
	{ "size==8", &mmio_in, true },
	{ "size==1", &disk_write, false },
	{ "repeat==2", &serial_out, true },
	{ "sector==2048", &disk_write, true },
	{ "sector in 2040..2047", &disk_write, false },
	{ "op==write", &disk_write, true },
	{ "op in {read, discard}", &disk_write, false },
	{ "mode==32", &mmio_in, true },
	{ "mode!=64", &pci_in, false },
	{ "insn==0xffffffff81000010", &serial_out, true },
	{ "insn==0x1000", &mmio_in, false },
	{ "verdict==before", &serial_out, true },
	{ "verdict==not-judged", &pci_in, true },
	{ "cr3==0x1234000", &serial_out, true },
	{ "rflags & 0x200", &serial_out, true },
	{ "rax==7", &mmio_in, true },
	{ "rax==0", &pci_in, false },
	{ "r8==0", &mmio_in, false },
	{ "rax==100 && rcx==101 && rdx==102 && rbx==103", &serial_out, true },
	{ "rsp==104 && rbp==105 && rsi==106 && rdi==107", &serial_out, true },
	{ "r8==108 && r9==109 && r10==110 && r11==111", &serial_out, true },
	{ "r12==112 && r13==113 && r14==114 && r15==115", &serial_out, true },

	/* Time. */
	{ "latency==3000ns", &serial_out, true },
	{ "latency==1ms", &mmio_in, true },
	{ "latency in 4ms..6ms", &disk_write, true },
	{ "latency in 1us..+2us", &serial_out, false },
	{ "latency<1s", &disk_write, true },
	{ "latency>0", &serial_out, true },

	/* Results. */
	{ "status==0", &disk_flush, true },
	{ "status==EIO", &disk_write, true },
	{ "status==-EIO", &disk_write, true },
	{ "status==-5", &disk_write, true },
	{ "status==5", &disk_write, false },
	{ "status<0", &disk_write, true },
	{ "status<0", &disk_flush, false },
	{ "status in {ENOSPC, EIO}", &disk_write, true },
	{ "status in -10..-1", &disk_write, true },
	{ "status in -10..+5", &disk_write, false },
	{ "status in -10..+6", &disk_write, true },
	{ "status==0", &serial_out, false },

	/* Names. */
	{ "dev==virtio-blk.0", &disk_write, true },
	{ "dev==virtio-blk.1", &disk_write, false },
	{ "dev==virtio-blk", &disk_write, false },
	{ "dev!=virtio-blk.1", &disk_write, true },
	{ "dev==virtio-blk.*", &disk_write, true },
	{ "dev==virtio-blk.*", &serial_out, false },
	{ "dev==*blk*", &disk_write, true },
	{ "dev==*l", &serial_out, true },
	{ "dev==*a", &serial_out, false },
	{ "dev==s*r*l", &serial_out, true },
	{ "dev==s*r*i", &serial_out, false },
	{ "dev==***", &serial_out, true },
	{ "dev==*", &pci_in, false },
	{ "dev in {rtc,serial}", &serial_out, true },
	{ "dev in {rtc,virtio-*}&&out", &serial_out, false },
	{ "dev==serial&&out", &serial_out, true },
	{ "(dev==serial)", &serial_out, true },
	{ "dev == serial ", &serial_out, true },

	/* Flags. */
	{ "in", &mmio_in, true },
	{ "read", &mmio_in, true },
	{ "out", &frame_out, true },
	{ "write", &disk_write, true },
	{ "in or out", &disk_flush, false },
	{ "access", &pci_in, true },
	{ "access", &disk_write, false },
	{ "request", &disk_write, true },
	{ "request", &pci_in, false },
	{ "pio", &serial_out, true },
	{ "pio", &mmio_in, false },
	{ "mmio", &mmio_in, true },
	{ "pci", &pci_in, true },
	{ "disk", &disk_flush, true },
	{ "net", &frame_out, true },
	{ "net", &disk_flush, false },
	{ "queue", &frame_out, false },
	{ "flush", &disk_flush, true },
	{ "flush", &disk_write, false },
	{ "flush", &frame_out, false },
	{ "discard", &disk_flush, false },
	{ "discard", &disk_discard, true },
	{ "in or out", &disk_discard, false },
	{ "zeroes", &disk_flush, false },
	{ "zeroes", &disk_zeroes, true },
	{ "out", &disk_zeroes, true },
	{ "in", &disk_zeroes, false },
	{ "op==zeroes && !op==write", &disk_zeroes, true },
	{ "failed", &disk_write, true },
	{ "failed", &disk_flush, false },
	{ "nested", &mmio_in, true },
	{ "altered", &serial_out, true },
	{ "altered", &mmio_in, false },
	{ "dropped", &serial_out, false },
	{ "unclaimed", &pci_in, true },
	{ "ambiguous", &mmio_in, true },
	{ "ambiguous", &serial_out, false },

	/* A record of no kind that is known. */
	{ "access || request || op!=read", &from_elsewhere, false },
	{ "nested || altered || dropped || unclaimed", &from_elsewhere, false },
};

static void test_text_matches_record(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(matching); i++)
		if (matches(matching[i].text, matching[i].record) != matching[i].expected)
			fail_msg("row %zu: '%s' is not %d", i, matching[i].text,
				 matching[i].expected);
}

static void test_instruction_is_known_by_verdict(void **state _unused_)
{
	static const struct {
		enum record_verdict verdict;
		const char *name;
		bool known;
	} rows[] = {
		{ RECORD_INSN_NOT_JUDGED, "not-judged", false },
		{ RECORD_INSN_UNKNOWN, "unknown", false },
		{ RECORD_INSN_ON, "on", true },
		{ RECORD_INSN_BEFORE, "before", true },
		{ RECORD_INSN_PAIRED, "paired", true },
		{ RECORD_INSN_STEPPED, "stepped", true },
		{ RECORD_INSN_AMBIGUOUS, "ambiguous", false },
		{ RECORD_VERDICTS, "on", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct watch_record record = serial_out;
		char text[64];

		record.access.verdict = (uint8_t)rows[i].verdict;
		assert_int_equal(matches("insn==0xffffffff81000010", &record), rows[i].known);
		snprintf(text, sizeof(text), "verdict==%s", rows[i].name);
		assert_int_equal(matches(text, &record), rows[i].verdict < RECORD_VERDICTS);
	}
}

static const char *name_not_asked(void *ctx _unused_, uint16_t device _unused_)
{
	fail_msg("the name was asked for");
	return "-";
}

/* On a vCPU's thread, for each of its accesses. */
static void test_names_are_compared_last(void **state _unused_)
{
	static const struct filter_names not_asked = { .device = name_not_asked };
	static const char *const texts[] = {
		"dev==serial && in",
		"(dev==serial || dev==rtc) && out && data==1",
		"dev!=rtc && vcpu==0 && out",
		"!(dev==serial || out)",
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		_cleanup_(freep) struct filter *filter = NULL;

		assert_int_equal(filter_compile(texts[i], &filter, NULL, NULL), 0);
		assert_false(filter_match(filter, &serial_out, &not_asked));
	}
}

static void test_what_nobody_tells_is_never_true(void **state _unused_)
{
	static const struct filter_names nothing = { 0 };
	_cleanup_(freep) struct filter *filter = NULL;

	assert_int_equal(filter_compile("latency>=0 || dev==* || latency!=1s || dev!=x", &filter,
					NULL, NULL),
			 0);
	assert_true(filter_match(filter, &serial_out, &names));
	assert_false(filter_match(filter, &serial_out, &nothing));
	assert_false(filter_match(filter, &serial_out, NULL));
}

static void test_no_filter_matches_all(void **state _unused_)
{
	assert_true(filter_match(NULL, &serial_out, NULL));
	assert_null(filter_late_word(NULL));
	filter_free(NULL);
}

static void assert_late(const char *text, const char *word)
{
	_cleanup_(freep) struct filter *filter = NULL;

	assert_int_equal(filter_compile(text, &filter, NULL, NULL), 0);
	if (word)
		assert_string_equal(filter_late_word(filter), word);
	else
		assert_null(filter_late_word(filter));
}

static void test_late_words_are_named(void **state _unused_)
{
	assert_late("dev==serial && out && data in 0x20..0x7e && rip & 1 && mode==64", NULL);
	assert_late("out && latency>1us && insn==1", "latency");
	assert_late("insn==1 || latency>1us", "insn");
	assert_late("verdict in {on, before}", "verdict");
	assert_late("!ambiguous", "ambiguous");
	assert_late("failed", "failed");
	assert_late("nested || unclaimed || dropped || altered", "dropped");
	assert_late("altered", "altered");
	assert_late("status!=0", "status");
}

static char *read_document(void)
{
	const char *docs = getenv("UTSUSU_DOCS");
	_cleanup_(freep) char *path = NULL;
	char *text = calloc(1, 65536);
	FILE *file;

	if (!docs) {
		print_message("UTSUSU_DOCS names no folder of documents; meson test sets it\n");
		skip();
	}
	assert_true(asprintf(&path, "%s/filters.md", docs) > 0);
	file = fopen(path, "r");
	assert_non_null(file);
	assert_true(fread(text, 1, 65535, file) > 0);
	fclose(file);
	return text;
}

static void test_the_document_has_every_word(void **state _unused_)
{
	_cleanup_(freep) char *text = read_document();
	const struct filter_word *word;
	char quoted[64];
	unsigned int n;

	for (n = 0; (word = filter_word(n)); n++) {
		snprintf(quoted, sizeof(quoted), "`%s`", word->name);
		if (!strstr(text, quoted))
			fail_msg("docs/filters.md lacks %s", quoted);
		assert_true(word->help[0] && word->kind <= FILTER_VALUE);
	}
	assert_true(n > 60);
}

static void test_the_document_s_examples_are_filters(void **state _unused_)
{
	_cleanup_(freep) char *text = read_document();
	char *at = strstr(text, "```filter\n"), *line;
	unsigned int n = 0;

	assert_non_null(at);
	at += strlen("```filter\n");
	while ((line = strsep(&at, "\n")) && strcmp(line, "```")) {
		if (line[0] == '#' || !line[0])
			continue;
		matches(line, &serial_out);
		n++;
	}
	assert_true(n > 10);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_matches_record),
		cmocka_unit_test(test_instruction_is_known_by_verdict),
		cmocka_unit_test(test_names_are_compared_last),
		cmocka_unit_test(test_what_nobody_tells_is_never_true),
		cmocka_unit_test(test_no_filter_matches_all),
		cmocka_unit_test(test_late_words_are_named),
		cmocka_unit_test(test_the_document_has_every_word),
		cmocka_unit_test(test_the_document_s_examples_are_filters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
