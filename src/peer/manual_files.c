/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"
#include "host/state_dir.h"
#include "peer/manual.h"
#include "protect/record.h"

#define FOLDER "arbiter"
#define VERSION 1
#define FILE_NAME (UUID_TEXT + 16)
#define ID_TEXT (2 * OWNERSHIP_ID_BYTES + 1)

/* ---- texts ---- */

static int put(const json_t *json, char ret_text[MANUAL_TEXT], size_t *ret_len)
{
	size_t len = json ? json_dumpb(json, ret_text, MANUAL_TEXT - 1, JSON_COMPACT) : 0;

	if (!len || len >= MANUAL_TEXT)
		return -EINVAL;
	ret_text[len] = '\0';
	*ret_len = len;
	return 0;
}

int manual_encode(const struct manual_records *records, char ret_text[MANUAL_TEXT], size_t *ret_len)
{
	json_t *list = json_array();
	json_auto_t *json = json_pack("{s:i, s:o}", "version", VERSION, "records", list);

	for (uint32_t i = 0; i < records->n; i++) {
		char text[LIMIT_OWNERSHIP_RECORD];
		size_t len;

		if (record_encode(&records->list[i], text, &len) < 0)
			return -EINVAL;
		json_array_append_new(list, json_loadb(text, len, 0, NULL));
	}
	return put(json, ret_text, ret_len);
}

static bool is_version(const json_t *json)
{
	const json_t *version = json_object_get(json, "version");

	return json_is_integer(version) && json_integer_value(version) == VERSION;
}

static int take_record(struct manual_records *records, const json_t *json)
{
	_cleanup_(freep) char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
	struct ownership_record record;
	struct error unheard = { 0 };

	if (records->n == MANUAL_KEPT || !text ||
	    record_decode(text, strlen(text), &record, &unheard) < 0 ||
	    record.generation <= manual_last(records).generation)
		return -EBADMSG;
	manual_append(records, &record);
	return 0;
}

int manual_decode(const char *text, size_t len, struct manual_records *ret_records)
{
	json_auto_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *list = json_object_get(json, "records"), *one;
	struct manual_records records = { 0 };
	size_t i;

	if (!is_version(json) || !json_is_array(list) || json_object_size(json) != 2)
		return -EBADMSG;
	json_array_foreach((json_t *)list, i, one)
	{
		int r = take_record(&records, one);

		if (r < 0)
			return r;
	}
	*ret_records = records;
	return 0;
}

int manual_word_encode(const struct manual_word *word, char ret_text[MANUAL_TEXT], size_t *ret_len)
{
	char owner[ID_TEXT];
	json_auto_t *json = NULL;

	if (word->generation > RECORD_GENERATION_MAX || !word->says)
		return -EINVAL;
	hex_encode(word->owner.bytes, OWNERSHIP_ID_BYTES, owner);
	json = json_pack("{s:i, s:I, s:s, s:s, s:s, s:I}", "version", VERSION, "generation",
			 (json_int_t)word->generation, "says", manual_says_names[word->says],
			 "owner", owner, "who", word->who, "time", (json_int_t)word->time);
	return put(json, ret_text, ret_len);
}

int manual_word_decode(const char *text, size_t len, struct manual_word *ret_word)
{
	json_auto_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *says = json_string_value(json_object_get(json, "says"));
	const char *owner = json_string_value(json_object_get(json, "owner"));
	const char *who = json_string_value(json_object_get(json, "who"));
	const json_int_t generation = json_integer_value(json_object_get(json, "generation"));
	const json_t *time = json_object_get(json, "time");
	struct manual_word word = { 0 };

	if (!is_version(json) || json_object_size(json) != 6 || !says || !owner || !who ||
	    strlen(who) >= sizeof(word.who) || generation <= 0 || !json_is_integer(time) ||
	    !hex_decode(owner, word.owner.bytes, OWNERSHIP_ID_BYTES))
		return -EBADMSG;
	for (int i = MANUAL_OWNER_IS_DEAD; manual_says_names[i]; i++)
		if (strcmp(manual_says_names[i], says) == 0)
			word.says = (enum manual_says)i;
	if (!word.says)
		return -EBADMSG;
	word.generation = (uint64_t)generation;
	word.time = json_integer_value(time);
	memcpy(word.who, who, strlen(who) + 1);
	*ret_word = word;
	return 0;
}

/* ---- files ---- */

static int open_folder(int state_fd, const char *uuid, const char *kind, char ret_file[FILE_NAME],
		       int *ret_folder)
{
	if (!uuid_valid(uuid))
		return -EINVAL;
	snprintf(ret_file, FILE_NAME, "%s.%s", uuid, kind);
	return state_dir_folder(state_fd, FOLDER, ret_folder);
}

int manual_lock(int state_fd, const char uuid[UUID_TEXT], int *ret_fd)
{
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(fd_closep) int fd = -1;
	char file[FILE_NAME];
	int r = open_folder(state_fd, uuid, "lock", file, &folder);

	if (r < 0)
		return r;
	fd = openat(folder, file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = fd < 0 ? -errno : fd_lock(fd, F_WRLCK);
	if (r == 0)
		*ret_fd = TAKE_FD(fd);
	return r;
}

int manual_read(int state_fd, const char uuid[UUID_TEXT], struct manual_records *ret_records,
		struct error *err)
{
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(freep) char *text = NULL;
	char file[FILE_NAME];
	size_t len;
	int r = open_folder(state_fd, uuid, "manual", file, &folder);

	if (r == 0)
		r = state_dir_read(folder, file, MANUAL_TEXT - 1, &text, &len);
	if (r == -ENOENT) {
		*ret_records = (struct manual_records){ 0 };
		return 0;
	}
	if (r == 0)
		r = manual_decode(text, len, ret_records);
	return r < 0 ? error_set(
			       err, r, EXIT_STATUS_HOST,
			       "the record of who may run this VM cannot be read: " FOLDER
			       "/%s.manual in the state directory: %s; see where the VM runs, and "
			       "remove it when that is no other host",
			       uuid, r == -EBADMSG ? "damaged" : strerror(-r))
		     : 0;
}

static int write_file(int state_fd, const char *uuid, const char *kind, const char *text,
		      size_t len)
{
	_cleanup_(fd_closep) int folder = -1;
	char file[FILE_NAME];
	int r = open_folder(state_fd, uuid, kind, file, &folder);

	return r < 0 ? r : state_dir_write(folder, file, text, len, 0600);
}

int manual_write(int state_fd, const char uuid[UUID_TEXT], const struct manual_records *records)
{
	char text[MANUAL_TEXT];
	size_t len;
	int r = manual_encode(records, text, &len);

	return r < 0 ? r : write_file(state_fd, uuid, "manual", text, len);
}

int manual_write_word(int state_fd, const char uuid[UUID_TEXT], const struct manual_word *word)
{
	char text[MANUAL_TEXT];
	size_t len;
	int r = manual_word_encode(word, text, &len);

	return r < 0 ? r : write_file(state_fd, uuid, "word", text, len);
}

void manual_read_word(int state_fd, const char uuid[UUID_TEXT], struct manual_word *ret_word)
{
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(freep) char *text = NULL;
	char file[FILE_NAME];
	size_t len;
	int r = open_folder(state_fd, uuid, "word", file, &folder);

	*ret_word = (struct manual_word){ 0 };
	if (r == 0)
		r = state_dir_read(folder, file, MANUAL_TEXT - 1, &text, &len);
	if (r == 0 && manual_word_decode(text, len, ret_word) < 0)
		*ret_word = (struct manual_word){ 0 };
}

void manual_drop_word(int state_fd, const char uuid[UUID_TEXT])
{
	_cleanup_(fd_closep) int folder = -1;
	char file[FILE_NAME];

	if (open_folder(state_fd, uuid, "word", file, &folder) == 0)
		unlinkat(folder, file, 0);
}
