/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/schema.h"
#include "api/schema_scalar.h"
#include "base/cleanup.h"

/* Cuts the next part off `*text` in place at a single comma; doubled commas become one. NULL at the
 * end. */
static char *next_part(char **text)
{
	char *start = *text, *from = start, *to = start;

	if (!start)
		return NULL;
	for (; *from; from++) {
		if (*from == ',' && from[1] != ',')
			break;
		if (*from == ',')
			from++;
		*to++ = *from;
	}
	*text = *from ? from + 1 : NULL;
	*to = '\0';
	return start;
}

/* The state of one "first,key=value,flag". */
struct group_text {
	const struct schema *schema;
	void *object;
	struct schema_place place;
	uint64_t given; /* a bit per row */
	bool unknown;	/* there was an unknown key: it may stand for what seems missing */
};

static size_t set_part(struct group_text *group, const struct schema_row *row, const char *value)
{
	uint64_t bit = 1ULL << (row - group->schema->rows);
	size_t problems;

	if (group->given & bit)
		return schema_problem(&group->place, row->key, "is given twice; keep one");
	problems = schema_set_text(row, group->object, value, &group->place);
	/* A choice that is off chooses nothing. */
	if ((row->flags & SCHEMA_CHOICE) && row->type == SCHEMA_BOOL && strcmp(value, "off") == 0)
		return problems;
	group->given |= bit;
	schema_choose(group->schema, row, group->object);
	return problems;
}

static size_t unknown_part(struct group_text *group, const char *key)
{
	group->unknown = true;
	return schema_unknown(&group->place, group->schema, key);
}

/* A part without "=": the first value, or a switch turned on. */
static size_t set_bare(struct group_text *group, const char *text, bool first)
{
	const struct schema_row *row = schema_find(group->schema, text);
	const struct schema_row *bare = first ? schema_first(group->schema) : NULL;

	if (row && row->type == SCHEMA_BOOL)
		return set_part(group, row, "on");
	if (bare)
		return set_part(group, bare, text);
	if (!row)
		return unknown_part(group, text);
	group->given |= 1ULL << (row - group->schema->rows);
	return schema_problem(&group->place, row->key, "has no value; give %s=%s", row->key,
			      row->value);
}

static size_t decode_part(struct group_text *group, char *part, bool first)
{
	char *value = strchr(part, '=');
	const struct schema_row *row;

	if (!value)
		return set_bare(group, part, first);
	*value++ = '\0';
	row = schema_find(group->schema, part);
	if (!row)
		return unknown_part(group, part);
	return set_part(group, row, value);
}

static size_t decode_group(struct group_text *group, const char *text, const char *key)
{
	_cleanup_(freep) char *copy = strdup(text);
	char *rest = copy, *part;
	size_t problems = 0;
	bool first = true;

	if (!copy)
		return schema_problem(&group->place, "", "out of memory; free some and try again");
	if (!*text)
		return schema_problem(&group->place, "", "is empty; see --help for what --%s takes",
				      key);
	while ((part = next_part(&rest))) {
		problems += decode_part(group, part, first);
		first = false;
	}
	return problems;
}

static size_t decode_entry(const struct schema_row *row, void *object, const char *text, bool clear,
			   const struct schema_place *place)
{
	struct group_text group = { .schema = row->group };
	size_t problems;

	if (clear)
		schema_clear_list(row, object);
	group.object = schema_next_entry(row, object);
	if (!group.object)
		return schema_problem(place, row->key, "is given too often; at most %u fit",
				      (unsigned int)row->max);
	*schema_list_count(row, object) += 1;
	schema_place_inside(&group.place, place, row->key, -1);
	problems = decode_group(&group, text, row->key);
	if (*text && !group.unknown)
		problems += schema_check_given(&group.place, row->group, group.given);
	return problems;
}

size_t schema_decode_text(const struct schema_row *row, void *object, const char *text, bool clear,
			  const struct schema_source *source)
{
	struct group_text group = { .schema = row->group };
	struct schema_place place;

	schema_place_top(&place, source);
	if (row->type == SCHEMA_LIST)
		return decode_entry(row, object, text, clear, &place);
	if (row->type != SCHEMA_GROUP)
		return schema_set_text(row, object, text, &place);
	group.object = schema_slot(row, object);
	schema_place_inside(&group.place, &place, row->key, -1);
	return decode_group(&group, text, row->key);
}

static void usage_part(const struct schema_row *row, char *ret_text, size_t size)
{
	size_t used = 0;

	if (row->type == SCHEMA_BOOL) {
		snprintf(ret_text, size, "%s", row->flags & SCHEMA_CHOICE ? row->key : "on|off");
		return;
	}
	if (row->type != SCHEMA_ENUM) {
		snprintf(ret_text, size, "%s", row->value);
		return;
	}
	for (size_t i = 0; row->names[i] && used < size; i++)
		used += (size_t)snprintf(ret_text + used, size - used, "%s%s", i ? "|" : "",
					 row->names[i]);
}

/* One row of a group: "[,max=N]", "path=FILE", "tap=NAME|user|fd=N". */
static const char *usage_mark(const struct schema_row *row, bool after_choice)
{
	if (row->flags & SCHEMA_CHOICE)
		return after_choice ? "|" : "";
	return row->flags & (SCHEMA_FIRST | SCHEMA_REQUIRED) ? "" : "[,";
}

static void usage_group(const struct schema *schema, char *ret_text, size_t size)
{
	bool after_choice = false;
	size_t used = 0;

	for (size_t i = 0; i < schema->n_rows && used < size; i++) {
		const struct schema_row *row = &schema->rows[i];
		bool named = !(row->flags & SCHEMA_FIRST) &&
			     !(row->type == SCHEMA_BOOL && (row->flags & SCHEMA_CHOICE));
		const char *mark = usage_mark(row, after_choice);
		char value[96];

		usage_part(row, value, sizeof(value));
		used += (size_t)snprintf(ret_text + used, size - used, "%s%s%s%s%s", mark,
					 named ? row->key : "", named ? "=" : "", value,
					 mark[0] == '[' ? "]" : "");
		after_choice = row->flags & SCHEMA_CHOICE;
	}
}

void schema_usage(const struct schema_row *row, char *ret_text, size_t size)
{
	if (row->type == SCHEMA_GROUP || row->type == SCHEMA_LIST)
		usage_group(row->group, ret_text, size);
	else
		usage_part(row, ret_text, size);
}
