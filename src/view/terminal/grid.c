/* SPDX-License-Identifier: Apache-2.0 */
#include "view/terminal/grid.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct terminal_grid *terminal_grid_new(int rows, int columns)
{
	struct terminal_grid *grid = calloc(1, sizeof(*grid));

	if (!grid)
		return NULL;
	grid->rows = MIN(MAX(rows, 1), GRID_ROWS_MAX);
	grid->columns = MIN(MAX(columns, 1), GRID_COLUMNS_MAX);
	grid->cells = calloc((size_t)grid->rows * grid->columns, sizeof(*grid->cells));
	if (!grid->cells) {
		terminal_grid_free(grid);
		return NULL;
	}
	terminal_grid_clear(grid);
	return grid;
}

void terminal_grid_free(struct terminal_grid *grid)
{
	if (!grid)
		return;
	free(grid->cells);
	free(grid);
}

void terminal_grid_clear(struct terminal_grid *grid)
{
	for (int i = 0; i < grid->rows * grid->columns; i++)
		grid->cells[i] = (struct terminal_cell){ ' ', LOOK_PLAIN };
	grid->cursor_row = -1;
	grid->cursor_column = -1;
}

static void cell_set(struct terminal_grid *grid, int row, int column, enum terminal_look look,
		     char character)
{
	bool printable = character >= ' ' && character <= '~';

	if (row < 0 || row >= grid->rows || column < 0 || column >= grid->columns)
		return;
	grid->cells[row * grid->columns + column] =
		(struct terminal_cell){ printable ? character : '?', look };
}

int terminal_grid_put(struct terminal_grid *grid, int row, int column, int width,
		      enum terminal_look look, const char *text)
{
	int length = (int)strnlen(text, GRID_COLUMNS_MAX);

	if (width < 0)
		width = length;
	for (int i = 0; i < width; i++)
		cell_set(grid, row, column + i, look, i < length ? text[i] : ' ');
	return column + width;
}

int terminal_grid_put_right(struct terminal_grid *grid, int row, int column, int width,
			    enum terminal_look look, const char *text)
{
	int blank = width - (int)strnlen(text, GRID_COLUMNS_MAX);

	for (int i = 0; i < width; i++)
		cell_set(grid, row, column + i, look,
			 blank < 0    ? '#'
			 : i >= blank ? text[i - blank]
				      : ' ');
	return column + width;
}

int terminal_grid_print(struct terminal_grid *grid, int row, int column, enum terminal_look look,
			const char *format, ...)
{
	char text[GRID_COLUMNS_MAX + 1];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return terminal_grid_put(grid, row, column, -1, look, text);
}

void terminal_grid_paint(struct terminal_grid *grid, int row, enum terminal_look look)
{
	if (row < 0 || row >= grid->rows)
		return;
	for (int i = 0; i < grid->columns; i++)
		grid->cells[row * grid->columns + i].look = look;
}

void terminal_grid_text(const struct terminal_grid *grid, int row, char *ret_text)
{
	int end = 0;

	for (int i = 0; i < grid->columns; i++) {
		ret_text[i] = grid->cells[row * grid->columns + i].character;
		if (ret_text[i] != ' ')
			end = i + 1;
	}
	ret_text[end] = '\0';
}
