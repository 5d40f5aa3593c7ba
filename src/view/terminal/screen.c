/* SPDX-License-Identifier: Apache-2.0 */
/* The frame of the terminal view: title, numbers, tabs or path, what is between, message, keys or filter. */
#include "view/terminal/screen.h"

#include <inttypes.h>
#include <string.h>

#define HEAD_ROWS 3
#define FOOT_ROWS 2
#define FILTER_ROWS 3 /* instead, while it is typed */
#define ROWS_MIN (HEAD_ROWS + FILTER_ROWS + 2)
#define NAME_MAX_LEN 160

static const char *const tab_names[TAB_N] = {
	[TAB_DEVICES] = "Devices",	     [TAB_ADDRESSES] = "Addresses",
	[TAB_INSTRUCTIONS] = "Instructions", [TAB_THREADS] = "vCPUs",
	[TAB_REQUESTS] = "Requests",
};

void terminal_format_count(uint64_t count, char *ret_text, size_t size)
{
	static const char units[] = " kMGTPE";
	int unit = 0;

	for (; count >= 10000000 || (unit && count >= 100000); unit++)
		count = count / 1000 + (count % 1000 >= 500);
	if (unit)
		snprintf(ret_text, size, "%" PRIu64 " %c", count, units[unit]);
	else
		snprintf(ret_text, size, "%" PRIu64, count);
}

/* "reading", "PAUSED", why nothing more comes. */
static enum terminal_look state_text(const struct terminal_ui *ui, char *ret_text, size_t size)
{
	const struct view_context *view = ui->view;

	if (ui->error)
		snprintf(ret_text, size, "CANNOT BE READ FURTHER");
	else if (ui->paused)
		snprintf(ret_text, size, "PAUSED");
	else if (view->end != VIEW_RUNS)
		view_copy_text(view_end_text(view->end), ret_text, size);
	else
		snprintf(ret_text, size, view->origin == VIEW_LIVE ? "live" : "reading");
	return ui->error ? LOOK_BAD : ui->paused ? LOOK_WARNING : LOOK_TITLE;
}

static void draw_title(const struct terminal_ui *ui, struct terminal_grid *grid)
{
	char state[64];
	enum terminal_look look = state_text(ui, state, sizeof(state));
	int at;

	terminal_grid_paint(grid, 0, LOOK_TITLE);
	at = terminal_grid_print(grid, 0, 0, LOOK_TITLE, " utsusu watch  ");
	at = terminal_grid_put(grid, 0, at, -1, LOOK_TITLE, ui->view->title);
	at = terminal_grid_print(grid, 0, at, LOOK_TITLE, "   mode: %s  ", ui->view->mode);
	at = MAX(at, grid->columns - (int)strlen(state) - 1);
	terminal_grid_put(grid, 0, at, -1, look, state);
}

static void draw_numbers(const struct terminal_ui *ui, struct terminal_grid *grid)
{
	const struct terminal_totals *totals = &ui->totals;
	bool live = ui->view->origin == VIEW_LIVE;
	uint64_t average = ui->span_ns ? (uint64_t)((double)totals->records * NSEC_PER_SEC /
						    (double)ui->span_ns)
				       : 0;
	char span[64], of_all[32] = "";
	int at;

	view_format_ns(ui->span_ns, span, sizeof(span));
	if (ui->filter.in_force[0])
		snprintf(of_all, sizeof(of_all), " of %" PRIu64, totals->all);
	at = terminal_grid_print(grid, 1, 1, LOOK_PLAIN, "%" PRIu64 "/s%s  %" PRIu64 "%s requests",
				 live ? totals->per_second : average, live ? "" : " on average",
				 totals->records, of_all);
	at = terminal_grid_print(grid, 1, at + 2, LOOK_DIM, "in %s", span);
	at = terminal_grid_print(grid, 1, at + 2, ui->lost ? LOOK_BAD : LOOK_DIM, "lost %" PRIu64,
				 ui->lost);
	if (ui->filter.in_force[0]) {
		at = terminal_grid_print(grid, 1, at + 2, LOOK_GOOD, "filter ");
		terminal_grid_put(grid, 1, at, -1, LOOK_GOOD, ui->filter.in_force);
	}
}

static int draw_tabs(const struct terminal_ui *ui, struct terminal_grid *grid)
{
	int at = 0;

	for (int i = 0; i < TAB_N; i++) {
		bool on = i == (int)ui->tab;

		at = terminal_grid_print(grid, 2, at, on ? LOOK_TAB : LOOK_DIM, " %d %s ", i + 1,
					 tab_names[i]);
		at++;
	}
	return at;
}

/* Where one is: "Devices > serial > 0xffffffff81234567: out dx, al > request". */
static void draw_path(const struct terminal_ui *ui, struct terminal_grid *grid)
{
	int at = terminal_grid_print(grid, 2, 0, LOOK_TAB, " %d %s ", ui->tab + 1,
				     tab_names[ui->tab]);

	for (unsigned int i = 0; i < ui->depth; i++) {
		const struct terminal_place *place = &ui->deeper[i];
		char name[NAME_MAX_LEN] = "request";

		if (place->kind != PLACE_DETAILS)
			terminal_format_key(ui, place->scope.tab, &place->scope.key, false, name,
					    sizeof(name));
		at = terminal_grid_put(grid, 2, at, -1, LOOK_DIM, " > ");
		at = terminal_grid_put(grid, 2, at, -1, LOOK_PLAIN, name);
	}
}

static void draw_message(const struct terminal_ui *ui, struct terminal_grid *grid)
{
	int row = grid->rows - FOOT_ROWS;
	struct terminal_totals now;

	terminal_model_totals(ui->model, &now);
	if (ui->message[0])
		terminal_grid_put(grid, row, 1, -1, LOOK_WARNING, ui->message);
	else if (ui->error)
		terminal_grid_print(grid, row, 1, LOOK_BAD, "%s; what was read stays here",
				    strerror(-ui->error));
	else if (ui->expelled)
		terminal_grid_put(
			grid, row, 1, -1, LOOK_BAD,
			"not lossless any more: the VM has waited too long for this view");
	else if (ui->paused)
		terminal_grid_print(grid, row, 1, LOOK_WARNING,
				    "paused; counting goes on: %" PRIu64
				    " more requests since; space shows them",
				    now.records - ui->totals.records);
	else if (ui->view->end != VIEW_RUNS)
		terminal_grid_print(grid, row, 1, LOOK_WARNING, "%s; q leaves",
				    view_end_text(ui->view->end));
}

static void draw_keys(struct terminal_ui *ui, struct terminal_grid *grid)
{
	const struct terminal_place *place = terminal_ui_place(ui);
	int row = grid->rows - 1;

	if (ui->help)
		terminal_grid_put(grid, row, 1, -1, LOOK_DIM, "arrows scroll, another key closes");
	else if (place->kind == PLACE_DETAILS)
		terminal_grid_put(grid, row, 1, -1, LOOK_DIM,
				  "Esc back  <- -> next request  up, down scroll  ? help  q quit");
	else
		terminal_grid_print(grid, row, 1, LOOK_DIM,
				    "Enter in  %s/ filter  space pause  <- -> sort (%s%s)  "
				    "? help  q quit",
				    ui->depth ? "Esc back  " : "", terminal_sort_name(place),
				    place->reverse ? ", turned" : "");
}

/* The column is shown by a mark: "filter:12: " before the message says it again. */
static const char *error_text(const struct error *error)
{
	const char *text = strstr(error->message, ": ");

	return strncmp(error->message, "filter:", 7) == 0 && text ? text + 2 : error->message;
}

/* The filter's text, under it a mark at what is wrong, under that why. */
static void draw_filter(const struct terminal_ui *ui, struct terminal_grid *grid)
{
	static const char prompt[] = " filter: ";
	const struct terminal_filter *edit = &ui->filter;
	int row = grid->rows - FILTER_ROWS, left = sizeof(prompt) - 1;
	int room = MAX(grid->columns - left - 1, 1);
	int skip = MAX((int)edit->cursor - room, 0); /* a long text moves under its cursor */
	int mark = left + (int)edit->column - 1 - skip;

	terminal_grid_put(grid, row, 0, -1, LOOK_GOOD, prompt);
	terminal_grid_put(grid, row, left, room, LOOK_PLAIN, edit->text + skip);
	grid->cursor_row = row;
	grid->cursor_column = MIN(left + (int)edit->cursor - skip, grid->columns - 1);
	if (edit->column) {
		terminal_grid_put(grid, row + 1, MIN(MAX(mark, 0), grid->columns - 1), 1, LOOK_BAD,
				  "^");
		terminal_grid_put(grid, row + 2, 1, -1, LOOK_BAD, error_text(&edit->error));
	} else {
		terminal_grid_put(grid, row + 2, 1, -1, LOOK_DIM,
				  "Enter keeps it  Esc brings back the one before");
	}
}

static void draw_place(struct terminal_ui *ui, struct terminal_grid *grid)
{
	switch (terminal_ui_place(ui)->kind) {
	case PLACE_TABLE:
	case PLACE_SITES:
		terminal_draw_table(ui, grid, HEAD_ROWS);
		break;
	case PLACE_REQUESTS:
		terminal_draw_requests(ui, grid, HEAD_ROWS);
		break;
	case PLACE_DETAILS:
		terminal_draw_details(ui, grid, HEAD_ROWS);
		break;
	}
}

void terminal_draw(struct terminal_ui *ui, struct terminal_grid *grid)
{
	int foot = ui->filter.open ? FILTER_ROWS : FOOT_ROWS;

	terminal_grid_clear(grid);
	if (grid->rows < ROWS_MIN) {
		terminal_grid_put(grid, 0, 0, -1, LOOK_WARNING, "too small a terminal; q leaves");
		return;
	}
	/* The first row of what is between is its heads. */
	terminal_ui_arrange(ui, grid->rows - HEAD_ROWS - foot - 1);
	if (ui->help)
		terminal_draw_help(ui, grid, HEAD_ROWS);
	else
		draw_place(ui, grid);
	draw_title(ui, grid);
	draw_numbers(ui, grid);
	if (ui->depth)
		draw_path(ui, grid);
	else
		draw_tabs(ui, grid);
	if (ui->filter.open) {
		draw_filter(ui, grid);
		return;
	}
	draw_message(ui, grid);
	draw_keys(ui, grid);
}
