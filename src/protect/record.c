/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/record.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/hex.h"

#define ID_TEXT (2 * OWNERSHIP_ID_BYTES + 1)

/* What a record may say, and where; the order is that of the text. */
static const char *const keys[] = { "version", "generation", "mode", "owner", "backup", "from" };

static bool is_nobody(const struct ownership_id *id)
{
	return ownership_id_equal(id, &(struct ownership_id){ 0 });
}

/* The one key of an id besides the owner's that each mode has; NULL: none. */
static const char *second_key(enum ownership_mode mode)
{
	return mode == OWNERSHIP_PROTECTED ? "backup" : mode == OWNERSHIP_CLAIMED ? "from" : NULL;
}

/* NULL when the record may stand at the arbiter, else what is wrong with it. */
static const char *fault_of(const struct ownership_record *record)
{
	if (record->generation == 0 || record->generation > RECORD_GENERATION_MAX)
		return "its generation is out of range";
	if (record->mode <= OWNERSHIP_NONE || record->mode >= OWNERSHIP_MODES)
		return "it has no mode";
	if (is_nobody(&record->owner))
		return "it has no owner";
	if (is_nobody(&record->backup) == (record->mode == OWNERSHIP_PROTECTED))
		return "it has a backup when it is protected, and only then";
	if (is_nobody(&record->from) == (record->mode == OWNERSHIP_CLAIMED))
		return "it says from whom when it is claimed, and only then";
	return NULL;
}

int record_encode(const struct ownership_record *record, char ret_text[LIMIT_OWNERSHIP_RECORD],
		  size_t *ret_len)
{
	char owner[ID_TEXT], second[ID_TEXT] = "", tail[ID_TEXT + 16] = "";
	const char *key;

	if (fault_of(record))
		return -EINVAL;
	key = second_key(record->mode);
	hex_encode(record->owner.bytes, OWNERSHIP_ID_BYTES, owner);
	if (key) {
		hex_encode(record->mode == OWNERSHIP_PROTECTED ? record->backup.bytes
							       : record->from.bytes,
			   OWNERSHIP_ID_BYTES, second);
		snprintf(tail, sizeof(tail), ",\"%.6s\":\"%s\"", key, second);
	}
	/* At its longest some 160 bytes. */
	*ret_len = (size_t)snprintf(
		ret_text, LIMIT_OWNERSHIP_RECORD,
		"{\"version\":%d,\"generation\":%llu,\"mode\":\"%s\",\"owner\":\"%s\"%s}",
		RECORD_VERSION, (unsigned long long)record->generation,
		ownership_mode_name(record->mode), owner, tail);
	return 0;
}

static int refuse(struct error *err, const char *why)
{
	return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
			 "the ownership record cannot be read: %s; see who else writes to the "
			 "arbiter",
			 why);
}

static int check_version(const json_t *json, struct error *err)
{
	const json_t *version = json_object_get(json, "version");

	if (!json_is_integer(version))
		return refuse(err, "it has no version");
	if (json_integer_value(version) == RECORD_VERSION)
		return 0;
	return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
			 "the ownership record has version %lld, this program knows %d; use the "
			 "newer utsusu on this host as well",
			 (long long)json_integer_value(version), RECORD_VERSION);
}

static bool is_known(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (strcmp(keys[i], key) == 0)
			return true;
	return false;
}

static bool all_known(json_t *json)
{
	const char *key;
	json_t *value;

	json_object_foreach(json, key, value)
	{
		if (!is_known(key))
			return false;
	}
	return true;
}

/* A key that is not there is nobody; fault_of() says whether it may be missing. */
static bool take_id(const json_t *json, const char *key, struct ownership_id *ret_id)
{
	const json_t *value = json_object_get(json, key);
	const char *text = json_string_value(value);

	if (!value)
		return true;
	return text && strlen(text) == json_string_length(value) &&
	       hex_decode(text, ret_id->bytes, OWNERSHIP_ID_BYTES) && !is_nobody(ret_id);
}

static enum ownership_mode mode_of(const json_t *json)
{
	const char *text = json_string_value(json_object_get(json, "mode"));
	enum ownership_mode mode = OWNERSHIP_NONE + 1;

	while (text && mode < OWNERSHIP_MODES && strcmp(text, ownership_mode_name(mode)) != 0)
		mode++;
	return text ? mode : OWNERSHIP_MODES;
}

int record_decode(const char *text, size_t len, struct ownership_record *ret_record,
		  struct error *err)
{
	json_auto_t *json = NULL;
	struct ownership_record record = { 0 };
	json_int_t generation;
	const char *fault;
	int r;

	if (len >= LIMIT_OWNERSHIP_RECORD)
		return refuse(err, "it is too long");
	json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(json))
		return refuse(err, "it is no JSON object");
	r = check_version(json, err);
	if (r < 0)
		return r;
	if (!all_known(json))
		return refuse(err, "it has a key that its version does not know");
	if (!take_id(json, "owner", &record.owner) || !take_id(json, "backup", &record.backup) ||
	    !take_id(json, "from", &record.from))
		return refuse(err, "an id is not 32 hexadecimal digits that are not all zero");
	generation = json_integer_value(json_object_get(json, "generation"));
	record.generation = generation > 0 ? (uint64_t)generation : 0;
	record.mode = mode_of(json);
	fault = fault_of(&record);
	if (fault)
		return refuse(err, fault);
	*ret_record = record;
	return 0;
}
