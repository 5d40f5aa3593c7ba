/* SPDX-License-Identifier: Apache-2.0 */

/* What a mover asks: the table of names and fields stands in request.h. */

#include "api/request_internal.h"

#include <errno.h>

#include "base/hex.h"

static int valid_token(const char *text, const char **ret_why)
{
	uint8_t token[MOVE_TOKEN_BYTES];

	*ret_why = "is no token; give 32 hexadecimal digits";
	return hex_decode(text, token, sizeof(token)) ? 0 : -EINVAL;
}

void api_request_take_token(struct api_line *line)
{
	/* Commands without one leave it empty. */
	if (!hex_decode(line->token, line->request.move.token, MOVE_TOKEN_BYTES))
		memset(line->request.move.token, 0, MOVE_TOKEN_BYTES);
}

#define TOKEN_ROW                                                                                  \
	{                                                                                          \
		.key = "token", .type = SCHEMA_CHARS, .flags = SCHEMA_REQUIRED,                    \
		.offset = offsetof(struct api_line, token), .min = 1, .max = 2 * MOVE_TOKEN_BYTES, \
		.value = "TOKEN", .valid = valid_token, .help = "which move"                       \
	}

#define NUMBER_ROW(type_, member, key_, max_, help_)                                               \
	{                                                                                          \
		.key = key_, .type = type_, .flags = SCHEMA_REQUIRED,                              \
		.offset = offsetof(struct api_line, request.move.member), .max = max_,             \
		.value = "N", .help = help_                                                        \
	}

#define HOST_ROW(key_, help_)                                                                      \
	{                                                                                          \
		.key = key_, .type = SCHEMA_CHARS, .flags = SCHEMA_REQUIRED,                       \
		.offset = offsetof(struct api_line, request.move.peer), .min = 1,                  \
		.max = MARK_PEER_MAX - 1, .value = "HOST", .help = help_                           \
	}

static const struct schema_row token_rows[] = { COMMON_ROWS, TOKEN_ROW };

static const struct schema_row begin_rows[] = {
	COMMON_ROWS,
	TOKEN_ROW,
	{ .key = "mark",
	  .type = SCHEMA_BOOL,
	  .flags = SCHEMA_REQUIRED,
	  .offset = offsetof(struct api_line, request.move.mark),
	  .value = "true",
	  .help = "a second descriptor comes: the mark" },
};

static const struct schema_row log_disk_rows[] = {
	COMMON_ROWS,
	NUMBER_ROW(SCHEMA_UINT, disk, "disk", LIMIT_DISKS - 1, "its number"),
};

static const struct schema_row throttle_rows[] = {
	COMMON_ROWS,
	NUMBER_ROW(SCHEMA_UINT, percent, "percent", MOVE_THROTTLE_MAX,
		   "how much of its time each vCPU sleeps"),
};

static const struct schema_row stop_rows[] = {
	COMMON_ROWS,
	NUMBER_ROW(SCHEMA_UINT, deadline_ms, "deadline_ms", MOVE_STOP_MAX_MS,
		   "milliseconds that disk requests may take to end"),
};

static const struct schema_row save_rows[] = {
	COMMON_ROWS,
	{ .key = "version",
	  .type = SCHEMA_UINT,
	  .offset = offsetof(struct api_line, request.move.version),
	  .min = 1,
	  .max = UINT16_MAX,
	  .value = "N",
	  .help = "of the state, for a program that reads no later one" },
};

static const struct schema_row give_rows[] = {
	COMMON_ROWS,
	NUMBER_ROW(SCHEMA_UINT, deadline_ms, "deadline_ms", MOVE_STOP_MAX_MS,
		   "milliseconds that disk requests may take to end"),
	NUMBER_ROW(SCHEMA_UINT, version, "version", UINT16_MAX, "of the state"),
};

static const struct schema_row take_rows[] = {
	COMMON_ROWS,
	NUMBER_ROW(SCHEMA_SIZE, len, "len", MOVE_STATE_MAX, "bytes of state"),
	NUMBER_ROW(SCHEMA_SIZE, moment_ns, "moment_ns", INT64_MAX,
		   "of the state, on the host's monotonic clock"),
};

static const struct schema_row given_rows[] = {
	COMMON_ROWS,
	HOST_ROW("peer", "who gets it"),
	NUMBER_ROW(SCHEMA_SIZE, generation, "generation", INT64_MAX, "of the ownership"),
};

static const struct schema_row ran_rows[] = {
	COMMON_ROWS,
	TOKEN_ROW,
	HOST_ROW("where", "who has it"),
};

static const struct schema_row load_rows[] = {
	COMMON_ROWS,
	NUMBER_ROW(SCHEMA_SIZE, len, "len", MOVE_STATE_MAX, "bytes of state"),
	NUMBER_ROW(SCHEMA_SIZE, stopped_ns, "stopped_ns", INT64_MAX,
		   "how long the guest stood still"),
	{ .key = "rehearse",
	  .type = SCHEMA_BOOL,
	  .flags = SCHEMA_REQUIRED,
	  .offset = offsetof(struct api_line, request.move.rehearse),
	  .value = "true",
	  .help = "judge it, and take nothing" },
};

static const struct schema_row wait_rows[] = {
	COMMON_ROWS,
	{ .key = "stand",
	  .type = SCHEMA_BOOL,
	  .flags = SCHEMA_REQUIRED,
	  .offset = offsetof(struct api_line, request.move.stand),
	  .value = "true",
	  .help = "false: go on" },
};

#define SCHEMA(rows)                                                                               \
	{                                                                                          \
		rows, ARRAY_SIZE(rows), sizeof(struct api_line)                                    \
	}

const struct schema api_move_token_schema = SCHEMA(token_rows);
const struct schema api_move_begin_schema = SCHEMA(begin_rows);
const struct schema api_move_log_disk_schema = SCHEMA(log_disk_rows);
const struct schema api_move_throttle_schema = SCHEMA(throttle_rows);
const struct schema api_move_stop_schema = SCHEMA(stop_rows);
const struct schema api_move_save_schema = SCHEMA(save_rows);
const struct schema api_move_given_schema = SCHEMA(given_rows);
const struct schema api_move_ran_schema = SCHEMA(ran_rows);
const struct schema api_arrive_load_schema = SCHEMA(load_rows);
const struct schema api_handover_give_schema = SCHEMA(give_rows);
const struct schema api_inherit_take_schema = SCHEMA(take_rows);
const struct schema api_arrive_wait_schema = SCHEMA(wait_rows);
