/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The schema's single values, shared by its text and JSON decoders. Not for others. */

#include "api/schema.h"

#define SCHEMA_PREFIX_MAX 192

/* Where the decoder stands: `prefix` and a key make the name in a message ("--cpus max"). */
struct schema_place {
	const struct schema_source *source;
	char prefix[SCHEMA_PREFIX_MAX];
};

/* "--" or "FILE: ". */
void schema_place_top(struct schema_place *place, const struct schema_source *source);
/* Inside a group's `key`; `index` is the list's entry or -1. */
void schema_place_inside(struct schema_place *ret_place, const struct schema_place *outer,
			 const char *key, int index);

/* Adds one problem "PREFIX KEY: ..." and returns 1. An empty key means the object itself. */
size_t schema_problem(const struct schema_place *place, const char *key, const char *format, ...)
	_printf_(3, 4);
/* "unknown key" with the nearest name, or with all names when none is near. */
size_t schema_unknown(const struct schema_place *place, const struct schema *schema,
		      const char *key);
/* Judges what `given` (a bit per row) lacks: required rows, and the one choice. */
size_t schema_check_given(const struct schema_place *place, const struct schema *schema,
			  uint64_t given);

/* The row's field, and notes the choice when the row is one. */
void *schema_slot(const struct schema_row *row, void *object);
void schema_choose(const struct schema *schema, const struct schema_row *row, void *object);
/* True when the row is no choice, or the one chosen. */
bool schema_chosen(const struct schema *schema, const struct schema_row *row, const void *object);

/* The row that a group's bare value means; NULL: none. */
const struct schema_row *schema_first(const struct schema *schema);

/* Stores a single value from text; the number of problems (0 or 1). */
size_t schema_set_text(const struct schema_row *row, void *object, const char *text,
		       const struct schema_place *place);

/* Frees what a list's entry holds and sets the count to zero. */
void schema_clear_list(const struct schema_row *row, void *object);
/* The next entry, initialised, not counted yet; NULL when the list is full. */
void *schema_next_entry(const struct schema_row *row, void *object);
uint32_t *schema_list_count(const struct schema_row *row, void *object);
