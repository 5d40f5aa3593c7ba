/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "check.h"
#include "fake_source.h"
#include "view/json.h"
#include "view/line.h"
#include "view/output.h"

struct rig {
	struct watch_source source;
	struct view_context view;
	volatile sig_atomic_t stop;
};

static void rig_init(struct rig *rig)
{
	*rig = (struct rig){ 0 };
	fake_source_init(&rig->source);
	view_init(&rig->view, &rig->source);
	rig->view.origin = VIEW_RECORDING;
	rig->view.title = "night.utsusu";
	rig->view.mode = "normal";
	rig->view.filter_text = "";
	rig->view.stop = &rig->stop;
}

static struct watch_record *add_disk(struct rig *rig, uint64_t begin)
{
	struct watch_record *record = fake_source_add(&rig->source, begin);

	*record = (struct watch_record){
		.sequence = record->sequence,
		.begin = begin,
		.duration = 2500000,
		.address = 4096,
		.data = 8192,
		.kind = RECORD_DISK,
		.flags = RECORD_WRITE,
		.operation = RECORD_DISK_WRITE,
		.device = 1,
	};
	return record;
}

static void line_is(struct rig *rig, const struct watch_record *record, uint32_t ring,
		    const char *expected)
{
	char text[512];
	size_t len = view_line(&rig->view, record, ring, text, sizeof(text));

	assert_string_equal(text, expected);
	assert_int_equal(len, strlen(text));
}

static void an_access_is_a_line_in_columns(void **state _unused_)
{
	struct rig rig;

	rig_init(&rig);
	line_is(&rig, fake_source_add(&rig.source, 1500), 0,
		"03:04:05.000001  vcpu0          serial        out   port 0x3f8          0x41          12.3 us"
		"  0xffffffff81000010: out dx, al");
}

static void a_disk_request_is_a_line_with_its_status(void **state _unused_)
{
	struct watch_record *record;
	struct rig rig;

	rig_init(&rig);
	record = add_disk(&rig, 999999999);
	line_is(&rig, record, 2,
		"03:04:05.999999  disk:0         disk          write sector 8            8192 bytes    2.50 ms"
		"  ok");
	record->status = -EIO;
	record->operation = RECORD_DISK_FLUSH;
	line_is(&rig, record, 2,
		"03:04:05.999999  disk:0         disk          flush -                   8192 bytes    2.50 ms"
		"  EIO");
}

static void what_is_not_sure_is_marked(void **state _unused_)
{
	struct watch_record *record;
	struct rig rig;
	char text[256];

	rig_init(&rig);
	record = fake_source_add(&rig.source, 0);
	record->access.verdict = RECORD_INSN_AMBIGUOUS;
	record->access.instruction = 1;
	view_format_instruction(&rig.view, record, text, sizeof(text));
	assert_string_equal(text, "~0xffffffff81000010: out dx, al");
	record->access.mode = 0;
	view_format_instruction(&rig.view, record, text, sizeof(text));
	assert_string_equal(text, "");
}

static void marks_follow_the_instruction(void **state _unused_)
{
	struct watch_record *record;
	struct rig rig;
	char text[512];

	rig_init(&rig);
	record = fake_source_add(&rig.source, 0);
	record->flags |= RECORD_ALTERED | RECORD_UNCLAIMED;
	record->repeat = 3;
	view_line(&rig.view, record, 0, text, sizeof(text));
	assert_non_null(strstr(text, "out dx, al [altered] [no device] [element 3]"));
}

static void addresses_tell_their_space(void **state _unused_)
{
	struct watch_record record = { .kind = RECORD_MMIO, .address = 0xfee00000 };
	char text[64];

	view_format_address(&record, text, sizeof(text));
	assert_string_equal(text, "mmio 0xfee00000");
	record = (struct watch_record){ .kind = RECORD_PCI, .address = 0x10 << 12 | 0x10 };
	view_format_address(&record, text, sizeof(text));
	assert_string_equal(text, "pci 00:02.0+0x10");
	record.kind = RECORD_NET;
	view_format_address(&record, text, sizeof(text));
	assert_string_equal(text, "-");
}

static void data_is_as_wide_as_the_access(void **state _unused_)
{
	struct watch_record record = { .kind = RECORD_MMIO, .data = 0x1122334455667788 };
	static const struct {
		uint8_t size;
		const char *text;
	} cases[] = {
		{ 1, "0x88" }, { 2, "0x7788" }, { 4, "0x55667788" }, { 8, "0x1122334455667788" }
	};
	char text[64];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		record.size = cases[i].size;
		view_format_data(&record, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

static void times_have_three_figures(void **state _unused_)
{
	static const struct {
		uint64_t ns;
		const char *text;
	} cases[] = { { 0, "0 ns" },	       { 999, "999 ns" },    { 1000, "1.00 us" },
		      { 12345, "12.3 us" },    { 123456, "123 us" }, { 4560000, "4.56 ms" },
		      { 1200000000, "1.20 s" } };
	char text[64];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		view_format_ns(cases[i].ns, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

/* Whatever stands in a record: text that ends, and JSON that is some. */
static void hostile_records_are_written_too(void **state _unused_)
{
	char text[VIEW_JSON_MAX], line[512];
	struct watch_record record;
	struct rig rig;

	rig_init(&rig);
	memset(rig.source.header.devices[0], '"', STORE_NAME - 1);
	rig.source.header.devices[0][3] = '\xff';
	for (int fill = 0; fill < 256; fill++) {
		json_auto_t *json = NULL;
		size_t len;

		memset(&record, fill, sizeof(record));
		record.kind = (uint8_t)(fill % (RECORD_KINDS + 1));
		record.device = 0;
		len = view_json_record(&rig.view, &record, 7, VIEW_JSON_ALL, text);
		assert_int_equal(len, strlen(text));
		json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
		assert_non_null(json);
		len = view_line(&rig.view, &record, 7, line, sizeof(line));
		assert_int_equal(len, strlen(line));
	}
}

static void an_access_is_an_object(void **state _unused_)
{
	static const char expected[] =
		"{\"time\":\"2026-01-02T03:04:05.000001500Z\",\"time_us\":1767323045000001,"
		"\"latency_ns\":12345,\"ring\":\"vcpu0\",\"sequence\":1,\"kind\":\"pio\",\"vcpu\":0,"
		"\"device\":\"serial\",\"operation\":\"out\",\"address\":\"0x3f8\",\"size\":1,"
		"\"data\":\"0x41\",\"element\":0,\"instruction\":{\"address\":\"0xffffffff81000010\","
		"\"verdict\":\"on\",\"mode\":64,\"bytes\":\"ee\",\"text\":\"out dx, al\"}}";
	char text[VIEW_JSON_MAX];
	struct rig rig;

	rig_init(&rig);
	view_json_record(&rig.view, fake_source_add(&rig.source, 1500), 0, 0, text);
	assert_string_equal(text, expected);
}

static void registers_have_the_names_of_the_mode(void **state _unused_)
{
	json_auto_t *wide = NULL, *narrow = NULL;
	struct watch_record *record;
	char text[VIEW_JSON_MAX];
	struct rig rig;

	rig_init(&rig);
	record = fake_source_add(&rig.source, 0);
	view_json_record(&rig.view, record, 0, VIEW_JSON_ALL, text);
	wide = json_loads(text, 0, NULL);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(wide, "registers"), "rdx")),
		"0x3f8");
	record->access.mode = 16;
	view_json_record(&rig.view, record, 0, VIEW_JSON_ALL, text);
	narrow = json_loads(text, 0, NULL);
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(narrow, "registers"), "edx")),
		"0x3f8");
	assert_null(json_object_get(json_object_get(narrow, "registers"), "r8"));
}

/* Runs a view with standard output in a file; the file's text. */
static int run_view(struct rig *rig, int (*run)(struct view_context *, struct error *),
		    char *ret_text, size_t size)
{
	struct error err = { 0 };
	int file = memfd_create("output", MFD_CLOEXEC), out = dup(STDOUT_FILENO), r;
	ssize_t n;

	fflush(stdout);
	dup2(file, STDOUT_FILENO);
	r = run(&rig->view, &err);
	dup2(out, STDOUT_FILENO);
	n = pread(file, ret_text, size - 1, 0);
	ret_text[n] = '\0';
	close(file);
	close(out);
	return r;
}

static unsigned int count_lines(const char *text)
{
	unsigned int n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

static void lines_of_json_begin_and_end(void **state _unused_)
{
	static char text[65536];
	struct rig rig;

	rig_init(&rig);
	fake_source_add(&rig.source, 0);
	fake_source_add(&rig.source, 0)->kind = RECORD_VCPU;
	add_disk(&rig, 10);
	assert_int_equal(run_view(&rig, json_view_run, text, sizeof(text)), 0);
	assert_int_equal(count_lines(text), 4);
	assert_ptr_equal(strstr(text, "{\"watch\":{\"vm\":\"vm1\",\"origin\":\"recording\","),
			 text);
	assert_non_null(
		strstr(text, "{\"end\":{\"reason\":\"no-more\",\"records\":2,\"lost\":0}}\n"));
}

static void lost_requests_are_told_where_they_are_missing(void **state _unused_)
{
	static char text[65536];
	struct rig rig;

	rig_init(&rig);
	fake_source_add(&rig.source, 0);
	rig.source.lost = 17;
	assert_int_equal(run_view(&rig, json_view_run, text, sizeof(text)), 0);
	assert_non_null(strstr(text, "{\"lost\":{\"records\":17,\"total\":17}}\n"));
	assert_non_null(strstr(text, "\"lost\":17}}\n"));
}

static void a_guest_that_no_longer_waits_is_told_once(void **state _unused_)
{
	static char text[65536];
	struct rig rig;

	rig_init(&rig);
	fake_source_add(&rig.source, 0);
	fake_source_add(&rig.source, 1);
	rig.source.expelled = true;
	assert_int_equal(run_view(&rig, json_view_run, text, sizeof(text)), 0);
	assert_int_equal(count_lines(text), 5);
	assert_non_null(strstr(text, "\n{\"expelled\":true}\n"));
}

static void now_all(struct view_context *view)
{
	view->mode = "all";
}

static void a_change_of_the_mode_is_told(void **state _unused_)
{
	static char text[65536];
	struct rig rig;

	rig_init(&rig);
	rig.view.refresh_mode = now_all;
	rig.source.header.mode = STORE_ALL;
	rig.source.at_end = 0;
	rig.view.options.for_ms = 50;
	assert_int_equal(run_view(&rig, json_view_run, text, sizeof(text)), 0);
	assert_int_equal(count_lines(text), 3);
	assert_non_null(strstr(text, "\"mode\":\"normal\""));
	assert_non_null(strstr(text, "\n{\"watch\":"));
	assert_non_null(strstr(text, "\"mode\":\"all\""));
	assert_int_equal(rig.view.mode_changes, 1);
}

static void a_count_ends_it(void **state _unused_)
{
	static char text[65536];
	struct rig rig;

	rig_init(&rig);
	for (int i = 0; i < 5; i++)
		fake_source_add(&rig.source, (uint64_t)i);
	rig.source.at_end = 0; /* a living VM */
	rig.view.options.count = 3;
	assert_int_equal(run_view(&rig, line_view_run, text, sizeof(text)), 0);
	assert_int_equal(count_lines(text), 3);
	assert_int_equal(rig.view.end, VIEW_END_COUNT);
}

static void time_ends_it(void **state _unused_)
{
	static char text[65536];
	struct rig rig;

	rig_init(&rig);
	rig.source.at_end = 0;
	rig.view.options.for_ms = 30;
	assert_int_equal(run_view(&rig, line_view_run, text, sizeof(text)), 0);
	assert_int_equal(rig.view.end, VIEW_END_TIME);
}

static void a_filter_lets_some_through(void **state _unused_)
{
	static char text[65536];
	struct error err = { 0 };
	struct filter *filter;
	struct rig rig;

	rig_init(&rig);
	fake_source_add(&rig.source, 0);
	add_disk(&rig, 1);
	assert_int_equal(filter_compile("dev==disk", &filter, NULL, &err), 0);
	rig.view.filter = filter;
	assert_int_equal(run_view(&rig, line_view_run, text, sizeof(text)), 0);
	assert_int_equal(count_lines(text), 1);
	assert_int_equal(rig.view.n_records, 1);
	filter_free(filter);
}

static void a_second_line_has_the_registers(void **state _unused_)
{
	static char text[65536];
	struct rig rig;

	rig_init(&rig);
	fake_source_add(&rig.source, 0);
	rig.view.options.registers = true;
	assert_int_equal(run_view(&rig, line_view_run, text, sizeof(text)), 0);
	assert_int_equal(count_lines(text), 2);
	assert_non_null(strstr(text, "\n    rax=41 rcx=0 rdx=3f8 rbx=0 "));
	assert_non_null(strstr(text, " rip=ffffffff81000010 rflags=202 cr3=1000\n"));
}

static void what_cannot_be_read_is_an_error(void **state _unused_)
{
	static char text[65536];
	struct rig rig;

	rig_init(&rig);
	rig.source.at_end = -EIO;
	assert_int_equal(run_view(&rig, line_view_run, text, sizeof(text)), -EIO);
}

/* With standard output a pipe that nobody reads. */
static int run_unread(struct rig *rig, int (*run)(struct view_context *, struct error *))
{
	struct error err = { 0 };
	int out = dup(STDOUT_FILENO), ends[2], r;

	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe(ends), 0);
	close(ends[0]);
	fflush(stdout);
	dup2(ends[1], STDOUT_FILENO);
	close(ends[1]);
	r = run(&rig->view, &err);
	dup2(out, STDOUT_FILENO);
	close(out);
	assert_int_equal(err.code, 0);
	return r;
}

static void a_closed_pipe_is_an_end(void **state _unused_)
{
	struct rig rig;

	rig_init(&rig);
	fake_source_add(&rig.source, 0);
	assert_int_equal(run_unread(&rig, json_view_run), 0);
}

static void a_closed_pipe_is_seen_without_a_request(void **state _unused_)
{
	struct rig rig;

	rig_init(&rig);
	rig.source.at_end = 0;
	rig.view.options.for_ms = 10000;
	assert_int_equal(run_unread(&rig, line_view_run), 0);
	assert_int_equal(rig.view.end, VIEW_RUNS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_access_is_a_line_in_columns),
		cmocka_unit_test(a_disk_request_is_a_line_with_its_status),
		cmocka_unit_test(what_is_not_sure_is_marked),
		cmocka_unit_test(marks_follow_the_instruction),
		cmocka_unit_test(addresses_tell_their_space),
		cmocka_unit_test(data_is_as_wide_as_the_access),
		cmocka_unit_test(times_have_three_figures),
		cmocka_unit_test(hostile_records_are_written_too),
		cmocka_unit_test(an_access_is_an_object),
		cmocka_unit_test(registers_have_the_names_of_the_mode),
		cmocka_unit_test(lines_of_json_begin_and_end),
		cmocka_unit_test(lost_requests_are_told_where_they_are_missing),
		cmocka_unit_test(a_guest_that_no_longer_waits_is_told_once),
		cmocka_unit_test(a_change_of_the_mode_is_told),
		cmocka_unit_test(a_count_ends_it),
		cmocka_unit_test(time_ends_it),
		cmocka_unit_test(a_filter_lets_some_through),
		cmocka_unit_test(a_second_line_has_the_registers),
		cmocka_unit_test(what_cannot_be_read_is_an_error),
		cmocka_unit_test(a_closed_pipe_is_an_end),
		cmocka_unit_test(a_closed_pipe_is_seen_without_a_request),
	};

	setenv("TZ", "UTC", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
