/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the page shows, on the server's side: the history of the source's records and how to look at it. Both are used by
 * the one thread that also serves: nothing here takes longer than some tens of milliseconds.
 */

#include "view/view.h"
#include "view/web/lens.h"
#include "view/web/sites.h"

#define WEB_HISTORY_BYTES MIB(512) /* of records that the page can look back at */

struct web_model {
	struct view_context *view; /* borrowed */
	struct history *history;
	struct sites *sites;
	struct lenses *lenses;
	uint64_t origin_ns;  /* since 1970: the first record; 0: none yet */
	uint64_t last_ns;    /* since the origin: the end of the latest record */
	bool over;	     /* no more records will come */
	const char *trouble; /* why, when that is an error; NULL: none */
	uint64_t version;    /* changes with everything that the page shows */
};

/* NULL when out of memory. */
struct web_model *web_model_new(struct view_context *view, size_t history_bytes);
void web_model_free(struct web_model *model);

/* Takes what the source has, at most `max` records: how many, 0 also once it is over. Negative errno: the source cannot
 * be read any more, or out of memory; what there is stays. */
_must_check_ int web_model_take(struct web_model *model, unsigned int max);
