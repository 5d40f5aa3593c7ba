/* SPDX-License-Identifier: Apache-2.0 */
#include "api/schema_scalar.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hex.h"

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{ "", 1 },	   { "K", KIB(1) },	 { "M", MIB(1) },
	{ "G", GIB(1) },   { "T", KIB(GIB(1)) }, { "KiB", KIB(1) },
	{ "MiB", MIB(1) }, { "GiB", GIB(1) },	 { "TiB", KIB(GIB(1)) },
};

static const struct unit duration_units[] = {
	{ "", 1000 }, { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 },
};

static const struct unit plain_units[] = {
	{ "", 1 },
};

void schema_format_size(uint64_t bytes, char *ret_text, size_t size)
{
	static const struct unit shown[] = {
		{ "T", KIB(GIB(1)) }, { "G", GIB(1) }, { "M", MIB(1) }, { "K", KIB(1) }, { "", 1 },
	};
	const struct unit *unit = shown;

	while (unit->factor > 1 && (bytes == 0 || bytes % unit->factor))
		unit++;
	snprintf(ret_text, size, "%" PRIu64 "%s", bytes / unit->factor, unit->name);
}

static void format_duration(uint64_t ms, char *ret_text, size_t size)
{
	if (ms % 1000)
		snprintf(ret_text, size, "%" PRIu64 "ms", ms);
	else
		snprintf(ret_text, size, "%" PRIu64 "s", ms / 1000);
}

static void describe_names(const struct schema_row *row, char *ret_text, size_t size)
{
	size_t used = 0;

	for (size_t i = 0; row->names[i] && used < size; i++) {
		const char *mark = i == 0 ? "" : row->names[i + 1] ? ", " : " or ";

		used += (size_t)snprintf(ret_text + used, size - used, "%s%s", mark, row->names[i]);
	}
}

static void describe_size(const struct schema_row *row, char *ret_text, size_t size)
{
	char min[32], max[32], step[32];

	schema_format_size(row->min, min, sizeof(min));
	schema_format_size(row->max, max, sizeof(max));
	schema_format_size(row->step, step, sizeof(step));
	if (row->step > 1)
		snprintf(ret_text, size, "a size from %s to %s, a multiple of %s", min, max, step);
	else
		snprintf(ret_text, size, "a size from %s to %s", min, max);
}

static void describe_duration(const struct schema_row *row, char *ret_text, size_t size)
{
	char min[32], max[32];

	format_duration(row->min, min, sizeof(min));
	format_duration(row->max, max, sizeof(max));
	snprintf(ret_text, size, "a time from %s to %s, such as 30s", min, max);
}

void schema_describe(const struct schema_row *row, char *ret_text, size_t size)
{
	switch (row->type) {
	case SCHEMA_STRING:
	case SCHEMA_CHARS:
		snprintf(ret_text, size, "text of %" PRIu64 " to %" PRIu64 " bytes", row->min,
			 row->max);
		break;
	case SCHEMA_BOOL:
		snprintf(ret_text, size, "on or off");
		break;
	case SCHEMA_UINT:
		snprintf(ret_text, size, "a number from %" PRIu64 " to %" PRIu64, row->min,
			 row->max);
		break;
	case SCHEMA_SIZE:
		describe_size(row, ret_text, size);
		break;
	case SCHEMA_DURATION:
		describe_duration(row, ret_text, size);
		break;
	case SCHEMA_ENUM:
		describe_names(row, ret_text, size);
		break;
	case SCHEMA_MAC:
		snprintf(ret_text, size, "a unicast MAC address such as 52:54:00:12:34:56");
		break;
	case SCHEMA_FD:
		snprintf(ret_text, size, "the number of an open descriptor");
		break;
	case SCHEMA_GROUP:
		snprintf(ret_text, size, "an object");
		break;
	case SCHEMA_LIST:
		snprintf(ret_text, size, "a list of at most %" PRIu64, row->max);
		break;
	}
}

static size_t refuse(const struct schema_row *row, const struct schema_place *place,
		     const char *text, const char *cause)
{
	char takes[160];

	schema_describe(row, takes, sizeof(takes));
	return schema_problem(place, row->key, "'%.60s' %s; give %s", text, cause, takes);
}

static void store_number(const struct schema_row *row, void *object, uint64_t number)
{
	if (row->type == SCHEMA_SIZE || row->type == SCHEMA_DURATION)
		*(uint64_t *)schema_slot(row, object) = number;
	else
		*(uint32_t *)schema_slot(row, object) = (uint32_t)number;
}

/* Digits and a unit; false when it is none, UINT64_MAX when it does not fit. */
static bool parse_number(const char *text, const struct unit *units, size_t n_units,
			 uint64_t *ret_number)
{
	uint64_t number = 0;
	const char *p = text;

	for (; *p >= '0' && *p <= '9'; p++)
		if (__builtin_mul_overflow(number, 10, &number) ||
		    __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
			number = UINT64_MAX;
	if (p == text)
		return false;
	for (size_t i = 0; i < n_units; i++) {
		if (strcmp(p, units[i].name) != 0)
			continue;
		if (__builtin_mul_overflow(number, units[i].factor, &number))
			number = UINT64_MAX;
		*ret_number = number;
		return true;
	}
	return false;
}

static size_t set_number_text(const struct schema_row *row, void *object, const char *text,
			      const struct schema_place *place)
{
	uint64_t number;
	bool good;

	if (row->type == SCHEMA_SIZE)
		good = parse_number(text, size_units, ARRAY_SIZE(size_units), &number);
	else if (row->type == SCHEMA_DURATION)
		good = parse_number(text, duration_units, ARRAY_SIZE(duration_units), &number);
	else
		good = parse_number(text, plain_units, ARRAY_SIZE(plain_units), &number);
	if (!good)
		return refuse(row, place, text, "is not understood");
	if (number < row->min || number > row->max)
		return refuse(row, place, text, "is out of range");
	if (row->step && number % row->step)
		return refuse(row, place, text, "does not fit");
	store_number(row, object, number);
	return 0;
}

static size_t set_bool_text(const struct schema_row *row, void *object, const char *text,
			    const struct schema_place *place)
{
	bool on = strcmp(text, "on") == 0;

	if (!on && strcmp(text, "off") != 0)
		return refuse(row, place, text, "is neither");
	*(bool *)schema_slot(row, object) = on;
	return 0;
}

static size_t set_enum_text(const struct schema_row *row, void *object, const char *text,
			    const struct schema_place *place)
{
	for (int i = 0; row->names[i]; i++) {
		if (strcmp(row->names[i], text) != 0)
			continue;
		memcpy(schema_slot(row, object), &i, sizeof(i));
		return 0;
	}
	return refuse(row, place, text, "is unknown");
}

static bool parse_mac(const char *text, uint8_t *ret_mac)
{
	if (strlen(text) != 17)
		return false;
	for (int i = 0; i < 6; i++) {
		int high = hex_digit(text[3 * i]), low = hex_digit(text[3 * i + 1]);

		if (high < 0 || low < 0 || (i < 5 && text[3 * i + 2] != ':'))
			return false;
		ret_mac[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static size_t set_mac_text(const struct schema_row *row, void *object, const char *text,
			   const struct schema_place *place)
{
	static const uint8_t zero[6];
	uint8_t mac[6];

	if (!parse_mac(text, mac))
		return refuse(row, place, text, "is not understood");
	if ((mac[0] & 1) || memcmp(mac, zero, sizeof(mac)) == 0)
		return refuse(row, place, text, "is a group's address or none");
	memcpy(schema_slot(row, object), mac, sizeof(mac));
	return 0;
}

/* Our JSON is UTF-8: other bytes could not be handed on. */
static bool is_utf8(const char *text)
{
	json_t *json = json_string(text);

	json_decref(json);
	return json;
}

static size_t check_string(const struct schema_row *row, const char *text,
			   const struct schema_place *place)
{
	size_t len = strlen(text);
	const char *why = NULL;

	if (len < row->min)
		return schema_problem(place, row->key, "is empty; give %s", row->value);
	if (len > row->max)
		return schema_problem(place, row->key,
				      "is %zu bytes long; give at most %" PRIu64 " bytes", len,
				      row->max);
	if (!is_utf8(text))
		return schema_problem(place, row->key, "is not UTF-8; use a name in UTF-8");
	if (row->valid && row->valid(text, &why) < 0)
		return schema_problem(place, row->key, "'%.60s' %s", text, why);
	return 0;
}

static size_t set_string_text(const struct schema_row *row, void *object, const char *text,
			      const struct schema_place *place)
{
	size_t problems = check_string(row, text, place);
	char **slot = schema_slot(row, object), *copy;

	if (problems)
		return problems;
	if (row->type == SCHEMA_CHARS) {
		memcpy(slot, text, strlen(text) + 1);
		return 0;
	}
	copy = strdup(text);
	if (!copy)
		return schema_problem(place, row->key, "out of memory; free some and try again");
	free(*slot);
	*slot = copy;
	return 0;
}

size_t schema_set_text(const struct schema_row *row, void *object, const char *text,
		       const struct schema_place *place)
{
	switch (row->type) {
	case SCHEMA_STRING:
	case SCHEMA_CHARS:
		return set_string_text(row, object, text, place);
	case SCHEMA_BOOL:
		return set_bool_text(row, object, text, place);
	case SCHEMA_UINT:
	case SCHEMA_SIZE:
	case SCHEMA_DURATION:
	case SCHEMA_FD:
		return set_number_text(row, object, text, place);
	case SCHEMA_ENUM:
		return set_enum_text(row, object, text, place);
	case SCHEMA_MAC:
		return set_mac_text(row, object, text, place);
	case SCHEMA_GROUP:
	case SCHEMA_LIST:
		break;
	}
	return refuse(row, place, text, "is no object");
}
