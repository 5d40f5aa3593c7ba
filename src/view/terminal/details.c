/* SPDX-License-Identifier: Apache-2.0 */
/* One request with all that is known of it, and the page of help. Both scroll. */
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "view/terminal/screen.h"
#include "watch/read/instruction.h"

#define LINE_MAX_LEN 320
#define NAME_WIDTH 13

/* Lines are counted, and drawn when they are between `top` and the last that fits. */
struct page {
	const struct terminal_ui *ui;
	struct terminal_grid *grid;
	int first, top, height, n_lines;
};

/* The row of the next line, or one outside the grid. */
static int page_row(struct page *page)
{
	int line = page->n_lines++ - page->top;

	return line >= 0 && line <= page->height ? page->first + line : -1;
}

static void _printf_(3, 4)
	page_line(struct page *page, enum terminal_look look, const char *format, ...)
{
	char text[LINE_MAX_LEN];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	terminal_grid_put(page->grid, page_row(page), 1, -1, look, text);
}

static void _printf_(3, 4) page_field(struct page *page, const char *name, const char *format, ...)
{
	char text[LINE_MAX_LEN];
	int row = page_row(page);
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	terminal_grid_put(page->grid, row, 1, NAME_WIDTH - 1, LOOK_DIM, name);
	terminal_grid_put(page->grid, row, NAME_WIDTH, -1, LOOK_PLAIN, text);
}

/* How many lines too far down: to be drawn again. */
static bool page_is_over(struct page *page, int *top)
{
	int last = MAX(page->n_lines - page->height - 1, 0);

	if (*top <= last)
		return false;
	*top = last;
	return true;
}

static const char *const verdicts[RECORD_VERDICTS] = {
	[RECORD_INSN_NOT_JUDGED] = "not looked for",
	[RECORD_INSN_UNKNOWN] = "not known: the code could not be read, or nothing in it fits",
	[RECORD_INSN_ON] = "sure: the exit stood on it, and it fits",
	[RECORD_INSN_BEFORE] = "sure: the only one that ends where the exit stood and fits",
	[RECORD_INSN_PAIRED] = "sure: the second half of an access whose first half stood on it",
	[RECORD_INSN_STEPPED] = "sure: seen by single-stepping",
	[RECORD_INSN_AMBIGUOUS] = "ambiguous: several fit; this is where the exit stood",
};

static void add_flags(struct page *page, const struct watch_record *record)
{
	static const struct {
		uint8_t flag;
		const char *text;
	} flags[] = {
		{ RECORD_NESTED, "caused by the handling of another access" },
		{ RECORD_ALTERED, "a breakpoint changed its data" },
		{ RECORD_DROPPED, "a breakpoint kept it from the device" },
		{ RECORD_UNCLAIMED, "no device answers at that address" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (record->flags & flags[i].flag)
			page_field(page, "", "%s", flags[i].text);
	if (record->repeat)
		page_field(page, "", "element %" PRIu32 " of a string access", record->repeat);
}

static void add_data(struct page *page, const struct watch_record *record)
{
	bool access = record_is_access(record);
	const char *plural = record->size == 1 ? "" : "s";
	char text[64];

	view_format_data(record, text, sizeof(text));
	if (!access)
		page_field(page, "length", "%s", text);
	else if (record->data >= ' ' && record->data <= '~')
		page_field(page, "data", "%s  '%c'  (%u byte%s)", text, (char)record->data,
			   record->size, plural);
	else
		page_field(page, "data", "%s  (%u byte%s)", text, record->size, plural);
	if (!access)
		page_field(page, "answer", "%s", view_status_name(record));
}

static void add_request(struct page *page, const struct terminal_request *request)
{
	const struct watch_record *record = &request->record;
	const struct view_context *view = page->ui->view;
	char text[64], utc[64];

	view_format_time(view, record->begin, text, sizeof(text));
	view_format_utc(view, record->begin, utc, sizeof(utc));
	page_field(page, "time", "%s  (%s)", text, utc);
	page_field(page, "request", "%s %s", view_kind_name(record->kind),
		   view_operation_name(record));
	add_flags(page, record);
	view_format_ring(view, request->ring, text, sizeof(text));
	page_field(page, "by", "%s", text);
	view_format_device(view, record, text, sizeof(text));
	page_field(page, "device", "%s", text);
	view_format_address(record, text, sizeof(text));
	page_field(page, "address", "%s", text);
	add_data(page, record);
	view_format_latency(view, record, text, sizeof(text));
	page_field(page, "latency", "%s", text);
}

static void format_bytes(const uint8_t *bytes, size_t n, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (size_t i = 0; i < n && used + 4 < size; i++)
		used += (size_t)snprintf(text + used, size - used, "%s%02x", i ? " " : "",
					 bytes[i]);
}

/* From the instruction to where the code that is known ends; what is before it has no certain borders. */
static void add_code(struct page *page, const struct watch_record *record)
{
	const struct record_access *access = &record->access;
	const uint8_t *end = access->code + RECORD_WINDOW + MIN(access->n_after, RECORD_WINDOW);
	const uint8_t *begin = access->code + RECORD_WINDOW - MIN(access->n_before, RECORD_WINDOW);
	uint64_t address = view_instruction_address(record);
	char text[128], bytes[64];
	const uint8_t *code;
	unsigned int n;

	if (!view_instruction_code(record, &code))
		return;
	if (code > begin) {
		format_bytes(begin, (size_t)(code - begin), bytes, sizeof(bytes));
		page_line(page, LOOK_DIM, "  before it:  %s", bytes);
	}
	for (bool first = true; code < end; first = false, code += n, address += n) {
		n = insn_format(code, (size_t)(end - code), access->mode, address, text,
				sizeof(text));
		if (n == 0 || n > (size_t)(end - code))
			break;
		format_bytes(code, n, bytes, sizeof(bytes));
		page_line(page, first ? LOOK_GOOD : LOOK_PLAIN, "%s 0x%016" PRIx64 "  %-24s %s",
			  first ? ">" : " ", address, bytes, text);
	}
}

#define REGISTERS_IN_A_LINE 3

struct registers {
	struct page *page;
	int row, n;
};

static void add_register(void *ctx, const char *name, uint64_t value)
{
	struct registers *registers = ctx;
	struct page *page = registers->page;
	int place = registers->n++ % REGISTERS_IN_A_LINE;

	if (place == 0)
		registers->row = page_row(page);
	terminal_grid_print(page->grid, registers->row, 1 + 26 * place, LOOK_DIM, "%-8s", name);
	terminal_grid_print(page->grid, registers->row, 9 + 26 * place, LOOK_PLAIN, "%016" PRIx64,
			    value);
}

static void add_instruction(struct page *page, const struct watch_record *record)
{
	struct registers registers = { .page = page };
	char text[256];

	if (!view_has_instruction(record))
		return;
	view_format_instruction(page->ui->view, record, text, sizeof(text));
	page_field(page, "instruction", "%s", text);
	page_field(page, "", "%s",
		   record->access.verdict < RECORD_VERDICTS ? verdicts[record->access.verdict]
							    : "?");
	page_line(page, LOOK_HEAD, "code, %u bits", record->access.mode);
	add_code(page, record);
	page_line(page, LOOK_HEAD, "registers at the exit");
	view_each_register(record, add_register, &registers);
}

static void add_frame(struct page *page, const struct watch_record *record)
{
	size_t n = MIN(record->frame.n_bytes, RECORD_FRAME_BYTES);
	char bytes[64], text[17];

	if (record->kind != RECORD_NET || n == 0)
		return;
	page_line(page, LOOK_HEAD, "the frame's first %zu bytes", n);
	for (size_t at = 0; at < n; at += 16) {
		size_t part = MIN(n - at, 16U);

		format_bytes(record->frame.bytes + at, part, bytes, sizeof(bytes));
		for (size_t i = 0; i < part; i++) {
			uint8_t byte = record->frame.bytes[at + i];

			text[i] = byte >= ' ' && byte <= '~' ? (char)byte : '.';
		}
		text[part] = '\0';
		page_line(page, LOOK_PLAIN, "%04zx  %-48s  %s", at, bytes, text);
	}
}

static void page_draw(struct page *page)
{
	const struct terminal_request *request = &page->ui->details;

	add_request(page, request);
	add_instruction(page, &request->record);
	add_frame(page, &request->record);
}

void terminal_draw_details(struct terminal_ui *ui, struct terminal_grid *grid, int first)
{
	struct terminal_place *place = terminal_ui_place(ui);
	struct page page = { ui, grid, first, place->top, ui->height, 0 };

	page_draw(&page);
	if (!page_is_over(&page, &place->top))
		return;
	terminal_grid_clear(grid);
	page = (struct page){ ui, grid, first, place->top, ui->height, 0 };
	page_draw(&page);
}

/* THE keys; docs/watching.md has the same. */
static const struct {
	const char *key, *help;
} keys[] = {
	{ "1 .. 5, Tab", "devices, addresses, instructions, vCPUs, requests" },
	{ "up, down, PgUp, PgDn", "choose a row; also k and j, Home, End" },
	{ "Enter", "a device's instructions; their requests; a request" },
	{ "Esc, Backspace", "back up" },
	{ "left, right", "sort by the next column; in details: the next request" },
	{ "i", "turn the order" },
	{ "/", "filter as you type; an error shows under its column" },
	{ "f", "a filter for the row, added to the one in force; change it, Enter keeps it" },
	{ "space", "pause the picture; requests go on being counted" },
	{ "r", "numbers begin anew" },
	{ "+, -", "a new picture more often, less often" },
	{ "?", "this page" },
	{ "q", "leave" },
};

static void add_help(struct page *page)
{
	const struct view_context *view = page->ui->view;

	page_line(page, LOOK_HEAD, "Keys");
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		page_line(page, LOOK_PLAIN, "%-21s %s", keys[i].key, keys[i].help);
	page_line(page, LOOK_HEAD, "Numbers");
	page_line(page, LOOK_PLAIN,
		  "p50 p90 p99 max: how long requests took, exact to 19 %%; time: the share of");
	page_line(page, LOOK_PLAIN, "each row in the time of all. %s",
		  view->origin == VIEW_LIVE ? "/s: of the last second."
					    : "/s: on average, by the recording's own time.");
	page_line(page, LOOK_PLAIN, "The last %d requests are kept; tables have up to %d rows.",
		  TERMINAL_KEPT, TERMINAL_ROWS_MAX);
	page_line(page, LOOK_HEAD, "This watch");
	page_line(page, LOOK_PLAIN, "mode: %s", view->mode);
	for (size_t i = 0; i < view->n_unseen; i++)
		page_line(page, LOOK_PLAIN, "not seen: %s", view->unseen[i]);
}

void terminal_draw_help(struct terminal_ui *ui, struct terminal_grid *grid, int first)
{
	struct page page = { ui, grid, first, ui->help_top, ui->height, 0 };

	add_help(&page);
	if (!page_is_over(&page, &ui->help_top))
		return;
	terminal_grid_clear(grid);
	page = (struct page){ ui, grid, first, ui->help_top, ui->height, 0 };
	add_help(&page);
}
