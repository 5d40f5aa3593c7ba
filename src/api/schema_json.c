/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/schema.h"
#include "api/schema_scalar.h"
#include "base/cleanup.h"

static const char *json_kind(const json_t *json)
{
	switch (json_typeof(json)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "a list";
	case JSON_STRING:
		return "text in quotes";
	case JSON_INTEGER:
		return "a number";
	case JSON_REAL:
		return "a number with a fraction";
	case JSON_TRUE:
	case JSON_FALSE:
		return "true or false";
	case JSON_NULL:
		break;
	}
	return "null";
}

static size_t wrong_type(const struct schema_row *row, const json_t *json,
			 const struct schema_place *place)
{
	char takes[160];

	schema_describe(row, takes, sizeof(takes));
	if (row->type == SCHEMA_BOOL)
		snprintf(takes, sizeof(takes), "true or false");
	return schema_problem(place, row->key, "must not be %s; give %s", json_kind(json), takes);
}

/* Numbers are for the types that count; a duration's number is seconds, as in its text. */
static size_t set_json_number(const struct schema_row *row, void *object, const json_t *json,
			      const struct schema_place *place)
{
	json_int_t number = json_integer_value(json);
	char text[32];

	if (row->type != SCHEMA_UINT && row->type != SCHEMA_FD && row->type != SCHEMA_SIZE &&
	    row->type != SCHEMA_DURATION)
		return wrong_type(row, json, place);
	if (number < 0)
		return schema_problem(place, row->key, "is below zero; give zero or more");
	snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, number);
	return schema_set_text(row, object, text, place);
}

static size_t set_json_text(const struct schema_row *row, void *object, const json_t *json,
			    const struct schema_place *place)
{
	if (row->type == SCHEMA_BOOL || row->type == SCHEMA_UINT || row->type == SCHEMA_FD)
		return wrong_type(row, json, place);
	return schema_set_text(row, object, json_string_value(json), place);
}

static size_t set_json_scalar(const struct schema_row *row, void *object, const json_t *json,
			      const struct schema_place *place)
{
	if (json_is_string(json))
		return set_json_text(row, object, json, place);
	if (json_is_integer(json))
		return set_json_number(row, object, json, place);
	if (json_is_boolean(json) && row->type == SCHEMA_BOOL) {
		*(bool *)schema_slot(row, object) = json_is_true(json);
		return 0;
	}
	return wrong_type(row, json, place);
}

static size_t decode_object(const struct schema *schema, void *object, const json_t *json,
			    const struct schema_place *place, bool entry);

/* An entry of a list, or the short form of its first value: "endpoints": ["https://..."]. */
static size_t decode_entry(const struct schema_row *row, void *entry, const json_t *json,
			   const struct schema_place *place)
{
	const struct schema_row *first = schema_first(row->group);

	if (first && !json_is_object(json) && !json_is_array(json))
		return set_json_scalar(first, entry, json, place);
	return decode_object(row->group, entry, json, place, true);
}

static size_t decode_list(const struct schema_row *row, void *object, const json_t *json,
			  const struct schema_place *place)
{
	size_t problems = 0;

	if (!json_is_array(json))
		return wrong_type(row, json, place);
	if (json_array_size(json) > row->max)
		return schema_problem(place, row->key, "has %zu entries; give at most %" PRIu64,
				      json_array_size(json), row->max);
	schema_clear_list(row, object);
	for (size_t i = 0; i < json_array_size(json); i++) {
		void *entry = schema_next_entry(row, object);
		struct schema_place inside;

		schema_place_inside(&inside, place, row->key, (int)i);
		problems += decode_entry(row, entry, json_array_get(json, i), &inside);
		*schema_list_count(row, object) += 1;
	}
	return problems;
}

/* A group, or the short form of its first value: "cpus": 4. */
static size_t decode_group(const struct schema_row *row, void *object, const json_t *json,
			   const struct schema_place *place)
{
	const struct schema_row *first = schema_first(row->group);
	void *group = schema_slot(row, object);
	struct schema_place inside;

	schema_place_inside(&inside, place, row->key, -1);
	if (json_is_object(json))
		return decode_object(row->group, group, json, &inside, false);
	if (first && !json_is_array(json))
		return set_json_scalar(first, group, json, &inside);
	return wrong_type(row, json, place);
}

static size_t decode_value(const struct schema_row *row, void *object, const json_t *json,
			   const struct schema_place *place)
{
	if (row->type == SCHEMA_GROUP)
		return decode_group(row, object, json, place);
	if (row->type == SCHEMA_LIST)
		return decode_list(row, object, json, place);
	return set_json_scalar(row, object, json, place);
}

static size_t decode_object(const struct schema *schema, void *object, const json_t *json,
			    const struct schema_place *place, bool entry)
{
	size_t problems = 0;
	uint64_t given = 0;
	const char *key;
	json_t *value;

	if (!json_is_object(json))
		return schema_problem(place, "", "must not be %s; give an object", json_kind(json));
	json_object_foreach((json_t *)json, key, value)
	{
		const struct schema_row *row = schema_find(schema, key);

		if (!row) {
			/* It may stand for what would seem missing. */
			entry = false;
			problems += schema_unknown(place, schema, key);
			continue;
		}
		problems += decode_value(row, object, value, place);
		/* "user": false chooses nothing. */
		if (json_is_false(value) && (row->flags & SCHEMA_CHOICE))
			continue;
		given |= 1ULL << (row - schema->rows);
		schema_choose(schema, row, object);
	}
	return problems + (entry ? schema_check_given(place, schema, given) : 0);
}

size_t schema_decode_json(const struct schema *schema, void *object, const json_t *json,
			  const struct schema_source *source)
{
	struct schema_place place;

	schema_place_top(&place, source);
	return decode_object(schema, object, json, &place, true);
}

static json_t *encode_list(const struct schema_row *row, const void *object)
{
	const char *entry = schema_slot(row, (void *)object);
	uint32_t count = *schema_list_count(row, (void *)object);
	json_t *list = json_array();

	for (uint32_t i = 0; i < count; i++, entry += row->group->size)
		if (json_array_append_new(list, schema_encode_json(row->group, entry)) < 0) {
			json_decref(list);
			return NULL;
		}
	return list;
}

static json_t *encode_mac(const uint8_t *mac)
{
	static const uint8_t zero[6];
	char text[18];

	if (memcmp(mac, zero, sizeof(zero)) == 0)
		return json_null();
	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	return json_string(text);
}

/* json_null() for what is not set and need not be said; NULL when out of memory. */
static json_t *encode_value(const struct schema_row *row, const void *object)
{
	const void *slot = schema_slot(row, (void *)object);
	char text[40];

	switch (row->type) {
	case SCHEMA_STRING:
		return *(char *const *)slot ? json_string(*(char *const *)slot) : json_null();
	case SCHEMA_CHARS:
		return *(const char *)slot ? json_string(slot) : json_null();
	case SCHEMA_BOOL:
		return json_boolean(*(const bool *)slot);
	case SCHEMA_UINT:
	case SCHEMA_FD:
		/* Less than may be given means: not given. */
		return *(const uint32_t *)slot < row->min ? json_null()
							  : json_integer(*(const uint32_t *)slot);
	case SCHEMA_SIZE:
		schema_format_size(*(const uint64_t *)slot, text, sizeof(text));
		return json_string(text);
	case SCHEMA_DURATION:
		snprintf(text, sizeof(text), "%" PRIu64 "ms", *(const uint64_t *)slot);
		return json_string(text);
	case SCHEMA_ENUM:
		return json_string(row->names[*(const int *)slot]);
	case SCHEMA_MAC:
		return encode_mac(slot);
	case SCHEMA_GROUP:
		return schema_encode_json(row->group, slot);
	case SCHEMA_LIST:
		return encode_list(row, object);
	}
	return NULL;
}

json_t *schema_encode_json(const struct schema *schema, const void *object)
{
	json_t *json = json_object();

	for (size_t i = 0; json && i < schema->n_rows; i++) {
		const struct schema_row *row = &schema->rows[i];
		json_t *value;

		if (!schema_chosen(schema, row, object))
			continue;
		value = encode_value(row, object);
		if (json_is_null(value))
			continue;
		if (json_object_set_new(json, row->key, value) < 0) {
			json_decref(json);
			return NULL;
		}
	}
	return json;
}

static json_t *encode_brief(const struct schema *schema, const void *object, const void *first);

static json_t *encode_list_brief(const struct schema_row *row, const void *object)
{
	const char *entry = schema_slot(row, (void *)object);
	uint32_t count = *schema_list_count(row, (void *)object);
	json_t *list = json_array();

	for (uint32_t i = 0; list && i < count; i++, entry += row->group->size)
		json_array_append_new(list, schema_encode_json_brief(row->group, entry));
	return list;
}

static json_t *encode_value_brief(const struct schema_row *row, const void *object,
				  const void *first)
{
	if (row->type == SCHEMA_LIST)
		return encode_list_brief(row, object);
	if (row->type == SCHEMA_GROUP)
		return encode_brief(row->group, schema_slot(row, (void *)object),
				    schema_slot(row, (void *)first));
	return encode_value(row, object);
}

/* What needs not be said: it is what stands there when nothing is said. */
static bool is_default(const struct schema_row *row, const json_t *value, const void *first)
{
	json_auto_t *before = NULL;

	if (row->flags & (SCHEMA_REQUIRED | SCHEMA_CHOICE))
		return false;
	if (row->type == SCHEMA_GROUP)
		return json_object_size(value) == 0;
	before = encode_value(row, first);
	return json_equal(before, value);
}

static json_t *encode_brief(const struct schema *schema, const void *object, const void *first)
{
	json_t *json = json_object();

	for (size_t i = 0; json && i < schema->n_rows; i++) {
		const struct schema_row *row = &schema->rows[i];
		json_t *value = schema_chosen(schema, row, object)
					? encode_value_brief(row, object, first)
					: NULL;

		if (!value || json_is_null(value) || is_default(row, value, first))
			json_decref(value);
		else
			json_object_set_new(json, row->key, value);
	}
	return json;
}

json_t *schema_encode_json_brief(const struct schema *schema, const void *object)
{
	_cleanup_(freep) void *first = calloc(1, schema->size);
	json_t *json;

	if (!first)
		return NULL;
	schema_init(schema, first);
	json = encode_brief(schema, object, first);
	schema_release(schema, first);
	return json;
}
