/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "view/terminal/ui.h"

/* The numbers begin anew with what the new filter lets through. */
static void in_force(struct terminal_ui *ui, struct filter *filter)
{
	struct terminal_filter *edit = &ui->filter;
	struct filter *before = edit->filter;

	edit->filter = filter;
	memcpy(edit->in_force, edit->text, sizeof(edit->in_force));
	terminal_model_set_filter(ui->model, filter);
	filter_free(before);
	ui->again = true;
}

static int apply(struct terminal_ui *ui)
{
	struct terminal_filter *edit = &ui->filter;
	struct filter *filter = NULL;
	unsigned int column = 0;
	int r;

	memset(&edit->error, 0, sizeof(edit->error));
	r = filter_compile(edit->text, &filter, &column, &edit->error);
	edit->column = r == 0 ? 0 : MAX(column, 1U);
	if (r == 0 && strcmp(edit->text, edit->in_force) != 0)
		in_force(ui, filter);
	else
		filter_free(filter);
	return r;
}

int terminal_filter_set(struct terminal_ui *ui, const char *text)
{
	struct terminal_filter *edit = &ui->filter;

	edit->length = MIN(strlen(text), sizeof(edit->text) - 1);
	memset(edit->text, 0, sizeof(edit->text));
	memcpy(edit->text, text, edit->length);
	edit->cursor = edit->length;
	return apply(ui);
}

void terminal_filter_open(struct terminal_ui *ui)
{
	struct terminal_filter *edit = &ui->filter;

	edit->open = true;
	memcpy(edit->before, edit->in_force, sizeof(edit->before));
	edit->cursor = edit->length;
}

static void insert(struct terminal_filter *edit, char character)
{
	if (edit->length + 1 >= sizeof(edit->text))
		return;
	memmove(edit->text + edit->cursor + 1, edit->text + edit->cursor,
		edit->length - edit->cursor);
	edit->text[edit->cursor++] = character;
	edit->length++;
}

static void delete_at(struct terminal_filter *edit, size_t at)
{
	if (at >= edit->length)
		return;
	memmove(edit->text + at, edit->text + at + 1, edit->length - at);
	edit->length--;
	if (edit->cursor > at)
		edit->cursor--;
}

/* Whether the key was one that changes the text. */
static bool edit_text(struct terminal_filter *edit, int press)
{
	if (press == PRESS_BACKSPACE && edit->cursor > 0)
		delete_at(edit, edit->cursor - 1);
	else if (press == PRESS_DELETE)
		delete_at(edit, edit->cursor);
	else if (press == PRESS_CLEAR_LINE) {
		memset(edit->text, 0, sizeof(edit->text));
		edit->length = edit->cursor = 0;
	} else if (press >= ' ' && press <= '~')
		insert(edit, (char)press);
	else
		return false;
	return true;
}

static void move_cursor(struct terminal_filter *edit, int press)
{
	if (press == PRESS_LEFT && edit->cursor > 0)
		edit->cursor--;
	else if (press == PRESS_RIGHT && edit->cursor < edit->length)
		edit->cursor++;
	else if (press == PRESS_HOME)
		edit->cursor = 0;
	else if (press == PRESS_END)
		edit->cursor = edit->length;
}

/* What is in force and what is written are the same again. */
static void close_with(struct terminal_ui *ui, const char *text)
{
	char copy[FILTER_TEXT_MAX];

	memcpy(copy, text, sizeof(copy));
	ui->filter.open = false;
	if (terminal_filter_set(ui, copy) < 0)
		snprintf(ui->message, sizeof(ui->message), "the filter could not be put in force");
}

void terminal_filter_press(struct terminal_ui *ui, int press)
{
	struct terminal_filter *edit = &ui->filter;

	if (press == PRESS_ESCAPE)
		close_with(ui, edit->before);
	else if (press == PRESS_ENTER && edit->column)
		return; /* the error stays in sight; Esc leaves */
	else if (press == PRESS_ENTER)
		edit->open = false;
	else if (edit_text(edit, press))
		(void)apply(ui);
	else
		move_cursor(edit, press);
}
