/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Files of named things: {"disks": {"data": {...}, "logs": {...}}, "moves": {...}}. What each thing holds is decoded by
 * its schema; here are the outer two levels. Untrusted. Any thread.
 */

#include "api/schema.h"

struct named_group {
	const char *key; /* "disks" */
	/* Takes one thing; adds problems to the source's list. Its result is an error only for too many of them. */
	int (*take)(void *ctx, const char *name, const json_t *json,
		    const struct schema_source *source);
	void *ctx;
	/* In place of `take`: it is one thing without names, `ctx` its struct. */
	const struct schema *schema;
	/* Beside `schema`: this word may stand there instead, and sets *is_word. NULL: none may. */
	const char *word;
	bool *is_word;
};

/* All keys of the text are groups; each may be left out. 0, or -EINVAL with the first problem in `err`. */
_must_check_ int named_decode(const char *text, size_t len, const char *file,
			      const struct named_group *groups, size_t n_groups, struct error *err);
