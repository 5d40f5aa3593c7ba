/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A screen in memory: cells with a printable ASCII character and a look. The terminal view draws into one, and what
 * reaches the terminal is copied from it; so no text of others can send the terminal a control character.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/macros.h"

#define GRID_ROWS_MAX 500
#define GRID_COLUMNS_MAX 500

enum terminal_look {
	LOOK_PLAIN,
	LOOK_DIM,
	LOOK_TITLE,
	LOOK_TAB, /* the one that is shown */
	LOOK_HEAD,
	LOOK_SORTED, /* the head of the column that rows are sorted by */
	LOOK_SELECTED,
	LOOK_GOOD,
	LOOK_WARNING,
	LOOK_BAD,
	LOOK_N,
};

struct terminal_cell {
	char character;
	uint8_t look;
};

struct terminal_grid {
	int rows, columns;
	int cursor_row, cursor_column; /* -1: no cursor */
	struct terminal_cell *cells;   /* rows x columns */
};

/* Sizes outside 1..GRID_*_MAX are brought into them. NULL when out of memory. */
struct terminal_grid *terminal_grid_new(int rows, int columns);
void terminal_grid_free(struct terminal_grid *grid);
void terminal_grid_clear(struct terminal_grid *grid);

/* Writes `text` into `width` cells from (row, column), and blanks the rest of them; a negative width: as wide as the text.
 * What lies outside the grid is left out, characters that are not printable become '?'. The column behind. */
int terminal_grid_put(struct terminal_grid *grid, int row, int column, int width,
		      enum terminal_look look, const char *text);
/* The same, flush right; what does not fit shows as '#'. */
int terminal_grid_put_right(struct terminal_grid *grid, int row, int column, int width,
			    enum terminal_look look, const char *text);
int terminal_grid_print(struct terminal_grid *grid, int row, int column, enum terminal_look look,
			const char *format, ...) _printf_(5, 6);
/* The look of a whole row. */
void terminal_grid_paint(struct terminal_grid *grid, int row, enum terminal_look look);
/* A row as a string without its trailing blanks, for tests. `ret_text` holds GRID_COLUMNS_MAX + 1. */
void terminal_grid_text(const struct terminal_grid *grid, int row, char *ret_text);
