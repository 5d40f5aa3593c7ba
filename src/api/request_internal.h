/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the decoders of requests share: request.c, request_move.c for what a mover asks, request_protect.c for a VM's protection. */

#include "api/request.h"

#define ADDRESSES_MAX (MONITOR_STEPS * 19) /* bytes: "0x", 16 digits and a comma each */
#define DATA_MAX 20			   /* bytes: "0x" and 16 digits, or 20 decimal ones */

/* Every command has these; "command" itself is judged before and any text is taken here. */
#define COMMON_ROWS                                                                                \
	{ .key = "command",                                                                        \
	  .type = SCHEMA_CHARS,                                                                    \
	  .offset = offsetof(struct api_line, command),                                            \
	  .max = sizeof(((struct api_line *)NULL)->command) - 1,                                   \
	  .value = "COMMAND",                                                                      \
	  .help = "what to do" },                                                                  \
	{                                                                                          \
		.key = "id", .type = SCHEMA_CHARS,                                                 \
		.offset = offsetof(struct api_line, request.id), .max = API_REQUEST_ID_MAX,        \
		.value = "TEXT", .help = "comes back in the answer"                                \
	}

/* The ownership record, ids as text. */
struct api_line_record {
	uint32_t version;
	uint64_t generation, revision;
	enum ownership_mode mode;
	char owner[2 * OWNERSHIP_ID_BYTES + 1], backup[2 * OWNERSHIP_ID_BYTES + 1],
		from[2 * OWNERSHIP_ID_BYTES + 1];
};

struct api_line {
	struct api_request request;
	char command[32];
	char addresses[ADDRESSES_MAX + 1]; /* STEP_AT */
	char data[DATA_MAX +
		  1]; /* BREAK, CONTINUE: a value of 64 bits, as JSON's numbers hold none */
	char token[2 * MOVE_TOKEN_BYTES + 1]; /* MOVE_*, ARRIVE_* */
	/* PROTECT_*, BACKUP_*, ARBITER_* */
	char session[2 * OWNERSHIP_ID_BYTES + 1], dead[2 * OWNERSHIP_ID_BYTES + 1];
	struct api_line_record record;
};

/* Schemas over struct api_line. */
extern const struct schema api_move_token_schema, api_move_begin_schema, api_move_log_disk_schema,
	api_move_throttle_schema, api_move_stop_schema, api_move_save_schema, api_move_given_schema,
	api_move_ran_schema, api_arrive_load_schema, api_handover_give_schema,
	api_inherit_take_schema, api_arrive_wait_schema, api_protect_begin_schema,
	api_protect_epoch_schema, api_protect_acked_schema, api_protect_why_schema,
	api_backup_begin_schema, api_backup_apply_schema, api_arbiter_attach_schema,
	api_arbiter_swapped_schema, api_arbiter_stands_schema, api_protect_session_schema;

/* After the schema, what it leaves as text. The text was judged. */
void api_request_take_token(struct api_line *line);
_must_check_ int api_request_take_protect(struct api_line *line, struct error *err);
