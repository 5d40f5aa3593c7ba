/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the terminal view shows and where one is in it; keys change it, screen.h draws it. Knows of no
 * terminal: tests press keys and read the grid.
 *
 *   tab (devices, addresses, instructions, vCPUs, requests)
 *     -> a device's instructions -> an instruction's requests -> a request
 *     -> an address's or a vCPU's requests -> a request
 */

#include "view/terminal/model.h"
#include "view/view.h"

enum terminal_press { /* a key: this, or a printable ASCII character */
		      PRESS_UP = 256,
		      PRESS_DOWN,
		      PRESS_LEFT,
		      PRESS_RIGHT,
		      PRESS_PAGE_UP,
		      PRESS_PAGE_DOWN,
		      PRESS_HOME,
		      PRESS_END,
		      PRESS_ENTER,
		      PRESS_BACKSPACE,
		      PRESS_DELETE,
		      PRESS_ESCAPE,
		      PRESS_TAB,
		      PRESS_BACK_TAB,
		      PRESS_CLEAR_LINE, /* Ctrl-U */
};

enum terminal_request_column {
	REQUEST_TIME,
	REQUEST_THREAD,
	REQUEST_DEVICE,
	REQUEST_OPERATION,
	REQUEST_ADDRESS,
	REQUEST_DATA,
	REQUEST_LATENCY,
	REQUEST_COLUMNS,
};

enum terminal_place_kind {
	PLACE_TABLE,
	PLACE_SITES, /* the instructions of one device */
	PLACE_REQUESTS,
	PLACE_DETAILS,
};

struct terminal_place {
	enum terminal_place_kind kind;
	struct terminal_scope scope; /* the table; or the row whose sites or requests these are */
	unsigned int sort;	     /* enum terminal_column, or terminal_request_column */
	bool reverse;
	bool sticks; /* the selection stays on its row, not on its line */
	struct terminal_key key;
	uint64_t number;
	int selected, top; /* lines */
};

#define TERMINAL_DEPTH 4

/* The filter as it is typed. */
struct terminal_filter {
	bool open;
	char text[FILTER_TEXT_MAX];
	size_t length, cursor;
	char before[FILTER_TEXT_MAX];	/* Esc brings it back */
	char in_force[FILTER_TEXT_MAX]; /* the last one without an error */
	struct filter *filter;		/* compiled from it; NULL: all */
	unsigned int column;		/* of the error, from 1; 0: none */
	struct error error;
};

struct terminal_ui {
	struct view_context *view; /* borrowed */
	struct terminal_model *model;
	struct terminal_place tabs[TAB_N], deeper[TERMINAL_DEPTH];
	enum terminal_tab tab;
	unsigned int depth;
	struct terminal_filter filter;
	bool help, paused, leave;
	int help_top;
	uint64_t refresh_ms;
	char message[160]; /* until the next key */
	bool again; /* the filter has changed, or the numbers began anew: a recording is to be read again */
	int error;     /* of view_next: nothing more comes */
	bool expelled; /* the VM no longer waits for this view */

	/* The picture: as of the last refresh. */
	struct terminal_line *lines[TAB_TABLES];
	uint32_t n_lines[TAB_TABLES];
	struct terminal_totals totals;
	uint64_t span_ns, lost;

	/* What the current place shows of it: as of terminal_ui_arrange. */
	int height;			  /* lines that there is room for */
	struct terminal_line *shown;	  /* of a table: all lines, in order */
	struct terminal_request *visible; /* of a list: those on the screen */
	uint32_t *order;
	int n_shown, n_visible;
	struct terminal_request details;
};

/* NULL when out of memory, or when the context's filter does not compile. */
struct terminal_ui *terminal_ui_new(struct view_context *view);
void terminal_ui_free(struct terminal_ui *ui);

/* A record, counted. */
void terminal_ui_add(struct terminal_ui *ui, const struct watch_record *record, uint32_t ring);
/* All records will come again, from the first: forgets them, and ends a pause. */
void terminal_ui_begin_again(struct terminal_ui *ui);
/* The picture becomes that of now, unless it is paused. */
void terminal_ui_refresh(struct terminal_ui *ui);
/* Puts what is shown in order for `height` lines. Before drawing. */
void terminal_ui_arrange(struct terminal_ui *ui, int height);
/* A key; sets `leave` on q. */
void terminal_ui_press(struct terminal_ui *ui, int press);

struct terminal_place *terminal_ui_place(struct terminal_ui *ui);
/* The filter's own keys; filter.c. `open` has been seen to. */
void terminal_filter_open(struct terminal_ui *ui);
void terminal_filter_press(struct terminal_ui *ui, int press);
/* Begins a filter for the selected row, which narrows the one in force; narrow.c. */
void terminal_narrow(struct terminal_ui *ui);
/* 0 or -EINVAL, -ENOMEM: then the last good one stays in force. */
int terminal_filter_set(struct terminal_ui *ui, const char *text);
