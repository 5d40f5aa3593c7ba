/* SPDX-License-Identifier: Apache-2.0 */
/* Keys go in, a grid comes out: the terminal view without a terminal. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "fake_source.h"
#include "view/terminal/screen.h"

struct rig {
	struct watch_source source;
	struct view_context view;
	struct terminal_ui *ui;
	struct terminal_grid *grid;
	uint64_t n;
};

static void rig_init(struct rig *rig, int rows, int columns)
{
	*rig = (struct rig){ 0 };
	fake_source_init(&rig->source);
	view_init(&rig->view, &rig->source);
	rig->view.origin = VIEW_RECORDING;
	rig->view.title = "night.utsusu";
	rig->view.mode = "normal, exact";
	rig->view.filter_text = "";
	rig->ui = terminal_ui_new(&rig->view);
	rig->grid = terminal_grid_new(rows, columns);
	assert_non_null(rig->ui);
	assert_non_null(rig->grid);
}

static void rig_free(struct rig *rig)
{
	terminal_ui_free(rig->ui);
	terminal_grid_free(rig->grid);
}

static struct watch_record serial_record(struct rig *rig)
{
	rig->source.n_records = 0;
	return *fake_source_add(&rig->source, 1000 * ++rig->n);
}

/* `n` writes to the serial line, one more disk request, at a microsecond's distance. */
static void feed(struct rig *rig, int n)
{
	struct watch_record record;

	for (int i = 0; i < n; i++) {
		record = serial_record(rig);
		record.address = 0x3f8 + (i & 1);
		terminal_ui_add(rig->ui, &record, i & 1);
	}
	record = (struct watch_record){
		.sequence = 1,
		.begin = 1000 * ++rig->n,
		.duration = 2500000,
		.kind = RECORD_DISK,
		.operation = RECORD_DISK_WRITE,
		.address = 4096,
		.data = 8192,
		.device = 1,
	};
	terminal_ui_add(rig->ui, &record, 2);
	terminal_ui_refresh(rig->ui);
	terminal_draw(rig->ui, rig->grid);
}

static void press(struct rig *rig, const char *keys)
{
	for (; *keys; keys++)
		terminal_ui_press(rig->ui, *keys);
	terminal_draw(rig->ui, rig->grid);
}

static void press_key(struct rig *rig, int key)
{
	terminal_ui_press(rig->ui, key);
	terminal_draw(rig->ui, rig->grid);
}

static void row_has(const struct rig *rig, int row, const char *text)
{
	char line[GRID_COLUMNS_MAX + 1];

	terminal_grid_text(rig->grid, row, line);
	if (!strstr(line, text))
		fail_msg("row %d is '%s', without '%s'", row, line, text);
}

static int row_with(const struct rig *rig, const char *text)
{
	char line[GRID_COLUMNS_MAX + 1];

	for (int row = 0; row < rig->grid->rows; row++) {
		terminal_grid_text(rig->grid, row, line);
		if (strstr(line, text))
			return row;
	}
	return -1;
}

#define screen_has(rig, text) assert_true(row_with(rig, text) >= 0)
#define screen_lacks(rig, text) assert_int_equal(row_with(rig, text), -1)

static void the_first_screen_has_mode_numbers_and_devices(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	rig.source.lost = 17;
	feed(&rig, 10);
	row_has(&rig, 0, "night.utsusu   mode: normal, exact");
	row_has(&rig, 1, "11 requests");
	row_has(&rig, 1, "lost 17");
	row_has(&rig, 2, "1 Devices   2 Addresses");
	row_has(&rig, 3, "device");
	row_has(&rig, 3, "p50     p90     p99     max");
	row_has(&rig, 4, "serial");
	row_has(&rig, 4, "12.3 us");
	row_has(&rig, 5, "disk");
	row_has(&rig, 5, "2.50 ms");
	rig_free(&rig);
}

static void enter_leads_down_to_one_request_and_back(void **state)
{
	struct rig rig;

	rig_init(&rig, 40, 80);
	feed(&rig, 10);
	press_key(&rig, PRESS_ENTER);
	row_has(&rig, 2, "Devices  > serial");
	row_has(&rig, 4, "0xffffffff81000010: out dx, al");
	press_key(&rig, PRESS_ENTER);
	row_has(&rig, 2, "serial > 0xffffffff81000010: out dx, al");
	row_has(&rig, 4, "03:04:05.000010 vcpu1");
	press_key(&rig, PRESS_ENTER);
	screen_has(&rig, "port 0x3f9");
	screen_has(&rig, "0x41  'A'");
	screen_has(&rig, "sure: the exit stood on it");
	screen_has(&rig, "> 0xffffffff81000010  ee");
	screen_has(&rig, "rdx     00000000000003f8");
	press_key(&rig, PRESS_RIGHT);
	screen_has(&rig, "03:04:05.000009");
	press_key(&rig, PRESS_ESCAPE);
	press_key(&rig, PRESS_BACKSPACE);
	press_key(&rig, PRESS_ESCAPE);
	row_has(&rig, 2, "1 Devices   2 Addresses");
	press_key(&rig, PRESS_ESCAPE); /* there is nothing above */
	assert_false(rig.ui->leave);
	rig_free(&rig);
}

static void each_tab_has_its_rows(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	feed(&rig, 10);
	press(&rig, "2");
	screen_has(&rig, "port 0x3f9       serial");
	press_key(&rig, PRESS_TAB);
	screen_has(&rig, "disk write");
	press(&rig, "4");
	screen_has(&rig, "vcpu1");
	screen_has(&rig, "disk:0");
	press(&rig, "5");
	row_has(&rig, 4, "sector 8");
	row_has(&rig, 4, "8192 B");
	press_key(&rig, PRESS_BACK_TAB);
	press_key(&rig, PRESS_ENTER); /* a vCPU's requests */
	row_has(&rig, 2, "vCPUs  > vcpu0");
	screen_lacks(&rig, "sector 8");
	rig_free(&rig);
}

static void the_column_chosen_sorts(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	feed(&rig, 10);
	row_has(&rig, 4, "serial");
	for (int i = COLUMN_RATE; i < COLUMN_MAX; i++)
		press_key(&rig, PRESS_RIGHT);
	row_has(&rig, 23, "sort (max)");
	row_has(&rig, 4, "disk");
	press(&rig, "i");
	row_has(&rig, 4, "serial");
	rig_free(&rig);
}

static void the_selection_stays_on_its_row(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	feed(&rig, 3);
	press_key(&rig, PRESS_DOWN); /* the disk */
	press_key(&rig, PRESS_LEFT); /* by name: the disk is second as well */
	press(&rig, "i");
	row_has(&rig, 4, "disk");
	assert_int_equal(rig.grid->cells[4 * 80 + 1].look, LOOK_SELECTED);
	press_key(&rig, PRESS_ENTER);
	row_has(&rig, 2, "> disk");
	rig_free(&rig);
}

static void a_filter_is_in_force_while_it_is_typed(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	feed(&rig, 10);
	press(&rig, "/dev==disk");
	row_has(&rig, 21, " filter: dev==disk");
	row_has(&rig, 1, "1 of 11 requests");
	press(&rig, " && bad");
	row_has(&rig, 22, "                      ^");
	row_has(&rig, 23, "'bad'");
	assert_int_equal(rig.grid->cursor_row, 21);
	assert_int_equal(rig.grid->cursor_column, 9 + 16);
	row_has(&rig, 1, "1 of 11 requests"); /* the last good one */
	row_has(&rig, 1, "filter dev==disk");
	press_key(&rig, PRESS_ENTER);
	assert_true(rig.ui->filter.open);
	press_key(&rig, PRESS_ESCAPE);
	assert_false(rig.ui->filter.open);
	row_has(&rig, 1, "11 requests");
	screen_lacks(&rig, "filter dev");
	rig_free(&rig);
}

static void a_row_becomes_a_filter(void **state)
{
	static const struct {
		const char *keys, *filter;
	} cases[] = {
		{ "1f", "dev==serial" },
		{ "2f", "port==0x3f8" },
		{ "3f", "dev==serial && insn==0xffffffff81000010" },
		{ "3jf", "dev==disk && op==write" },
		{ "4f", "vcpu==0" },
	};
	struct rig rig;

	rig_init(&rig, 24, 80);
	feed(&rig, 10);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		press(&rig, cases[i].keys);
		assert_string_equal(rig.ui->filter.in_force, cases[i].filter);
		screen_lacks(&rig, "  0 of");
		press_key(&rig, PRESS_ESCAPE);
		assert_string_equal(rig.ui->filter.in_force, "");
	}
	press(&rig, "/access");
	press_key(&rig, PRESS_ENTER);
	press(&rig, "1f");
	assert_string_equal(rig.ui->filter.in_force, "(access) && dev==serial");
	press_key(&rig, PRESS_ENTER);
	press(&rig, "5f");
	row_has(&rig, 22, "no filter for this");
	rig_free(&rig);
}

static void the_filters_text_is_edited_at_the_cursor(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	press(&rig, "/port==0x38");
	press_key(&rig, PRESS_LEFT);
	press(&rig, "fg");
	press_key(&rig, PRESS_BACKSPACE);
	assert_string_equal(rig.ui->filter.text, "port==0x3f8");
	press_key(&rig, PRESS_HOME);
	press_key(&rig, PRESS_DELETE);
	assert_string_equal(rig.ui->filter.text, "ort==0x3f8");
	press_key(&rig, PRESS_CLEAR_LINE);
	assert_string_equal(rig.ui->filter.text, "");
	for (int i = 0; i < 2 * FILTER_TEXT_MAX; i++)
		press(&rig, "(");
	assert_int_equal(strlen(rig.ui->filter.text), FILTER_TEXT_MAX - 1);
	rig_free(&rig);
}

static void the_command_lines_filter_is_the_first(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	terminal_ui_free(rig.ui);
	rig.view.filter_text = "dev==disk";
	rig.ui = terminal_ui_new(&rig.view);
	assert_non_null(rig.ui);
	feed(&rig, 10);
	row_has(&rig, 1, "1 of 11 requests");
	row_has(&rig, 1, "filter dev==disk");
	assert_false(rig.ui->again);
	rig_free(&rig);
}

static void a_pause_holds_the_picture_and_counts_on(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	feed(&rig, 10);
	press(&rig, " ");
	feed(&rig, 5);
	row_has(&rig, 0, "PAUSED");
	row_has(&rig, 1, "11 requests");
	row_has(&rig, 22, "6 more requests");
	press(&rig, "5");
	row_has(&rig, 4, "03:04:05.000011"); /* also the list */
	press(&rig, "4");
	screen_has(&rig, "vcpu1");
	press(&rig, " ");
	row_has(&rig, 1, "17 requests");
	screen_lacks(&rig, "PAUSED");
	rig_free(&rig);
}

static void an_end_is_told_and_all_stays_readable(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	feed(&rig, 10);
	rig.view.end = VIEW_END_VM;
	press_key(&rig, PRESS_ENTER);
	row_has(&rig, 0, "the VM ended");
	row_has(&rig, 22, "the VM ended; q leaves");
	row_has(&rig, 4, "out dx, al");
	rig.ui->error = -EIO;
	terminal_draw(rig.ui, rig.grid);
	row_has(&rig, 22, "Input/output error; what was read stays here");
	press(&rig, "r"); /* what is kept counts again */
	row_has(&rig, 1, "11 requests");
	press(&rig, "q");
	assert_true(rig.ui->leave);
	rig_free(&rig);
}

static void help_tells_keys_and_what_is_not_seen(void **state)
{
	static const char *const unseen[] = { "LAPIC accesses, which KVM answers" };
	struct rig rig;

	rig_init(&rig, 40, 80);
	rig.view.unseen = unseen;
	rig.view.n_unseen = 1;
	press(&rig, "?");
	screen_has(&rig, "space");
	screen_has(&rig, "not seen: LAPIC accesses");
	press(&rig, "?");
	screen_lacks(&rig, "not seen");
	rig_free(&rig);
}

static void numbers_begin_anew_and_a_recording_is_read_again(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	feed(&rig, 10);
	press(&rig, "r");
	row_has(&rig, 1, "0 requests");
	assert_true(rig.ui->again);
	press(&rig, " ");
	terminal_ui_begin_again(rig.ui);
	assert_false(rig.ui->paused);
	feed(&rig, 3);
	row_has(&rig, 1, "4 requests");
	rig_free(&rig);
}

static void the_time_between_pictures_has_limits(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	press(&rig, "+++++++++");
	assert_int_equal(rig.ui->refresh_ms, 100);
	row_has(&rig, 22, "0.1 s");
	press(&rig, "---------------");
	assert_int_equal(rig.ui->refresh_ms, 5000);
	rig_free(&rig);
}

static void names_of_others_cannot_reach_the_terminal(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	snprintf(rig.source.header.devices[0], STORE_NAME, "a\033[2J\r\n\x9b\x7f");
	rig.view.title = "\033]0;x\a";
	feed(&rig, 2);
	press_key(&rig, PRESS_ENTER);
	for (int i = 0; i < 24 * 80; i++)
		assert_in_range(rig.grid->cells[i].character, ' ', '~');
	row_has(&rig, 2, "> a?[2J????");
	rig_free(&rig);
}

static void a_frame_is_shown_in_bytes(void **state)
{
	struct watch_record record = { .kind = RECORD_NET, .begin = 5, .data = 60 };
	struct rig rig;

	rig_init(&rig, 40, 80);
	record.frame.n_bytes = UINT16_MAX; /* hostile */
	memcpy(record.frame.bytes, "Hello\033", 6);
	terminal_ui_add(rig.ui, &record, 2);
	terminal_ui_refresh(rig.ui);
	press(&rig, "5");
	press_key(&rig, PRESS_ENTER);
	screen_has(&rig, "0000  48 65 6c 6c 6f 1b");
	screen_has(&rig, "Hello.");
	screen_has(&rig, "first 192 bytes");
	rig_free(&rig);
}

static void details_scroll_to_their_end_and_no_further(void **state)
{
	struct rig rig;

	rig_init(&rig, 12, 80);
	feed(&rig, 1);
	press(&rig, "5");
	press_key(&rig, PRESS_DOWN);
	press_key(&rig, PRESS_ENTER);
	screen_has(&rig, "time");
	press_key(&rig, PRESS_END);
	screen_lacks(&rig, "latency");
	screen_has(&rig, "cr3");
	press_key(&rig, PRESS_UP);
	press_key(&rig, PRESS_HOME);
	screen_has(&rig, "request     pio out");
	rig_free(&rig);
}

static void counts_fit_their_columns(void **state)
{
	static const struct {
		uint64_t count;
		const char *text;
	} cases[] = {
		{ 0, "0" },
		{ 9999999, "9999999" },
		{ 10000000, "10000 k" },
		{ 123456789, "123 M" },
		{ UINT64_MAX, "18447 P" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[32];

		terminal_format_count(cases[i].count, text, sizeof(text));
		assert_string_equal(text, cases[i].text);
	}
}

/* Any keys on any screen, with records of any content: nothing may break. */
static void nothing_breaks_it(void **state)
{
	struct rig rig;

	rig_init(&rig, 24, 80);
	srandom(1);
	for (int i = 0; i < 5000; i++) {
		struct watch_record record;
		long choice = random() % 40;

		for (size_t j = 0; j < sizeof(record); j++)
			((uint8_t *)&record)[j] = (uint8_t)random();
		record.kind %= RECORD_KINDS + 1;
		terminal_ui_add(rig.ui, &record, (uint32_t)(random() % 4));
		terminal_ui_press(rig.ui, choice < 15	? (int)(PRESS_UP + choice)
					  : choice < 18 ? PRESS_ENTER
					  : choice < 39 ? (int)(' ' + random() % 95)
							: (int)(random() % 600));
		if (i % 16 == 0)
			terminal_ui_refresh(rig.ui);
		if (i % 512 == 0) {
			terminal_grid_free(rig.grid);
			rig.grid = terminal_grid_new((int)(random() % 60), (int)(random() % 200));
			assert_non_null(rig.grid);
		}
		if (rig.ui->again && i % 8 == 0)
			terminal_ui_begin_again(rig.ui);
		terminal_draw(rig.ui, rig.grid);
		rig.ui->leave = rig.ui->again = false;
	}
	rig_free(&rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_screen_has_mode_numbers_and_devices),
		cmocka_unit_test(enter_leads_down_to_one_request_and_back),
		cmocka_unit_test(each_tab_has_its_rows),
		cmocka_unit_test(the_column_chosen_sorts),
		cmocka_unit_test(the_selection_stays_on_its_row),
		cmocka_unit_test(a_filter_is_in_force_while_it_is_typed),
		cmocka_unit_test(a_row_becomes_a_filter),
		cmocka_unit_test(the_filters_text_is_edited_at_the_cursor),
		cmocka_unit_test(the_command_lines_filter_is_the_first),
		cmocka_unit_test(a_pause_holds_the_picture_and_counts_on),
		cmocka_unit_test(an_end_is_told_and_all_stays_readable),
		cmocka_unit_test(help_tells_keys_and_what_is_not_seen),
		cmocka_unit_test(numbers_begin_anew_and_a_recording_is_read_again),
		cmocka_unit_test(the_time_between_pictures_has_limits),
		cmocka_unit_test(names_of_others_cannot_reach_the_terminal),
		cmocka_unit_test(a_frame_is_shown_in_bytes),
		cmocka_unit_test(details_scroll_to_their_end_and_no_further),
		cmocka_unit_test(counts_fit_their_columns),
		cmocka_unit_test(nothing_breaks_it),
	};

	setenv("TZ", "UTC", 1);
	tzset();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
