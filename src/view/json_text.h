/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Writes JSON into a buffer, without allocating and without printf, which would take most of the time. What does not fit is
 * left out: `full` says so. Keys are ours and plain; texts may be anybody's. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_text {
	char *text;
	size_t size, used;
	bool first; /* the next member is the first of its object or array */
	bool full;
};

void json_text_init(struct json_text *json, char *text, size_t size);
/* Ends the text with a NUL. Its length; 0 when it did not fit. */
size_t json_text_finish(struct json_text *json);

/* `key` NULL: an element of an array, or the outermost value. */
void json_text_open(struct json_text *json, const char *key, char bracket);
void json_text_close(struct json_text *json, char bracket);
/* What is not printable ASCII becomes '?'. */
void json_text_string(struct json_text *json, const char *key, const char *value);
/* A number above 2^53, which a reader that counts in doubles would round, is written as a text. */
void json_text_number(struct json_text *json, const char *key, uint64_t value);
void json_text_signed(struct json_text *json, const char *key, int64_t value);
/* "0x12" */
void json_text_hex(struct json_text *json, const char *key, uint64_t value);
/* "0a0b" */
void json_text_bytes(struct json_text *json, const char *key, const uint8_t *bytes, size_t n);
void json_text_true(struct json_text *json, const char *key);
