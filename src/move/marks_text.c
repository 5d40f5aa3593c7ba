/* SPDX-License-Identifier: Apache-2.0 */

/*
 * How a mark reads. A person with nothing but `cat` can tell what happened.
 *
 *   utsusu-given 1              utsusu taken 00112233445566778899aabbccddeeff prepared 12345678
 *   name db                     utsusu taken 00112233445566778899aabbccddeeff ran      12345678
 *   ...
 *   crc 12345678
 *
 * Every line has its place and the only spelling that there is for its value, so what is read is compared with what would
 * be written: nothing else passes.
 */

#include "move/marks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "host/runtime.h"
#include "move/marks_internal.h"

/* CRC-32 as zlib's, bit by bit: a mark is short and rare. */
static uint32_t crc_of(const char *text, size_t len)
{
	uint32_t crc = 0xffffffffU;

	for (size_t i = 0; i < len; i++) {
		crc ^= (uint8_t)text[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320U : 0);
	}
	return ~crc;
}

static const char *const result_names[] = {
	[MARK_OPEN] = "open",
	[MARK_RAN] = "ran",
	[MARK_NEVER] = "never",
};

const char *mark_result_name(enum mark_result result)
{
	return result_names[result];
}

bool mark_is_file(const struct mark_given *given)
{
	return strncmp(given->peer, MARK_FILE_PREFIX, strlen(MARK_FILE_PREFIX)) == 0;
}

static bool is_host(const char *peer)
{
	size_t len = strnlen(peer, MARK_PEER_MAX);

	for (size_t i = 0; i < len; i++)
		if ((uint8_t)peer[i] < ' ' || peer[i] == 0x7f)
			return false;
	return len > 0 && len < MARK_PEER_MAX;
}

static bool is_writable(const struct mark_given *given)
{
	return runtime_name_valid(given->name) && memchr(given->uuid, '\0', UUID_TEXT) &&
	       uuid_valid(given->uuid) && is_host(given->peer) && given->result <= MARK_NEVER;
}

int mark_given_encode(const struct mark_given *given, char ret_text[MARK_GIVEN_BYTES + 1])
{
	char token[2 * MARK_TOKEN_BYTES + 1];
	int len;

	if (!is_writable(given))
		return -EINVAL;
	hex_encode(given->token, MARK_TOKEN_BYTES, token);
	len = snprintf(ret_text, MARK_GIVEN_BYTES + 1,
		       "utsusu-given 1\nname %s\nuuid %s\ngeneration %llu\ntoken %s\npeer %s\n"
		       "time %llu\nresult %s\n",
		       given->name, given->uuid, (unsigned long long)given->generation, token,
		       given->peer, (unsigned long long)given->wall_ns,
		       result_names[given->result]);
	/* All at their longest leave room for this line: the names' limits see to that. */
	len += snprintf(ret_text + len, (size_t)(MARK_GIVEN_BYTES + 1 - len), "crc %08x\n",
			crc_of(ret_text, (size_t)len));
	memset(ret_text + len, '\n', (size_t)(MARK_GIVEN_BYTES - len));
	ret_text[MARK_GIVEN_BYTES] = '\0';
	return 0;
}

/* The value of the line `key`, of which the next begins at *at; "" when it is not that. */
static const char *take_line(char **at, const char *key)
{
	size_t len = strlen(key);
	char *line = *at, *end = strchr(line, '\n');

	if (!end || strncmp(line, key, len) != 0 || line[len] != ' ')
		return "";
	*end = '\0';
	*at = end + 1;
	return line + len + 1;
}

static void take_text(char **at, const char *key, char *ret_text, size_t size)
{
	snprintf(ret_text, size, "%s", take_line(at, key));
}

static enum mark_result result_from(const char *name)
{
	for (enum mark_result result = MARK_OPEN; result <= MARK_NEVER; result++)
		if (strcmp(name, result_names[result]) == 0)
			return result;
	return MARK_OPEN;
}

int mark_given_decode(const void *text, size_t len, struct mark_given *ret_given)
{
	struct mark_given given = { 0 };
	char copy[MARK_GIVEN_BYTES + 1], again[MARK_GIVEN_BYTES + 1], *at = copy;

	if (len != MARK_GIVEN_BYTES)
		return -EBADMSG;
	memcpy(copy, text, len);
	copy[len] = '\0';
	(void)take_line(&at, "utsusu-given");
	take_text(&at, "name", given.name, sizeof(given.name));
	take_text(&at, "uuid", given.uuid, sizeof(given.uuid));
	given.generation = strtoull(take_line(&at, "generation"), NULL, 10);
	if (!hex_decode(take_line(&at, "token"), given.token, MARK_TOKEN_BYTES))
		return -EBADMSG;
	take_text(&at, "peer", given.peer, sizeof(given.peer));
	given.wall_ns = strtoull(take_line(&at, "time"), NULL, 10);
	given.result = result_from(take_line(&at, "result"));
	if (mark_given_encode(&given, again) < 0 || memcmp(again, text, len) != 0)
		return -EBADMSG;
	*ret_given = given;
	return 0;
}

void mark_record(const uint8_t token[MARK_TOKEN_BYTES], enum mark_result result,
		 char ret_record[MARK_RECORD_BYTES + 1])
{
	const char *word = result == MARK_OPEN ? "prepared" : result_names[result];
	char hex[2 * MARK_TOKEN_BYTES + 1];
	int len;

	hex_encode(token, MARK_TOKEN_BYTES, hex);
	len = snprintf(ret_record, MARK_RECORD_BYTES + 1, "utsusu taken %s %-8s ", hex, word);
	snprintf(ret_record + len, (size_t)(MARK_RECORD_BYTES + 1 - len), "%08x\n",
		 crc_of(ret_record, (size_t)len));
}

void mark_taken_new(const uint8_t token[MARK_TOKEN_BYTES], char ret_text[MARK_TAKEN_BYTES + 1])
{
	mark_record(token, MARK_OPEN, ret_text);
	memset(ret_text + MARK_RECORD_BYTES, '\n', MARK_TAKEN_BYTES - MARK_RECORD_BYTES);
	ret_text[MARK_TAKEN_BYTES] = '\0';
}

int mark_taken_decode(const void *text, size_t len, uint8_t ret_token[MARK_TOKEN_BYTES],
		      enum mark_result *ret_result)
{
	static const char prefix[] = "utsusu taken ";
	char again[MARK_TAKEN_BYTES + 1], hex[2 * MARK_TOKEN_BYTES + 1] = { 0 };
	uint8_t token[MARK_TOKEN_BYTES];

	if (len != MARK_TAKEN_BYTES)
		return -EBADMSG;
	memcpy(hex, (const char *)text + strlen(prefix), sizeof(hex) - 1);
	if (!hex_decode(hex, token, sizeof(token)))
		return -EBADMSG;
	for (enum mark_result result = MARK_OPEN; result <= MARK_NEVER; result++) {
		mark_taken_new(token, again);
		if (result != MARK_OPEN)
			mark_record(token, result, again + MARK_RECORD_BYTES);
		if (memcmp(again, text, len) != 0)
			continue;
		memcpy(ret_token, token, sizeof(token));
		*ret_result = result;
		return 0;
	}
	return -EBADMSG;
}
