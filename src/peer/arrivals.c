/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/arrivals.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hex.h"
#include "host/runtime.h"
#include "host/state_dir.h"
#include "peer/generations.h"
#include "peer/protected.h"

#define FOLDER "arrivals"
#define FILE_MAX KIB(4)

static bool take_text(const json_t *json, const char *key, char *ret_text, size_t size)
{
	const char *text = json_string_value(json_object_get(json, key));

	if (!text || strlen(text) >= size)
		return false;
	memcpy(ret_text, text, strlen(text) + 1);
	return true;
}

static bool take_number(const json_t *json, const char *key, uint64_t *ret_number)
{
	const json_t *number = json_object_get(json, key);

	if (!json_is_integer(number) || json_integer_value(number) < 0)
		return false;
	*ret_number = (uint64_t)json_integer_value(number);
	return true;
}

static int decode(const char *text, size_t len, struct arrival *ret_arrival)
{
	json_auto_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	char token[2 * MARK_TOKEN_BYTES + 1];
	struct arrival arrival = { 0 };

	if (!take_text(json, "uuid", arrival.uuid, sizeof(arrival.uuid)) ||
	    !uuid_valid(arrival.uuid) ||
	    !take_text(json, "source", arrival.source, sizeof(arrival.source)) ||
	    !take_text(json, "token", token, sizeof(token)) ||
	    !hex_decode(token, arrival.token, MARK_TOKEN_BYTES) ||
	    !take_number(json, "ran", &arrival.ran) ||
	    !take_number(json, "generation", &arrival.generation))
		return -EBADMSG;
	*ret_arrival = arrival;
	return 0;
}

int arrivals_read(int state_fd, struct marks *marks, const char *name, struct arrival *ret_arrival)
{
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(freep) char *text = NULL;
	enum mark_result result;
	size_t len;
	int r = runtime_name_valid(name) ? state_dir_folder(state_fd, FOLDER, &folder) : -EINVAL;

	if (r == 0)
		r = state_dir_read(folder, name, FILE_MAX, &text, &len);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = decode(text, len, ret_arrival);
	if (r < 0)
		return r;
	r = marks_read_taken(marks, ret_arrival->token, false, &result);
	if (r < 0)
		return r == -ENOENT ? 1 : r;
	if (result == MARK_RAN && ret_arrival->generation > ret_arrival->ran)
		ret_arrival->ran = ret_arrival->generation;
	return 1;
}

int arrivals_note(int state_fd, struct marks *marks, const char *name,
		  const struct arrival *arrival)
{
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(freep) char *text = NULL;
	char token[2 * MARK_TOKEN_BYTES + 1];
	json_auto_t *json = NULL;
	struct arrival before;
	uint64_t ran = 0;
	int r = arrivals_read(state_fd, marks, name, &before);

	if (r < 0)
		return r;
	if (r == 1 && strcmp(before.uuid, arrival->uuid) == 0)
		ran = before.ran;
	/* Another VM takes the name: what is known of the former one stays known. */
	if (r == 1 && before.ran)
		r = generations_raise(state_fd, before.uuid, before.ran);
	if (r < 0)
		return r;
	r = state_dir_folder(state_fd, FOLDER, &folder);
	if (r < 0)
		return r;
	hex_encode(arrival->token, MARK_TOKEN_BYTES, token);
	json = json_pack("{s:s, s:I, s:I, s:s, s:s}", "uuid", arrival->uuid, "ran", (json_int_t)ran,
			 "generation", (json_int_t)arrival->generation, "token", token, "source",
			 arrival->source);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	return text ? state_dir_write(folder, name, text, strlen(text), 0600) : -ENOMEM;
}

int arrivals_drop(int state_fd, struct marks *marks, const char *name)
{
	_cleanup_(fd_closep) int folder = -1;
	struct arrival before;
	int r = arrivals_read(state_fd, marks, name, &before);

	/* One that cannot be read tells nothing; what ran was noted when it was seen to run. */
	if (r == 1 && before.ran)
		r = generations_raise(state_fd, before.uuid, before.ran);
	if (r < 0 && r != -EBADMSG)
		return r;
	r = state_dir_folder(state_fd, FOLDER, &folder);

	if (r < 0)
		return r;
	if (unlinkat(folder, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return fsync(folder) < 0 ? -errno : 0;
}

int arrivals_known(int state_fd, struct marks *marks, const char *name, const char *uuid,
		   uint64_t *ret_known)
{
	struct mark_given given;
	struct arrival arrival;
	uint64_t known = 0;
	int r = uuid_valid(uuid) ? generations_read(state_fd, uuid, &known) : 0;

	if (r == 0)
		r = arrivals_read(state_fd, marks, name, &arrival);
	if (r < 0)
		return r;
	if (r == 1 && strcmp(arrival.uuid, uuid) == 0)
		known = MAX(known, arrival.ran);
	r = marks_read_given(marks, name, &given);
	if (r < 0)
		return r;
	if (r == 1 && strcmp(given.uuid, uuid) == 0)
		known = MAX(known, given.generation);
	*ret_known = known;
	return 0;
}

static enum handover_mark mark_of(enum mark_result result)
{
	static const enum handover_mark marks[] = {
		[MARK_OPEN] = HANDOVER_OPEN,
		[MARK_RAN] = HANDOVER_RAN,
		[MARK_NEVER] = HANDOVER_NEVER,
	};

	return marks[result];
}

/* A mark that cannot be read is one in doubt. */
static void read_given(struct marks *marks, const char *name, struct mark_given *ret_given,
		       struct handover_marks *known)
{
	int r = marks_read_given(marks, name, ret_given);

	if (r < 0) {
		known->given = HANDOVER_OPEN;
		known->given_generation = UINT64_MAX;
	} else if (r == 1) {
		known->given = mark_of(ret_given->result);
		known->given_generation = ret_given->generation;
	}
}

/* The same here: what cannot be read is no leave to run. */
static void read_taken(int state_fd, struct marks *marks, const char *name,
		       struct arrival *ret_arrival, struct handover_marks *known)
{
	enum mark_result result;
	int r = arrivals_read(state_fd, marks, name, ret_arrival);

	if (r == 0)
		return;
	known->taken = HANDOVER_OPEN;
	if (r < 0) {
		snprintf(ret_arrival->source, sizeof(ret_arrival->source), "another host");
	} else if (ret_arrival->ran) {
		known->taken = HANDOVER_RAN;
		known->taken_generation = ret_arrival->ran;
	} else if (marks_read_taken(marks, ret_arrival->token, false, &result) == 0) {
		known->taken = mark_of(result);
		known->taken_generation = ret_arrival->generation;
	}
}

int arrivals_may_start(int state_fd, struct marks *marks, const char *name,
		       enum handover_start *ret_start, struct mark_given *ret_given,
		       struct arrival *ret_arrival)
{
	struct handover_marks known = { .given = HANDOVER_NO_MARK, .taken = HANDOVER_NO_MARK };

	*ret_given = (struct mark_given){ 0 };
	*ret_arrival = (struct arrival){ 0 };
	read_given(marks, name, ret_given, &known);
	read_taken(state_fd, marks, name, ret_arrival, &known);
	/* A former VM of the same name says nothing about this one. */
	if (ret_given->uuid[0] && ret_arrival->uuid[0] &&
	    strcmp(ret_given->uuid, ret_arrival->uuid) != 0)
		known.taken = HANDOVER_NO_MARK;
	*ret_start = handover_may_start(&known);
	return 0;
}

static int refuse(const char *name, enum handover_start start, const struct mark_given *given,
		  const struct arrival *arrival, struct error *err)
{
	const char *there = given->peer[0] ? given->peer : "another host";

	switch (start) {
	case START_LIVES_THERE:
		if (mark_is_file(given))
			return error_set(
				err, -EBUSY, EXIT_STATUS_BUSY,
				"%s: was saved in %s and is there: utsusu restore makes it run; give "
				"another name, or, if it is never to be restored: utsusu resolve %s "
				"--run-here",
				name, there, name);
		return error_set(
			err, -EBUSY, EXIT_STATUS_BUSY,
			"%s: moved to %s and lives there; use it there, or give another name; if "
			"it is gone for good there: utsusu resolve %s",
			name, there, name);
	case START_ASK_FIRST:
		return error_set(
			err, -EBUSY, EXIT_STATUS_BUSY,
			"%s: was given to %s and it is not known yet whether it ran there; see "
			"utsusu resolve %s",
			name, there, name);
	case START_NOT_TAKEN:
		return error_set(
			err, -EBUSY, EXIT_STATUS_BUSY,
			"%s: was to come here from %s and did not: it is still there; give another "
			"name, or see utsusu resolve %s",
			name, arrival->source, name);
	case START_MAY:
		break;
	}
	return 0;
}

int arrivals_check_start(const char *name, const uint8_t *saved, struct error *err)
{
	_cleanup_(fd_closep) int state_fd = -1;
	struct marks *marks = NULL;
	struct mark_given given;
	struct arrival arrival;
	enum handover_start start;
	int r;

	if (!state_dir_is_there() || !runtime_name_valid(name))
		return 0;
	r = state_dir_open(&state_fd, err);
	if (r == 0)
		r = marks_open(&marks, err);
	if (r == 0)
		r = arrivals_may_start(state_fd, marks, name, &start, &given, &arrival);
	marks_close(marks);
	if (r < 0)
		return r;
	/* What was saved is restored. */
	if (start != START_LIVES_THERE || !saved || !mark_is_file(&given) ||
	    memcmp(given.token, saved, MARK_TOKEN_BYTES) != 0)
		r = refuse(name, start, &given, &arrival, err);
	return r < 0 ? r : protected_check_start(state_fd, name, err);
}
