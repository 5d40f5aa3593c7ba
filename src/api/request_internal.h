/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the decoders of requests share: request.c, and request_move.c for what a mover asks. */

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

struct api_line {
	struct api_request request;
	char command[32];
	char addresses[ADDRESSES_MAX + 1]; /* STEP_AT */
	char data[DATA_MAX +
		  1]; /* BREAK, CONTINUE: a value of 64 bits, as JSON's numbers hold none */
	char token[2 * MOVE_TOKEN_BYTES + 1]; /* MOVE_*, ARRIVE_* */
};

/* Schemas over struct api_line. */
extern const struct schema api_move_token_schema, api_move_begin_schema, api_move_log_disk_schema,
	api_move_throttle_schema, api_move_stop_schema, api_move_save_schema, api_move_given_schema,
	api_move_ran_schema, api_arrive_load_schema, api_handover_give_schema,
	api_inherit_take_schema, api_arrive_wait_schema;

/* After the schema, what it leaves as text. The text was judged. */
void api_request_take_token(struct api_line *line);
