/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of the terminal view: of tables, and of requests. */
#include <inttypes.h>
#include <string.h>

#include "view/terminal/screen.h"

#define LINE_MAX_LEN 320

/* Columns of numbers, in the order in which they get room. */
static const struct {
	enum terminal_column column;
	int width;
	const char *head, *name;
} numbers[] = {
	{ COLUMN_RATE, 9, "/s", "rate" },   { COLUMN_P99, 8, "p99", "p99" },
	{ COLUMN_P50, 8, "p50", "p50" },    { COLUMN_MAX, 8, "max", "max" },
	{ COLUMN_P90, 8, "p90", "p90" },    { COLUMN_TOTAL, 9, "total", "total" },
	{ COLUMN_TIME, 6, "time", "time" }, { COLUMN_BYTES, 9, "bytes", "bytes" },
};

/* What the names of rows need at least, and how they are headed. */
static const struct {
	int width;
	const char *head;
} names[TAB_TABLES] = {
	[TAB_DEVICES] = { 20, "device" },
	[TAB_ADDRESSES] = { 28, "address" },
	[TAB_INSTRUCTIONS] = { 36, "instruction" },
	[TAB_THREADS] = { 14, "vCPU or queue" },
};

#define WIDE 64 /* columns of a name that has room for the address, the symbol and the code */

const char *terminal_sort_name(const struct terminal_place *place)
{
	static const char *const of_requests[REQUEST_COLUMNS] = {
		"time", "vCPU", "device", "operation", "address", "data", "latency",
	};

	if (place->kind == PLACE_REQUESTS)
		return of_requests[place->sort % REQUEST_COLUMNS];
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (numbers[i].column == place->sort)
			return numbers[i].name;
	return "name";
}

static void format_operation(const struct watch_record *record, char *text, size_t size)
{
	snprintf(text, size, "%s %s", view_kind_name(record->kind), view_operation_name(record));
}

/* The symbol stands for the address where there is no room for both. */
static void format_site(const struct view_context *view, const struct watch_record *record,
			bool wide, char *text, size_t size)
{
	char symbol[96], code[96];

	if (!view_has_instruction(record)) {
		format_operation(record, text, size);
		return;
	}
	view_format_symbol(view, record, symbol, sizeof(symbol));
	if (wide || !symbol[0]) {
		view_format_instruction(view, record, text, size);
		return;
	}
	view_format_disassembly(record, code, sizeof(code));
	snprintf(text, size, "%s%s: %s", view_is_sure(record) ? "" : "~", symbol, code);
}

static void format_instruction_key(const struct terminal_ui *ui, const struct terminal_key *key,
				   bool wide, char *text, size_t size)
{
	const struct terminal_row *row =
		terminal_table_find(terminal_model_table(ui->model, TAB_INSTRUCTIONS), key);

	if (row)
		format_site(ui->view, &row->slowest, wide, text, size);
	else /* the numbers began anew since */
		snprintf(text, size, "0x%" PRIx64, key->value);
}

void terminal_format_key(const struct terminal_ui *ui, enum terminal_tab tab,
			 const struct terminal_key *key, bool wide, char *ret_text, size_t size)
{
	struct watch_record record = { .device = key->device,
				       .kind = key->kind,
				       .address = key->value };
	char address[64], device[64];

	view_format_device(ui->view, &record, device, sizeof(device));
	if (tab == TAB_THREADS) {
		view_format_ring(ui->view, key->ring, ret_text, size);
	} else if (tab == TAB_ADDRESSES) {
		view_format_address(&record, address, sizeof(address));
		snprintf(ret_text, size, "%-16s %s", address, device);
	} else if (tab == TAB_INSTRUCTIONS) {
		format_instruction_key(ui, key, wide, ret_text, size);
	} else {
		snprintf(ret_text, size, "%s", device);
	}
}

static void format_value(const struct terminal_line *line, enum terminal_column column,
			 uint64_t all_ns, char *text, size_t size)
{
	uint64_t value = line->values[column];

	switch (column) {
	case COLUMN_P50:
	case COLUMN_P90:
	case COLUMN_P99:
	case COLUMN_MAX:
		view_format_ns(value, text, size);
		break;
	case COLUMN_TIME:
		snprintf(text, size, "%.0f%%",
			 all_ns ? 100.0 * (double)value / (double)all_ns : 0.0);
		break;
	default:
		terminal_format_count(value, text, size);
	}
}

/* Which columns there is room for beside a name: a bit each. */
static unsigned int columns_fit(int width, int name_width, int *ret_used)
{
	unsigned int fit = 0;
	int used = 0;

	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		if (name_width + used + numbers[i].width > width)
			break;
		used += numbers[i].width;
		fit |= 1U << numbers[i].column;
	}
	*ret_used = used;
	return fit;
}

static int width_of(enum terminal_column column)
{
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (numbers[i].column == column)
			return numbers[i].width;
	return 0;
}

static const char *head_of(enum terminal_column column)
{
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		if (numbers[i].column == column)
			return numbers[i].head;
	return "";
}

struct layout {
	enum terminal_tab tab;
	unsigned int fit;
	int name_width;
	bool devices; /* instructions of several: each says whose */
	uint64_t all_ns;
};

/* Whose requests they are, where there is room for it. */
static void add_device(const struct terminal_ui *ui, const struct layout *layout,
		       const struct terminal_key *key, char *text, size_t size)
{
	struct watch_record record = { .device = key->device };
	int room = layout->name_width - 2 - (int)strlen(text);
	char device[64];

	view_format_device(ui->view, &record, device, sizeof(device));
	if ((int)strlen(device) < room)
		snprintf(text + strlen(text), size - strlen(text), " %*s", room - 1, device);
}

static void draw_line(const struct terminal_ui *ui, struct terminal_grid *grid, int row,
		      const struct layout *layout, const struct terminal_line *line,
		      enum terminal_look look)
{
	char text[LINE_MAX_LEN] = "other";
	int at;

	if (!line->other)
		terminal_format_key(ui, layout->tab, &line->key, layout->name_width >= WIDE, text,
				    sizeof(text));
	if (!line->other && layout->devices)
		add_device(ui, layout, &line->key, text, sizeof(text));
	terminal_grid_paint(grid, row, look);
	at = terminal_grid_put(grid, row, 1, layout->name_width - 1, look, text);
	for (int column = COLUMN_RATE; column < COLUMN_N; column++) {
		if (!(layout->fit & 1U << column))
			continue;
		format_value(line, column, layout->all_ns, text, sizeof(text));
		at = terminal_grid_put_right(grid, row, at, width_of(column), look, text);
	}
}

static void draw_heads(struct terminal_grid *grid, int row, const struct layout *layout,
		       unsigned int sort)
{
	int at = terminal_grid_put(grid, row, 1, layout->name_width - 1,
				   sort == COLUMN_KEY ? LOOK_SORTED : LOOK_HEAD,
				   names[layout->tab].head);

	for (int column = COLUMN_RATE; column < COLUMN_N; column++)
		if (layout->fit & 1U << column)
			at = terminal_grid_put_right(grid, row, at, width_of(column),
						     (unsigned int)column == sort ? LOOK_SORTED
										  : LOOK_HEAD,
						     head_of(column));
}

void terminal_draw_table(struct terminal_ui *ui, struct terminal_grid *grid, int first)
{
	const struct terminal_place *place = terminal_ui_place(ui);
	struct layout layout = { .tab = place->kind == PLACE_SITES ? TAB_INSTRUCTIONS
								   : place->scope.tab };
	int used;

	layout.devices = layout.tab == TAB_INSTRUCTIONS && place->kind == PLACE_TABLE;
	layout.fit = columns_fit(grid->columns - 1, names[layout.tab].width, &used);
	layout.name_width = MAX(grid->columns - 1 - used, 2);
	for (int i = 0; i < ui->n_shown; i++)
		layout.all_ns += ui->shown[i].values[COLUMN_TIME];
	draw_heads(grid, first, &layout, place->sort);
	for (int i = 0; i < ui->height && place->top + i < ui->n_shown; i++) {
		int line = place->top + i;

		draw_line(ui, grid, first + 1 + i, &layout, &ui->shown[line],
			  line == place->selected ? LOOK_SELECTED : LOOK_PLAIN);
	}
	if (ui->n_shown == 0)
		terminal_grid_put(grid, first + 1, 1, -1, LOOK_DIM, "no requests yet");
}

/* Columns of a list of requests; the instruction gets what is left. `least`: from which width of the screen on. */
static const struct {
	int width, least;
	const char *head;
} request_columns[REQUEST_COLUMNS] = {
	[REQUEST_TIME] = { 16, 0, "time" },	  [REQUEST_THREAD] = { 8, 80, "vCPU" },
	[REQUEST_DEVICE] = { 13, 72, "device" },  [REQUEST_OPERATION] = { 6, 40, "" },
	[REQUEST_ADDRESS] = { 17, 0, "address" }, [REQUEST_DATA] = { 11, 59, "data" },
	[REQUEST_LATENCY] = { 8, 48, "latency" },
};
#define DATA_WIDE 19 /* eight bytes */
#define DATA_WIDE_LEAST 110

/* 0: there is no room for it. */
static int request_width(const struct terminal_grid *grid, enum terminal_request_column column)
{
	if (grid->columns < request_columns[column].least)
		return 0;
	if (column == REQUEST_DATA && grid->columns >= DATA_WIDE_LEAST)
		return DATA_WIDE;
	return request_columns[column].width;
}

static void format_part(const struct terminal_ui *ui, const struct terminal_request *request,
			enum terminal_request_column column, char *text, size_t size)
{
	const struct watch_record *record = &request->record;

	switch (column) {
	case REQUEST_TIME:
		view_format_time(ui->view, record->begin, text, size);
		break;
	case REQUEST_THREAD:
		view_format_ring(ui->view, request->ring, text, size);
		break;
	case REQUEST_DEVICE:
		view_format_device(ui->view, record, text, size);
		break;
	case REQUEST_OPERATION:
		snprintf(text, size, "%s", view_operation_name(record));
		break;
	case REQUEST_ADDRESS:
		view_format_address(record, text, size);
		break;
	case REQUEST_DATA:
		if (record_is_access(record))
			view_format_data(record, text, size);
		else
			snprintf(text, size, "%" PRIu64 " B", record->data);
		break;
	default:
		view_format_latency(ui->view, record, text, size);
	}
}

/* A blank ends each column, also where the text fills it; a text that is cut says so. */
static int put_column(struct terminal_grid *grid, int row, int at, int width,
		      enum terminal_look look, const char *text)
{
	bool cut = (int)strlen(text) > width - 1;

	terminal_grid_put(grid, row, at, width - 1, look, text);
	if (cut)
		terminal_grid_put(grid, row, at + width - 2, 1, look, ">");
	return terminal_grid_put(grid, row, at + width - 1, 1, look, "");
}

static void draw_request(const struct terminal_ui *ui, struct terminal_grid *grid, int row,
			 const struct terminal_request *request, enum terminal_look look)
{
	char text[LINE_MAX_LEN];
	int at = terminal_grid_put(grid, row, 0, 1, look, "");

	for (int column = 0; column < REQUEST_COLUMNS; column++) {
		int width = request_width(grid, column);

		if (!width)
			continue;
		format_part(ui, request, column, text, sizeof(text));
		if (column == REQUEST_LATENCY)
			at = terminal_grid_put_right(grid, row, at, width, look, text);
		else
			at = put_column(grid, row, at, width, look, text);
	}
	if (grid->columns - at < 20)
		return;
	text[0] = '\0';
	if (view_has_instruction(&request->record))
		format_site(ui->view, &request->record, grid->columns - at >= WIDE, text,
			    sizeof(text));
	terminal_grid_put(grid, row, at, 2, look, "");
	terminal_grid_put(grid, row, at + 2, grid->columns - at - 2, look, text);
}

static void draw_request_heads(struct terminal_grid *grid, int row, unsigned int sort)
{
	int at = 1;

	for (unsigned int i = 0; i < REQUEST_COLUMNS; i++) {
		enum terminal_look look = i == sort ? LOOK_SORTED : LOOK_HEAD;
		int width = request_width(grid, i);

		if (!width)
			continue;
		if (i == REQUEST_LATENCY)
			at = terminal_grid_put_right(grid, row, at, width, look,
						     request_columns[i].head);
		else
			at = put_column(grid, row, at, width, look, request_columns[i].head);
	}
	if (grid->columns - at >= 20)
		terminal_grid_put(grid, row, at + 2, -1, LOOK_HEAD, "instruction");
}

void terminal_draw_requests(struct terminal_ui *ui, struct terminal_grid *grid, int first)
{
	const struct terminal_place *place = terminal_ui_place(ui);

	draw_request_heads(grid, first, place->sort);
	for (int i = 0; i < ui->n_visible; i++)
		draw_request(ui, grid, first + 1 + i, &ui->visible[i],
			     place->top + i == place->selected ? LOOK_SELECTED : LOOK_PLAIN);
	if (ui->n_visible == 0)
		terminal_grid_put(grid, first + 1, 1, -1, LOOK_DIM,
				  "none of these among the requests that are kept");
}
