/* SPDX-License-Identifier: Apache-2.0 */
#include "view/json_text.h"

#include <string.h>

#include "base/hex.h"

#define NUMBER_MAX (UINT64_C(1) << 53)

void json_text_init(struct json_text *json, char *text, size_t size)
{
	*json = (struct json_text){ .text = text, .size = size, .first = true };
}

size_t json_text_finish(struct json_text *json)
{
	size_t used = json->full ? 0 : json->used;

	if (json->size)
		json->text[used] = '\0';
	return used;
}

/* A byte is kept for the NUL. */
static void add(struct json_text *json, const char *text, size_t len)
{
	if (json->full || len >= json->size - json->used) {
		json->full = true;
		return;
	}
	memcpy(json->text + json->used, text, len);
	json->used += len;
}

static void add_char(struct json_text *json, char c)
{
	add(json, &c, 1);
}

/* The comma before, and the key. */
static void add_key(struct json_text *json, const char *key)
{
	if (!json->first)
		add_char(json, ',');
	json->first = false;
	if (!key)
		return;
	add_char(json, '"');
	add(json, key, strlen(key));
	add(json, "\":", 2);
}

void json_text_open(struct json_text *json, const char *key, char bracket)
{
	add_key(json, key);
	add_char(json, bracket);
	json->first = true;
}

void json_text_close(struct json_text *json, char bracket)
{
	add_char(json, bracket);
	json->first = false;
}

static bool is_plain(char c)
{
	return c >= ' ' && c <= '~' && c != '"' && c != '\\';
}

void json_text_string(struct json_text *json, const char *key, const char *value)
{
	add_key(json, key);
	add_char(json, '"');
	while (value && *value) {
		size_t plain = 0;

		while (is_plain(value[plain]))
			plain++;
		add(json, value, plain);
		value += plain;
		if (*value == '"' || *value == '\\')
			add_char(json, '\\');
		if (*value)
			add_char(json, *value >= ' ' && *value <= '~' ? *value : '?');
		value += *value != '\0';
	}
	add_char(json, '"');
}

static void add_digits(struct json_text *json, uint64_t value, unsigned int base)
{
	char digits[20];
	size_t at = sizeof(digits);

	do
		digits[--at] = "0123456789abcdef"[value % base];
	while (value /= base);
	add(json, digits + at, sizeof(digits) - at);
}

void json_text_number(struct json_text *json, const char *key, uint64_t value)
{
	size_t quote = value > NUMBER_MAX;

	add_key(json, key);
	add(json, "\"", quote);
	add_digits(json, value, 10);
	add(json, "\"", quote);
}

void json_text_signed(struct json_text *json, const char *key, int64_t value)
{
	add_key(json, key);
	add(json, "-", value < 0);
	add_digits(json, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10);
}

void json_text_hex(struct json_text *json, const char *key, uint64_t value)
{
	add_key(json, key);
	add(json, "\"0x", 3);
	add_digits(json, value, 16);
	add_char(json, '"');
}

void json_text_bytes(struct json_text *json, const char *key, const uint8_t *bytes, size_t n)
{
	char pair[3];

	add_key(json, key);
	add_char(json, '"');
	for (size_t i = 0; i < n; i++) {
		hex_encode(bytes + i, 1, pair);
		add(json, pair, 2);
	}
	add_char(json, '"');
}

void json_text_true(struct json_text *json, const char *key)
{
	add_key(json, key);
	add(json, "true", 4);
}
