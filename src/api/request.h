/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a VM's socket understands. One JSON object on each line, both ways:
 *
 *   -> {"command": "stop", "timeout": "30s", "id": "7"}
 *   <- {"ok": true, "id": "7", "button": true}
 *   <- {"error": {"message": "...", "status": 2}, "id": "7"}
 *   <- {"event": "paused"}                                      after the command "events"
 *
 * A request is decoded wholly into a plain struct before anything is done.
 */

#include "api/schema.h"

#define API_REQUEST_ID_MAX 64

enum api_command {
	API_STATUS,
	API_INFO,
	API_PAUSE,
	API_RESUME,
	API_POWER_BUTTON,
	API_RESET,
	API_STOP,
	API_EVENTS,
	API_MEASURE,
	API_COMMANDS,
};

struct api_request {
	enum api_command command;
	char id[API_REQUEST_ID_MAX + 1]; /* comes back in the answer; "" when not given */
	uint64_t timeout;		 /* STOP: milliseconds until force */
	bool force;			 /* STOP: at once */
	uint32_t rounds;		 /* MEASURE: checkpoints */
	bool dirty;			 /* MEASURE: with the dirty log */
	bool touched;			 /* MEASURE: only what was touched */
};

/* One row for each command; the table is indexed by enum api_command. */
struct api_command_row {
	const char *name;
	const struct schema *schema; /* its parameters, over struct api_request */
	const char *help;
};

extern const struct api_command_row api_commands[API_COMMANDS];

/* Decodes one line without its newline. 0, or -EINVAL with the first problem in `err`; the id is
 * decoded as far as the line allows, so that an error can carry it. */
_must_check_ int api_request_decode(const char *line, size_t len, struct api_request *ret_request,
				    struct error *err);
