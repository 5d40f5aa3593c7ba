/* SPDX-License-Identifier: Apache-2.0 */
#include "view/terminal/ui.h"

#include <string.h>

#include "base/cleanup.h"
#include "view/terminal/grid.h"

static const uint64_t refresh_steps_ms[] = { 100, 200, 500, 1000, 2000, 5000 };

static bool allocate(struct terminal_ui *ui)
{
	const uint32_t n = TERMINAL_ROWS_MAX + 1;
	bool whole = true;

	for (int i = 0; i < TAB_TABLES; i++) {
		ui->lines[i] = calloc(n, sizeof(*ui->lines[i]));
		whole = whole && ui->lines[i];
	}
	ui->shown = calloc(n, sizeof(*ui->shown));
	ui->visible = calloc(GRID_ROWS_MAX, sizeof(*ui->visible));
	ui->order = calloc(TERMINAL_LIST_MAX, sizeof(*ui->order));
	ui->model = terminal_model_new(&ui->view->names, &ui->view->times);
	return whole && ui->shown && ui->visible && ui->order && ui->model;
}

struct terminal_ui *terminal_ui_new(struct view_context *view)
{
	struct terminal_ui *ui = calloc(1, sizeof(*ui));

	if (!ui)
		return NULL;
	ui->view = view;
	ui->refresh_ms = 500;
	for (int i = 0; i < TAB_N; i++) {
		ui->tabs[i].kind = i < TAB_TABLES ? PLACE_TABLE : PLACE_REQUESTS;
		ui->tabs[i].scope.tab = i;
		ui->tabs[i].sort = i < TAB_TABLES ? COLUMN_RATE : REQUEST_TIME;
	}
	if (allocate(ui) && terminal_filter_set(ui, view->filter_text) == 0) {
		ui->again = false;
		return ui;
	}
	terminal_ui_free(ui);
	return NULL;
}

void terminal_ui_free(struct terminal_ui *ui)
{
	if (!ui)
		return;
	for (int i = 0; i < TAB_TABLES; i++)
		free(ui->lines[i]);
	free(ui->shown);
	free(ui->visible);
	free(ui->order);
	terminal_model_free(ui->model);
	filter_free(ui->filter.filter);
	free(ui);
}

void terminal_ui_add(struct terminal_ui *ui, const struct watch_record *record, uint32_t ring)
{
	terminal_model_add(ui->model, record, ring);
}

struct terminal_place *terminal_ui_place(struct terminal_ui *ui)
{
	return ui->depth ? &ui->deeper[ui->depth - 1] : &ui->tabs[ui->tab];
}

/* What a recording or a dead VM left is over at once: its rates are averages over its own time. */
static uint64_t rate_span(const struct terminal_ui *ui)
{
	uint64_t span = terminal_model_span(ui->model);

	return ui->view->origin == VIEW_LIVE ? 0 : MAX(span, 1U);
}

static void picture_take(struct terminal_ui *ui)
{
	for (int i = 0; i < TAB_TABLES; i++)
		ui->n_lines[i] = terminal_table_lines(terminal_model_table(ui->model, i),
						      rate_span(ui), ui->lines[i]);
	terminal_model_totals(ui->model, &ui->totals);
	ui->span_ns = terminal_model_span(ui->model);
}

void terminal_ui_refresh(struct terminal_ui *ui)
{
	ui->lost = source_lost(ui->view->source);
	if (!ui->paused)
		picture_take(ui);
}

/* The selection follows its row when other rows move around it. */
static void follow_key(struct terminal_ui *ui, struct terminal_place *place)
{
	for (int i = 0; place->sticks && i < ui->n_shown; i++) {
		const struct terminal_line *line = &ui->shown[i];

		if (!line->other && memcmp(&line->key, &place->key, sizeof(place->key)) == 0) {
			place->selected = i;
			return;
		}
	}
}

static void scroll(struct terminal_ui *ui, struct terminal_place *place)
{
	place->selected = MIN(place->selected, ui->n_shown - 1);
	place->selected = MAX(place->selected, 0);
	if (place->selected < place->top)
		place->top = place->selected;
	if (place->selected >= place->top + ui->height)
		place->top = place->selected - ui->height + 1;
	place->top = MAX(MIN(place->top, ui->n_shown - ui->height), 0);
}

static void arrange_lines(struct terminal_ui *ui, struct terminal_place *place)
{
	enum terminal_tab tab = place->kind == PLACE_SITES ? TAB_INSTRUCTIONS : place->scope.tab;

	ui->n_shown = 0;
	for (uint32_t i = 0; i < ui->n_lines[tab]; i++) {
		const struct terminal_line *line = &ui->lines[tab][i];

		if (place->kind == PLACE_TABLE ||
		    (!line->other && line->key.device == place->scope.key.device))
			ui->shown[ui->n_shown++] = *line;
	}
	terminal_lines_sort(ui->shown, ui->n_shown, place->sort, place->reverse);
	follow_key(ui, place);
	scroll(ui, place);
}

static int number_order(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

struct request_order {
	const struct terminal_model *model;
	const struct terminal_place *place;
};

static int request_compare(const void *first, const void *second, void *ctx)
{
	const struct request_order *order = ctx;
	uint32_t i = *(const uint32_t *)first, j = *(const uint32_t *)second;
	const struct terminal_request *x = terminal_model_request(order->model, i);
	const struct terminal_request *y = terminal_model_request(order->model, j);
	const struct watch_record *a = &x->record, *b = &y->record;
	const int by[REQUEST_COLUMNS] = {
		[REQUEST_TIME] = number_order(b->begin, a->begin),
		[REQUEST_THREAD] = number_order(x->ring, y->ring),
		[REQUEST_DEVICE] = number_order(a->device, b->device),
		[REQUEST_OPERATION] =
			number_order(a->kind << 16 | a->operation << 8 | (a->flags & RECORD_WRITE),
				     b->kind << 16 | b->operation << 8 | (b->flags & RECORD_WRITE)),
		[REQUEST_ADDRESS] = number_order(a->address, b->address),
		[REQUEST_DATA] = number_order(b->data, a->data),
		[REQUEST_LATENCY] = number_order(b->duration, a->duration),
	};
	int result = by[order->place->sort % REQUEST_COLUMNS];

	if (order->place->reverse)
		result = -result;
	return result ? result : number_order(j, i); /* the newest first */
}

/* Requests come nearly in order of time, so that also this order is made. */
static void order_requests(struct terminal_ui *ui, const struct terminal_place *place)
{
	struct request_order order = { ui->model, place };
	uint32_t n = terminal_model_listed(ui->model);

	ui->n_shown = (int)n;
	for (uint32_t i = 0; i < n; i++)
		ui->order[i] = n - 1 - i;
	qsort_r(ui->order, n, sizeof(*ui->order), request_compare, &order);
}

static void follow_number(struct terminal_ui *ui, struct terminal_place *place)
{
	for (int i = 0; place->sticks && i < ui->n_shown; i++) {
		if (terminal_model_request(ui->model, ui->order[i])->number == place->number) {
			place->selected = i;
			return;
		}
	}
}

static void arrange_requests(struct terminal_ui *ui, struct terminal_place *place)
{
	order_requests(ui, place);
	follow_number(ui, place);
	scroll(ui, place);
	ui->n_visible = MIN(ui->height, ui->n_shown - place->top);
	ui->n_visible = MIN(ui->n_visible, GRID_ROWS_MAX);
	for (int i = 0; i < ui->n_visible; i++)
		ui->visible[i] = *terminal_model_request(ui->model, ui->order[place->top + i]);
}

void terminal_ui_arrange(struct terminal_ui *ui, int height)
{
	struct terminal_place *place = terminal_ui_place(ui);

	ui->height = MAX(height, 1);
	if (place->kind == PLACE_TABLE || place->kind == PLACE_SITES)
		arrange_lines(ui, place);
	else if (place->kind == PLACE_REQUESTS)
		arrange_requests(ui, place);
}

/* Remembers what is selected by what it is, so that it stays selected. */
static void stick(struct terminal_ui *ui, struct terminal_place *place)
{
	int line = place->selected - place->top;

	place->sticks = false;
	if (place->kind == PLACE_REQUESTS && line >= 0 && line < ui->n_visible) {
		place->number = ui->visible[line].number;
		place->sticks = place->selected > 0; /* the first line shows what is newest */
	} else if (place->kind != PLACE_REQUESTS && place->selected < ui->n_shown) {
		place->key = ui->shown[place->selected].key;
		place->sticks = !ui->shown[place->selected].other;
	}
}

static void select_line(struct terminal_ui *ui, struct terminal_place *place, int line)
{
	place->selected = MIN(MAX(line, 0), MAX(ui->n_shown - 1, 0));
	place->sticks = false;
	terminal_ui_arrange(ui, ui->height);
	stick(ui, place);
}

/* The list is of the place that one is in, or that one came from to a request. */
static void scope_follow(struct terminal_ui *ui)
{
	const struct terminal_place *place = terminal_ui_place(ui);

	if (place->kind == PLACE_REQUESTS)
		terminal_model_set_scope(ui->model, &place->scope);
}

static struct terminal_place *go_deeper(struct terminal_ui *ui, enum terminal_place_kind kind,
					unsigned int sort)
{
	struct terminal_place *place = &ui->deeper[ui->depth];

	if (ui->depth == TERMINAL_DEPTH)
		return NULL;
	*place = (struct terminal_place){ .kind = kind, .sort = sort };
	ui->depth++;
	return place;
}

static void enter_line(struct terminal_ui *ui, const struct terminal_place *from)
{
	const struct terminal_line *line = &ui->shown[from->selected];
	bool device = from->kind == PLACE_TABLE && from->scope.tab == TAB_DEVICES;
	struct terminal_place *place;

	if (from->selected >= ui->n_shown)
		return;
	if (line->other) {
		snprintf(ui->message, sizeof(ui->message),
			 "the rows that found no room, summed; a filter (/) brings them apart");
		return;
	}
	place = device ? go_deeper(ui, PLACE_SITES, COLUMN_RATE)
		       : go_deeper(ui, PLACE_REQUESTS, REQUEST_TIME);
	if (!place)
		return;
	place->scope.tab = from->kind == PLACE_SITES ? TAB_INSTRUCTIONS : from->scope.tab;
	place->scope.key = line->key;
	scope_follow(ui);
}

static void enter_request(struct terminal_ui *ui, const struct terminal_place *from)
{
	int line = from->selected - from->top;

	if (line < 0 || line >= ui->n_visible)
		return;
	ui->details = ui->visible[line];
	go_deeper(ui, PLACE_DETAILS, 0);
}

static void enter(struct terminal_ui *ui, int step _unused_)
{
	const struct terminal_place *place = terminal_ui_place(ui);

	if (place->kind == PLACE_REQUESTS)
		enter_request(ui, place);
	else if (place->kind != PLACE_DETAILS)
		enter_line(ui, place);
}

static void go_up(struct terminal_ui *ui, int step _unused_)
{
	bool from_request = terminal_ui_place(ui)->kind == PLACE_DETAILS;

	if (ui->depth == 0)
		return;
	ui->depth--;
	if (!from_request)
		scope_follow(ui);
}

static void go_tab(struct terminal_ui *ui, int tab)
{
	ui->tab = (tab + TAB_N) % TAB_N;
	ui->depth = 0;
	scope_follow(ui);
}

static void sort_by(struct terminal_ui *ui, int step)
{
	struct terminal_place *place = terminal_ui_place(ui);
	int n = place->kind == PLACE_REQUESTS ? REQUEST_COLUMNS : COLUMN_N;

	place->sort = (place->sort + n + step) % n;
	place->reverse = false;
}

/* From a request to the one beside it in the list. */
static void next_request(struct terminal_ui *ui, int step)
{
	struct terminal_place *details = terminal_ui_place(ui), *list;
	int line;

	ui->depth--;
	list = terminal_ui_place(ui);
	terminal_ui_arrange(ui, ui->height);
	select_line(ui, list, list->selected + step);
	line = list->selected - list->top;
	ui->depth++;
	if (line >= 0 && line < ui->n_visible)
		ui->details = ui->visible[line];
	details->top = 0;
}

static void pause_toggle(struct terminal_ui *ui, int step _unused_)
{
	ui->paused = !ui->paused;
	terminal_model_hold(ui->model, ui->paused);
	picture_take(ui); /* as of this moment, also what is not shown now */
}

void terminal_ui_begin_again(struct terminal_ui *ui)
{
	ui->paused = false;
	terminal_model_hold(ui->model, false);
	terminal_model_reset(ui->model, true);
	picture_take(ui);
}

/* What ended would stay empty: what is kept of it counts again, or all is read again. */
static void reset(struct terminal_ui *ui, int step _unused_)
{
	if (ui->view->end == VIEW_RUNS)
		terminal_model_reset(ui->model, false);
	else
		terminal_model_set_filter(ui->model, ui->filter.filter);
	picture_take(ui);
	ui->again = true;
	snprintf(ui->message, sizeof(ui->message), "the numbers begin anew");
}

static void refresh_step(struct terminal_ui *ui, int step)
{
	int n = ARRAY_SIZE(refresh_steps_ms), at = 0;

	while (at < n - 1 && refresh_steps_ms[at] < ui->refresh_ms)
		at++;
	at = MIN(MAX(at + step, 0), n - 1);
	ui->refresh_ms = refresh_steps_ms[at];
	snprintf(ui->message, sizeof(ui->message), "a new picture every %g s",
		 (double)ui->refresh_ms / 1000);
}

static void open_filter(struct terminal_ui *ui, int step _unused_)
{
	terminal_filter_open(ui);
}

static void narrow(struct terminal_ui *ui, int step _unused_)
{
	terminal_narrow(ui);
}

static void leave(struct terminal_ui *ui, int step _unused_)
{
	ui->leave = true;
}

static void help(struct terminal_ui *ui, int step _unused_)
{
	ui->help = true;
	ui->help_top = 0;
}

static void turn_order(struct terminal_ui *ui, int step _unused_)
{
	struct terminal_place *place = terminal_ui_place(ui);

	place->reverse = !place->reverse;
}

static void step_tab(struct terminal_ui *ui, int step)
{
	go_tab(ui, (int)ui->tab + step);
}

/* Keys that do not move; details.c has them for people. */
static const struct {
	int press;
	void (*act)(struct terminal_ui *ui, int argument);
	int argument;
} commands[] = {
	{ 'q', leave, 0 },
	{ '?', help, 0 },
	{ 'h', help, 0 },
	{ ' ', pause_toggle, 0 },
	{ '/', open_filter, 0 },
	{ 'f', narrow, 0 },
	{ 'r', reset, 0 },
	{ 'i', turn_order, 0 },
	{ '+', refresh_step, -1 },
	{ '=', refresh_step, -1 },
	{ '-', refresh_step, 1 },
	{ '1', go_tab, TAB_DEVICES },
	{ '2', go_tab, TAB_ADDRESSES },
	{ '3', go_tab, TAB_INSTRUCTIONS },
	{ '4', go_tab, TAB_THREADS },
	{ '5', go_tab, TAB_REQUESTS },
	{ PRESS_TAB, step_tab, 1 },
	{ PRESS_BACK_TAB, step_tab, -1 },
	{ PRESS_ENTER, enter, 0 },
	{ PRESS_BACKSPACE, go_up, 0 },
	{ PRESS_ESCAPE, go_up, 0 },
};

static void press_command(struct terminal_ui *ui, int press)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (commands[i].press == press)
			commands[i].act(ui, commands[i].argument);
}

/* Where a key that moves leads to from `line`, among `n` lines; -1: it does not move. */
static int moved(int press, int line, int page, int n)
{
	switch (press) {
	case PRESS_UP:
	case 'k':
		return MAX(line - 1, 0);
	case PRESS_DOWN:
	case 'j':
		return line + 1;
	case PRESS_PAGE_UP:
		return MAX(line - page, 0);
	case PRESS_PAGE_DOWN:
		return line + page;
	case PRESS_HOME:
		return 0;
	case PRESS_END:
		return MAX(n - 1, 0);
	default:
		return -1;
	}
}

#define DETAILS_LINES 200 /* more than a request has; drawing brings `top` back */

static void press_place(struct terminal_ui *ui, int press)
{
	struct terminal_place *place = terminal_ui_place(ui);
	bool details = place->kind == PLACE_DETAILS;
	int step = press == PRESS_LEFT ? -1 : 1, to;

	if (press == PRESS_LEFT || press == PRESS_RIGHT) {
		details ? next_request(ui, step) : sort_by(ui, step);
		return;
	}
	to = moved(press, details ? place->top : place->selected, ui->height,
		   details ? DETAILS_LINES : ui->n_shown);
	if (to < 0)
		press_command(ui, press);
	else if (details)
		place->top = to;
	else
		select_line(ui, place, to);
}

static void press_help(struct terminal_ui *ui, int press)
{
	int to = moved(press, ui->help_top, ui->height, DETAILS_LINES);

	if (press == 'q')
		ui->leave = true;
	else if (to >= 0)
		ui->help_top = to;
	else
		ui->help = false;
}

void terminal_ui_press(struct terminal_ui *ui, int press)
{
	ui->message[0] = '\0';
	if (ui->filter.open)
		terminal_filter_press(ui, press);
	else if (ui->help)
		press_help(ui, press);
	else
		press_place(ui, press);
	if (ui->again)
		picture_take(ui); /* also a paused one: it was of another filter */
	terminal_ui_arrange(ui,
			    ui->height); /* the next key may be about what this one has brought */
}
