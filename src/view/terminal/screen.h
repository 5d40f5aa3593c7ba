/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Draws the terminal view's state. Never fails: what does not fit is left out. */

#include "view/terminal/grid.h"
#include "view/terminal/ui.h"

/* Arranges what is shown for the grid's size, and draws all of it. */
void terminal_draw(struct terminal_ui *ui, struct terminal_grid *grid);

/* Parts of it, each in its own file: rows `first` to `first + ui->height - 1`. */
void terminal_draw_table(struct terminal_ui *ui, struct terminal_grid *grid, int first);
void terminal_draw_requests(struct terminal_ui *ui, struct terminal_grid *grid, int first);
void terminal_draw_details(struct terminal_ui *ui, struct terminal_grid *grid, int first);
void terminal_draw_help(struct terminal_ui *ui, struct terminal_grid *grid, int first);

/* What a row of a table is called. `tab` says which table. */
void terminal_format_key(const struct terminal_ui *ui, enum terminal_tab tab,
			 const struct terminal_key *key, bool wide, char *ret_text, size_t size);
/* A number in at most 7 characters: "1234567", "12346 k". */
void terminal_format_count(uint64_t count, char *ret_text, size_t size);
/* The column that rows are sorted by, for people. */
const char *terminal_sort_name(const struct terminal_place *place);
