/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the page asks for, apart from its files. HTTP is not known here: a path, arguments, and an answer.
 *
 *   /data/about                              what does not change: VM, the filter's words
 *   /data/state                              what there is by now, the mode, what is not seen
 *   /data/view?from&to&columns&filter        a picture's numbers (view/web/tile.h), in binary:
 *                                              | bytes of JSON, u32 | JSON | u32 ... | u8 ... |, little-endian
 *   /data/rows?from&to&filter&cursor&older   lines of the table
 *   /data/record?id                          all about one
 *
 * Times are ns since the history's first record. What cannot be answered is {"error": "...", "column": n}: the column
 * is of the filter, 0 when it is not about one. Whoever has come this far has shown the session's secrets; the arguments are
 * untrusted all the same.
 */

#include "view/web/model.h"

#define WEB_COLUMNS_MAX TILE_COLUMNS
#define WEB_ROWS_MAX 500		   /* lines of the table in one answer */
#define WEB_ANSWER_NS (20 * NSEC_PER_MSEC) /* spent on a filter at most; then the page asks again */

struct web_request {
	const char *path;
	/* An argument's text, NULL when it was not given. */
	const char *(*argument)(void *ctx, const char *name);
	void *ctx;
};

struct web_response {
	unsigned int status; /* of HTTP */
	const char *type;    /* of its content */
	char *body;	     /* owned: free() */
	size_t n_bytes;
};

/* Always an answer; a NULL body when out of memory. */
void web_answer(struct web_model *model, const struct web_request *request,
		struct web_response *ret_response);
