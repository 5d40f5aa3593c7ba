/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * JSON of records: one form for --json, the page and the export, whose keys docs/watching.md promises. Written without an
 * allocation, as there may be a hundred thousand a second.
 */

#include "view/view.h"

#define VIEW_JSON_MAX 4096 /* bytes of one record's object at most, with its NUL */

enum view_json_parts {
	VIEW_JSON_REGISTERS = 1 << 0,
	VIEW_JSON_FRAME = 1 << 1, /* a frame's first bytes */
	VIEW_JSON_ALL = VIEW_JSON_REGISTERS | VIEW_JSON_FRAME,
};

/* The record's object on one line without its end, always whole. Its length. Any thread while the source is not used by
 * another. */
size_t view_json_record(const struct view_context *view, const struct watch_record *record,
			uint32_t ring, unsigned int parts, char ret_text[VIEW_JSON_MAX]);

/* {"watch": {...}}: VM, mode, what is not seen, filter; the first line of --json. At most `size` bytes; its length, 0 when
 * it does not fit. */
size_t view_json_about(const struct view_context *view, char *ret_text, size_t size);
/* {"lost": {...}}: what was lost since the source had lost `since`, and in all. */
size_t view_json_lost(const struct view_context *view, uint64_t since, char *ret_text, size_t size);
/* {"end": {...}}: why, and how many records were given and lost; the last line. */
size_t view_json_end(const struct view_context *view, char *ret_text, size_t size);
/* A text of others as a JSON string with its quotes; its length, 0 (and "") when it does not fit. */
size_t view_json_string(const char *text, char *ret_text, size_t size);
