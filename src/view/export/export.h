/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * `utsusu watch NAME --export FORMAT --output PATH`: requests for other tools. Each format is one file here and one row in
 * export.c's table. Formats are written as records come; what is kept in memory does not grow with their number.
 */

#include "view/export/stream.h"
#include "view/view.h"

/* One format. `state` is the format's own; calls come from one thread, in this order: open, any, close. */
struct export_format {
	/* Makes what `view->options.output` names; fills `err` on failure. */
	int (*open)(struct view_context *view, void **ret_state, struct error *err);
	/* 1: written; 0: this format has no place for it; negative errno. */
	int (*record)(void *state, const struct watch_record *record, uint32_t ring);
	/* So many records are missing before the next one. NULL: the format cannot say it. */
	int (*lost)(void *state, uint64_t records);
	int (*flush)(void *state);
	/* Writes the rest and frees, whatever happened before: the first failure. */
	int (*close)(void *state);
};

extern const struct export_format export_perfetto, export_ctf, export_pcapng, export_json;
