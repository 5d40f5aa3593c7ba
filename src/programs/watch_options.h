/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What `utsusu watch` can be asked: one table, for `utsusu` (help, manual, completion, refusing what is wrong) and for
 * utsusu-watch, which does it. Both decode the same words.
 */

#include "api/schema.h"
#include "base/limits.h"

enum watch_export { WATCH_PERFETTO, WATCH_CTF, WATCH_PCAPNG, WATCH_JSON };

struct watch_options {
	uint64_t given; /* a bit for each row of watch_schema */
	char name[LIMIT_NAME];
	bool follow, json, report, web;	    /* views */
	bool all, exact, lossless, history; /* how a VM is watched */
	bool post_mortem, registers;
	char *filter, *symbols, *from, *record, *output;
	enum watch_export format; /* --export */
	uint64_t rotate, for_ms, window_ms;
	uint32_t files, count, port;
	char *stop, *set; /* --break, --set */
	bool drop, fail, dump;
	uint64_t delay_ms;
};

extern const struct schema watch_schema; /* over struct watch_options */

/* Whether the command line has the option. */
bool watch_given(const struct watch_options *options, const char *key);

/* Adds what does not go together, by names, after args_decode. The number of problems. */
size_t watch_check(const struct watch_options *options, struct problems *problems);
