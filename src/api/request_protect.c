/* SPDX-License-Identifier: Apache-2.0 */

/* What a guard, a relay and a user ask of a VM's protection: the table of names and fields stands in request.h. */

#include "api/request_internal.h"

#include <errno.h>
#include <string.h>

#include "base/hex.h"
#include "protect/record.h"

static const char *const mode_names[] = {
	[OWNERSHIP_NONE] = "none",	 [OWNERSHIP_SOLO] = "solo",
	[OWNERSHIP_CLAIMED] = "claimed", [OWNERSHIP_PROTECTED] = "protected",
	[OWNERSHIP_STOPPED] = "stopped", NULL,
};

const char *const api_swap_outcomes[] = {
	[API_SWAP_UNKNOWN] = "unknown",
	[API_SWAP_WON] = "won",
	[API_SWAP_LOST] = "lost",
	NULL,
};

static int valid_id(const char *text, const char **ret_why)
{
	struct ownership_id id;

	*ret_why = "is no id; give 32 hexadecimal digits";
	return !*text || hex_decode(text, id.bytes, sizeof(id.bytes)) ? 0 : -EINVAL;
}

#define ID_ROW(in_, member, key_, flags_, help_)                                                   \
	{                                                                                          \
		.key = key_, .type = SCHEMA_CHARS, .flags = flags_,                                \
		.offset = offsetof(in_, member), .max = 2 * OWNERSHIP_ID_BYTES, .value = "ID",     \
		.valid = valid_id, .help = help_                                                   \
	}

#define NUMBER_ROW(in_, member, key_, flags_, max_, help_)                                         \
	{                                                                                          \
		.key = key_, .type = SCHEMA_SIZE, .flags = flags_,                                 \
		.offset = offsetof(in_, member), .max = max_, .value = "N", .help = help_          \
	}

#define TEXT_ROW(member, key_, help_)                                                              \
	{                                                                                          \
		.key = key_, .type = SCHEMA_CHARS, .offset = offsetof(struct api_line, member),    \
		.max = sizeof(((struct api_line *)NULL)->member) - 1, .value = "TEXT",             \
		.help = help_                                                                      \
	}

#define SESSION_ROW ID_ROW(struct api_line, session, "session", SCHEMA_REQUIRED, "of the copy")
#define EPOCH_ROW                                                                                  \
	NUMBER_ROW(struct api_line, request.protect.epoch, "epoch", SCHEMA_REQUIRED, INT64_MAX,    \
		   "its number")

static const struct schema_row record_rows[] = {
	{ .key = "version",
	  .type = SCHEMA_UINT,
	  .offset = offsetof(struct api_line_record, version),
	  .min = RECORD_VERSION,
	  .max = RECORD_VERSION,
	  .value = "N",
	  .help = "of the record" },
	NUMBER_ROW(struct api_line_record, generation, "generation", 0, RECORD_GENERATION_MAX,
		   "one more with every swap"),
	NUMBER_ROW(struct api_line_record, revision, "revision", 0, INT64_MAX, "the arbiter's"),
	{ .key = "mode",
	  .type = SCHEMA_ENUM,
	  .offset = offsetof(struct api_line_record, mode),
	  .names = mode_names,
	  .value = "MODE",
	  .help = "who may put out" },
	ID_ROW(struct api_line_record, owner, "owner", 0, "instance"),
	ID_ROW(struct api_line_record, backup, "backup", 0, "session"),
	ID_ROW(struct api_line_record, from, "from", 0, "whom it was claimed from"),
};
static const struct schema record_schema = { record_rows, ARRAY_SIZE(record_rows),
					     sizeof(struct api_line_record) };

#define RECORD_ROW                                                                                 \
	{                                                                                          \
		.key = "record", .type = SCHEMA_GROUP,                                             \
		.offset = offsetof(struct api_line, record), .group = &record_schema,              \
		.value = "RECORD", .help = "the ownership record"                                  \
	}

static const struct schema_row begin_rows[] = {
	COMMON_ROWS,
	SESSION_ROW,
	TEXT_ROW(request.protect.peer, "peer", "the other host"),
	{ .key = "ring",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct api_line, request.protect.ring),
	  .value = "true",
	  .help = "a second descriptor comes: disks are mirrored" },
};

static const struct schema_row epoch_rows[] = { COMMON_ROWS, EPOCH_ROW };

static const struct schema_row acked_rows[] = {
	COMMON_ROWS,
	SESSION_ROW,
	EPOCH_ROW,
	NUMBER_ROW(struct api_line, request.protect.at_ns, "at_ns", SCHEMA_REQUIRED, INT64_MAX,
		   "when it was received: nanoseconds of CLOCK_MONOTONIC"),
};

static const struct schema_row why_rows[] = {
	COMMON_ROWS,
	TEXT_ROW(request.protect.why, "why", "a line for people"),
};

static const struct schema_row back_up_rows[] = {
	COMMON_ROWS,
	SESSION_ROW,
	TEXT_ROW(request.protect.peer, "peer", "the other host"),
};

static const struct schema_row apply_rows[] = {
	COMMON_ROWS,
	NUMBER_ROW(struct api_line, request.protect.len, "len", SCHEMA_REQUIRED, EPOCH_STATE_MAX,
		   "bytes of the container"),
	NUMBER_ROW(struct api_line, request.protect.stopped_ns, "stopped_ns", SCHEMA_REQUIRED,
		   INT64_MAX, "how long the guest stood still"),
};

static const struct schema_row attach_rows[] = {
	COMMON_ROWS,
	RECORD_ROW,
	{ .key = "none",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct api_line, request.protect.none),
	  .value = "true",
	  .help = "there is no record" },
	ID_ROW(struct api_line, dead, "dead", 0, "an instance that has ended on this host"),
	{ .key = "manual",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct api_line, request.protect.by_hand),
	  .value = "true",
	  .help = "no etcd decides" },
};

static const struct schema_row swapped_rows[] = {
	COMMON_ROWS,
	RECORD_ROW,
	{ .key = "outcome",
	  .type = SCHEMA_ENUM,
	  .flags = SCHEMA_REQUIRED,
	  .offset = offsetof(struct api_line, request.protect.outcome),
	  .names = api_swap_outcomes,
	  .value = "OUTCOME",
	  .help = "what became of the swap" },
	TEXT_ROW(request.protect.why, "why", "what it waits for"),
};

static const struct schema_row session_rows[] = { COMMON_ROWS, SESSION_ROW };
static const struct schema_row stands_rows[] = { COMMON_ROWS, RECORD_ROW };

#define SCHEMA(rows)                                                                               \
	{                                                                                          \
		rows, ARRAY_SIZE(rows), sizeof(struct api_line)                                    \
	}

const struct schema api_protect_begin_schema = SCHEMA(begin_rows);
const struct schema api_protect_epoch_schema = SCHEMA(epoch_rows);
const struct schema api_protect_acked_schema = SCHEMA(acked_rows);
const struct schema api_protect_why_schema = SCHEMA(why_rows);
const struct schema api_backup_begin_schema = SCHEMA(back_up_rows);
const struct schema api_backup_apply_schema = SCHEMA(apply_rows);
const struct schema api_arbiter_attach_schema = SCHEMA(attach_rows);
const struct schema api_arbiter_swapped_schema = SCHEMA(swapped_rows);
const struct schema api_protect_session_schema = SCHEMA(session_rows);
const struct schema api_arbiter_stands_schema = SCHEMA(stands_rows);

/* An empty text is nobody; others were judged. */
static void take_id(const char *text, struct ownership_id *ret_id)
{
	if (!hex_decode(text, ret_id->bytes, sizeof(ret_id->bytes)))
		*ret_id = (struct ownership_id){ 0 };
}

static bool is_given(const struct api_line_record *record)
{
	return record->generation || record->revision || record->mode || record->owner[0];
}

/* Where there is none, whoever may leave it out has a reason. */
static int judge_absence(const struct api_line *line, struct error *err)
{
	const struct api_protect_request *protect = &line->request.protect;
	const enum api_command command = line->request.command;

	if ((command == API_ARBITER_ATTACH && !protect->none) || command == API_ARBITER_STANDS ||
	    command == API_BACKUP_RECORD ||
	    (command == API_ARBITER_SWAPPED && protect->outcome == API_SWAP_WON))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "record: is missing; give it as the arbiter has it");
	return 0;
}

int api_request_take_protect(struct api_line *line, struct error *err)
{
	struct api_protect_request *protect = &line->request.protect;
	const struct api_line_record *from = &line->record;
	char text[LIMIT_OWNERSHIP_RECORD];
	size_t len;

	take_id(line->session, &protect->session);
	take_id(line->dead, &protect->dead);
	if (!is_given(from))
		return judge_absence(line, err);
	protect->record = (struct ownership_record){
		.revision = from->revision,
		.generation = from->generation,
		.mode = from->mode,
	};
	take_id(from->owner, &protect->record.owner);
	take_id(from->backup, &protect->record.backup);
	take_id(from->from, &protect->record.from);
	if (from->revision && record_encode(&protect->record, text, &len) == 0)
		return 0;
	return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
			 "record: is none that can stand at an arbiter; give it as that has it");
}
