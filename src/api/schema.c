/* SPDX-License-Identifier: Apache-2.0 */
#include "api/schema.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/schema_scalar.h"
#include "base/macros.h"
#include "base/suggest.h"

void *schema_slot(const struct schema_row *row, void *object)
{
	return (char *)object + row->offset;
}

uint32_t *schema_list_count(const struct schema_row *row, void *object)
{
	return (uint32_t *)((char *)object + row->count_offset);
}

void schema_choose(const struct schema *schema, const struct schema_row *row, void *object)
{
	if (row->flags & SCHEMA_CHOICE)
		memcpy((char *)object + schema->choice_offset, &row->choice, sizeof(row->choice));
}

bool schema_chosen(const struct schema *schema, const struct schema_row *row, const void *object)
{
	int chosen;

	if (!(row->flags & SCHEMA_CHOICE))
		return true;
	memcpy(&chosen, (const char *)object + schema->choice_offset, sizeof(chosen));
	return chosen == row->choice;
}

const struct schema_row *schema_find(const struct schema *schema, const char *key)
{
	for (size_t i = 0; i < schema->n_rows; i++)
		if (strcmp(schema->rows[i].key, key) == 0)
			return &schema->rows[i];
	return NULL;
}

const struct schema_row *schema_first(const struct schema *schema)
{
	for (size_t i = 0; i < schema->n_rows; i++)
		if (schema->rows[i].flags & SCHEMA_FIRST)
			return &schema->rows[i];
	return NULL;
}

void schema_init(const struct schema *schema, void *object)
{
	struct problems problems = { 0 };
	struct schema_source source = { .file = "default", .problems = &problems };
	struct schema_place place;

	memset(object, 0, schema->size);
	schema_place_top(&place, &source);
	for (size_t i = 0; i < schema->n_rows; i++) {
		const struct schema_row *row = &schema->rows[i];

		if (row->type == SCHEMA_GROUP)
			schema_init(row->group, schema_slot(row, object));
		else if (row->fallback)
			schema_set_text(row, object, row->fallback, &place);
	}
	assert(problems.count == 0);
}

void schema_release(const struct schema *schema, void *object)
{
	for (size_t i = 0; i < schema->n_rows; i++) {
		const struct schema_row *row = &schema->rows[i];
		char **text = schema_slot(row, object);

		if (row->type == SCHEMA_GROUP)
			schema_release(row->group, text);
		if (row->type == SCHEMA_LIST)
			schema_clear_list(row, object);
		if (row->type != SCHEMA_STRING)
			continue;
		free(*text);
		*text = NULL;
	}
}

static void *list_entry(const struct schema_row *row, void *object, uint32_t index)
{
	return (char *)schema_slot(row, object) + index * row->group->size;
}

void schema_clear_list(const struct schema_row *row, void *object)
{
	uint32_t *count = schema_list_count(row, object);

	for (uint32_t i = 0; i < *count; i++)
		schema_release(row->group, list_entry(row, object, i));
	*count = 0;
}

void *schema_next_entry(const struct schema_row *row, void *object)
{
	uint32_t count = *schema_list_count(row, object);
	void *entry;

	if (count >= row->max)
		return NULL;
	entry = list_entry(row, object, count);
	schema_init(row->group, entry);
	return entry;
}

void schema_place_top(struct schema_place *place, const struct schema_source *source)
{
	place->source = source;
	if (source->file)
		snprintf(place->prefix, sizeof(place->prefix), "%s: ", source->file);
	else
		snprintf(place->prefix, sizeof(place->prefix), "--");
}

void schema_place_inside(struct schema_place *ret_place, const struct schema_place *outer,
			 const char *key, int index)
{
	/* File names come from a person and may be long: what does not fit is cut. */
	int room = SCHEMA_PREFIX_MAX - 40;

	ret_place->source = outer->source;
	if (!outer->source->file)
		snprintf(ret_place->prefix, SCHEMA_PREFIX_MAX, "%.*s%.24s ", room, outer->prefix,
			 key);
	else if (index < 0)
		snprintf(ret_place->prefix, SCHEMA_PREFIX_MAX, "%.*s%.24s.", room, outer->prefix,
			 key);
	else
		snprintf(ret_place->prefix, SCHEMA_PREFIX_MAX, "%.*s%.20s[%d].", room,
			 outer->prefix, key, index);
}

size_t schema_problem(const struct schema_place *place, const char *key, const char *format, ...)
{
	struct error err = { 0 };
	char text[ERROR_MESSAGE_MAX];
	int prefix = (int)strlen(place->prefix);
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	while (!*key && prefix > 0 && strchr(" .:", place->prefix[prefix - 1]))
		prefix--;
	error_set(&err, -EINVAL, EXIT_STATUS_USAGE, "%.*s%s: %s", prefix, place->prefix, key, text);
	problems_add(place->source->problems, &err);
	return 1;
}

/* "a, b and c" of the keys, as far as there is room. */
static void list_keys(const struct schema *schema, char *ret_text, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; i < schema->n_rows && used < size; i++) {
		const char *mark = i == 0 ? "" : i + 1 == schema->n_rows ? " and " : ", ";

		used += (size_t)snprintf(ret_text + used, size - used, "%s%s", mark,
					 schema->rows[i].key);
	}
}

size_t schema_unknown(const struct schema_place *place, const struct schema *schema,
		      const char *key)
{
	char keys[256] = "";
	struct suggest near;

	suggest_init(&near, key);
	for (size_t i = 0; i < schema->n_rows; i++)
		suggest_offer(&near, schema->rows[i].key);
	if (near.best)
		return schema_problem(place, "", "unknown key '%.40s'; did you mean '%s'?", key,
				      near.best);
	list_keys(schema, keys, sizeof(keys));
	return schema_problem(place, "", "unknown key '%.40s'; known are %s", key, keys);
}

/* The names of the rows with SCHEMA_CHOICE: "tap, user or fd". */
static unsigned int count_choices(const struct schema *schema, uint64_t given, char *ret_names,
				  size_t size)
{
	unsigned int count = 0;
	size_t used = 0;

	for (size_t i = 0; i < schema->n_rows && used < size; i++) {
		if (!(schema->rows[i].flags & SCHEMA_CHOICE))
			continue;
		count += (given >> i) & 1;
		used += (size_t)snprintf(ret_names + used, size - used, "%s%s", used ? ", " : "",
					 schema->rows[i].key);
	}
	return count;
}

size_t schema_check_given(const struct schema_place *place, const struct schema *schema,
			  uint64_t given)
{
	char names[128] = "";
	size_t problems = 0;

	for (size_t i = 0; i < schema->n_rows; i++)
		if ((schema->rows[i].flags & SCHEMA_REQUIRED) && !((given >> i) & 1))
			problems += schema_problem(place, schema->rows[i].key,
						   "is missing; give %s", schema->rows[i].help);
	switch (count_choices(schema, given, names, sizeof(names))) {
	case 0:
		if (names[0])
			problems += schema_problem(
				place, "", "does not say what to use; give one of %s", names);
		break;
	case 1:
		break;
	default:
		problems += schema_problem(place, "", "more than one is given; keep one of %s",
					   names);
	}
	return problems;
}
