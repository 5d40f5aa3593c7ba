/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal view's loop: records in batches, keys, a picture a few times a second. What is shown is ui.h's,
 * how it looks screen.h's; here is what needs ncurses. Signals only set view_context.stop (programs/watch_stop.c),
 * so the terminal is always left as it was.
 */
#define NCURSES_NOMACROS
#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "view/terminal/check.h"
#include "view/terminal/screen.h"
#include "view/view.h"

#define BATCH_NS (10 * NSEC_PER_MSEC) /* records, before keys have a turn */
#define BATCH_STEP 256		      /* records between two looks at the clock */
#define HEAR_NS (100 * NSEC_PER_MSEC) /* between two looks at what the VM tells */
#define TICK_NS (950 * NSEC_PER_MSEC) /* rates are of about a second */
#define KEY_NS (30 * NSEC_PER_MSEC)   /* between two pictures that keys ask for */
#define WAIT_MS 100 /* at most: between looks at the terminal's size, and at whether to stop */

struct terminal {
	struct view_context *view;
	struct terminal_ui *ui;
	struct terminal_grid *grid;
	SCREEN *screen;
	attr_t looks[LOOK_N];
	uint64_t drawn_ns, ticked_ns, heard_ns;
	bool pressed; /* since the last picture */
	bool over;    /* nothing more comes */
};

static void end_screen(SCREEN **screen)
{
	if (!*screen)
		return;
	endwin();
	delscreen(*screen);
	*screen = NULL;
}

static void set_looks(struct terminal *terminal)
{
	static const struct {
		attr_t plain; /* without colours */
		attr_t attributes;
		short colour;
	} looks[LOOK_N] = {
		[LOOK_PLAIN] = { A_NORMAL, A_NORMAL, -1 },
		[LOOK_DIM] = { A_NORMAL, A_DIM, -1 },
		[LOOK_TITLE] = { A_REVERSE, A_REVERSE, -1 },
		[LOOK_TAB] = { A_REVERSE, A_BOLD | A_REVERSE, COLOR_CYAN },
		[LOOK_HEAD] = { A_UNDERLINE, A_BOLD, COLOR_CYAN },
		[LOOK_SORTED] = { A_REVERSE, A_BOLD | A_UNDERLINE, COLOR_CYAN },
		[LOOK_SELECTED] = { A_REVERSE, A_REVERSE, -1 },
		[LOOK_GOOD] = { A_BOLD, A_NORMAL, COLOR_GREEN },
		[LOOK_WARNING] = { A_BOLD, A_BOLD, COLOR_YELLOW },
		[LOOK_BAD] = { A_BOLD, A_BOLD, COLOR_RED },
	};
	const char *without = getenv("NO_COLOR");
	bool colours = has_colors() && !(without && without[0]) && start_color() == OK &&
		       use_default_colors() == OK;

	for (short i = 0; i < LOOK_N; i++) {
		terminal->looks[i] = colours ? looks[i].attributes : looks[i].plain;
		if (colours && looks[i].colour >= 0 && init_pair(i + 1, looks[i].colour, -1) == OK)
			terminal->looks[i] |= COLOR_PAIR(i + 1);
	}
}

static int begin_screen(struct terminal *terminal)
{
	terminal->screen = newterm(NULL, stdout, stdin);
	if (!terminal->screen)
		return -ENOTTY;
	set_escdelay(25);
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_looks(terminal);
	terminal->grid = terminal_grid_new(LINES, COLS);
	return terminal->grid ? 0 : -ENOMEM;
}

static void show_row(const struct terminal *terminal, int row)
{
	const struct terminal_grid *grid = terminal->grid;
	const struct terminal_cell *cells = &grid->cells[row * grid->columns];
	char text[GRID_COLUMNS_MAX];

	for (int from = 0, to; from < grid->columns; from = to) {
		for (to = from; to < grid->columns && cells[to].look == cells[from].look; to++)
			text[to - from] = cells[to].character;
		attrset((int)terminal->looks[cells[from].look]);
		mvaddnstr(row, from, text, to - from);
	}
}

static void draw(struct terminal *terminal)
{
	struct terminal_grid *grid = terminal->grid;

	terminal_draw(terminal->ui, grid);
	for (int row = 0; row < grid->rows; row++)
		show_row(terminal, row);
	curs_set(grid->cursor_row >= 0);
	if (grid->cursor_row >= 0)
		move(grid->cursor_row, grid->cursor_column);
	refresh();
	terminal->drawn_ns = clock_now(&clock_host);
	terminal->pressed = false;
}

/* Asked for, because the signal that tells of it may go to another thread. */
static void follow_size(struct terminal *terminal)
{
	struct winsize size;
	struct terminal_grid *grid;
	int rows, columns;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_row || !size.ws_col)
		return;
	rows = MIN(size.ws_row, GRID_ROWS_MAX);
	columns = MIN(size.ws_col, GRID_COLUMNS_MAX);
	if (rows == terminal->grid->rows && columns == terminal->grid->columns)
		return;
	grid = terminal_grid_new(rows, columns);
	if (!grid || resizeterm(rows, columns) == ERR) {
		terminal_grid_free(grid);
		return;
	}
	terminal_grid_free(terminal->grid);
	terminal->grid = grid;
	clear();
	terminal->pressed = true;
}

static int press_of(int key)
{
	static const struct {
		int key, press;
	} presses[] = {
		{ KEY_UP, PRESS_UP },
		{ KEY_DOWN, PRESS_DOWN },
		{ KEY_LEFT, PRESS_LEFT },
		{ KEY_RIGHT, PRESS_RIGHT },
		{ KEY_PPAGE, PRESS_PAGE_UP },
		{ KEY_NPAGE, PRESS_PAGE_DOWN },
		{ KEY_HOME, PRESS_HOME },
		{ KEY_END, PRESS_END },
		{ KEY_ENTER, PRESS_ENTER },
		{ '\r', PRESS_ENTER },
		{ '\n', PRESS_ENTER },
		{ KEY_BACKSPACE, PRESS_BACKSPACE },
		{ 127, PRESS_BACKSPACE },
		{ '\b', PRESS_BACKSPACE },
		{ KEY_DC, PRESS_DELETE },
		{ 27, PRESS_ESCAPE },
		{ '\t', PRESS_TAB },
		{ KEY_BTAB, PRESS_BACK_TAB },
		{ 'U' - '@', PRESS_CLEAR_LINE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(presses); i++)
		if (presses[i].key == key)
			return presses[i].press;
	return key >= ' ' && key <= '~' ? key : -1;
}

static void take_keys(struct terminal *terminal)
{
	int key;

	while (!terminal->ui->leave && (key = getch()) != ERR) {
		int press = press_of(key);

		if (key == 'L' - '@')
			clearok(stdscr, TRUE);
		if (press >= 0)
			terminal_ui_press(terminal->ui, press);
		terminal->pressed = true;
	}
}

/* 1: there may be more; 0: none now; negative: nothing more comes. */
static int take_records(struct terminal *terminal)
{
	uint64_t end = clock_now(&clock_host) + BATCH_NS;
	struct watch_record record;
	uint32_t ring;
	int r = 1;

	while (r > 0 && clock_now(&clock_host) < end) {
		for (int i = 0; i < BATCH_STEP && r > 0; i++) {
			r = view_next_any(terminal->view, &record, &ring);
			if (r > 0)
				terminal_ui_add(terminal->ui, &record, ring);
		}
	}
	return r;
}

static void hear(struct terminal *terminal, uint64_t now)
{
	if (now - terminal->heard_ns < HEAR_NS || terminal->view->origin != VIEW_LIVE)
		return;
	terminal->heard_ns = now;
	view_hear(terminal->view, 0);
}

static void tick(struct terminal *terminal, uint64_t now)
{
	uint64_t ns = now - terminal->ticked_ns;

	if (ns < TICK_NS)
		return;
	terminal->ticked_ns = now;
	terminal_model_tick(terminal->ui->model, ns);
}

static void picture(struct terminal *terminal, uint64_t now)
{
	uint64_t since = now - terminal->drawn_ns;

	tick(terminal, now);
	if (since >= terminal->ui->refresh_ms * NSEC_PER_MSEC) {
		terminal->ui->expelled = source_was_expelled(terminal->view->source);
		terminal_ui_refresh(terminal->ui);
		draw(terminal);
	} else if (terminal->pressed && since >= KEY_NS) {
		draw(terminal);
	}
}

/* Until the next picture, or as long as nothing is expected from the source. */
static int wait_ms(struct terminal *terminal, int more)
{
	uint64_t due = terminal->ui->refresh_ms * NSEC_PER_MSEC, passed;

	if (more > 0)
		return 0;
	if (terminal->pressed)
		due = KEY_NS;
	else if (terminal->over)
		return WAIT_MS;
	passed = clock_now(&clock_host) - terminal->drawn_ns;
	due = passed < due ? (due - passed) / NSEC_PER_MSEC + 1 : 0;
	due = MIN(due, WAIT_MS);
	return terminal->over ? (int)due : (int)MIN(due, view_pause_ms(terminal->view));
}

static void wait_for_keys(struct terminal *terminal, int timeout_ms)
{
	struct pollfd fd = { STDIN_FILENO, POLLIN, 0 };

	if (poll(&fd, 1, timeout_ms) <= 0)
		return;
	if (fd.revents & POLLIN)
		take_keys(terminal);
	else
		terminal->ui->leave = true; /* the terminal is gone */
}

static bool stopped(const struct terminal *terminal)
{
	return terminal->ui->leave || view_stopped(terminal->view);
}

/* What is shown last is all there is. */
static void end_records(struct terminal *terminal, int r)
{
	terminal->over = true;
	if (r != -ENODATA)
		terminal->ui->error = r;
	if (terminal->view->end == VIEW_END_STOPPED)
		terminal->ui->leave = true;
	terminal_ui_refresh(terminal->ui);
	terminal->pressed = true;
}

/* A recording's numbers are about all of it, whatever the filter: it is read again. A live VM goes on. */
static void read_again(struct terminal *terminal)
{
	struct view_context *view = terminal->view;
	struct error err = { 0 };
	int r;

	terminal->ui->again = false;
	if (!view->read_again)
		return;
	r = view->read_again(view, &err);
	terminal->over = r < 0;
	terminal->ui->error = r;
	if (r == 0)
		terminal_ui_begin_again(terminal->ui);
}

static void loop(struct terminal *terminal)
{
	int more = 1;

	terminal->ticked_ns = clock_now(&clock_host);
	while (!stopped(terminal)) {
		follow_size(terminal);
		if (!terminal->over)
			more = take_records(terminal);
		if (more < 0 && !terminal->over)
			end_records(terminal, more);
		hear(terminal, clock_now(&clock_host));
		picture(terminal, clock_now(&clock_host));
		wait_for_keys(terminal, wait_ms(terminal, more));
		if (terminal->ui->again)
			read_again(terminal);
	}
}

static int run(struct terminal *terminal, struct error *err)
{
	int r;

	terminal->ui = terminal_ui_new(terminal->view);
	if (!terminal->ui)
		return error_set(err, -ENOMEM, EXIT_STATUS_FAILED, "watch: out of memory");
	r = begin_screen(terminal);
	if (r == 0)
		loop(terminal);
	end_screen(&terminal->screen);
	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED,
				 "watch: the terminal could not be set up: %s; give --follow",
				 strerror(-r))
		     : 0;
}

int terminal_view_run(struct view_context *view, struct error *err)
{
	struct terminal terminal = { .view = view };
	int r = terminal_check(err);

	if (r < 0)
		return r;
	r = run(&terminal, err);
	terminal_grid_free(terminal.grid);
	terminal_ui_free(terminal.ui);
	return r;
}
