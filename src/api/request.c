/* SPDX-License-Identifier: Apache-2.0 */
#include "api/request.h"

#include <errno.h>
#include <string.h>

#include "api/suggest.h"
#include "base/macros.h"
#include "vm/measure.h"

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
};

static const struct schema_row plain_rows[] = { COMMON_ROWS };

static const struct schema_row stop_rows[] = {
	COMMON_ROWS,
	{ .key = "timeout",
	  .type = SCHEMA_DURATION,
	  .offset = offsetof(struct api_line, request.timeout),
	  .min = 0,
	  .max = 3600 * 1000,
	  .value = "TIME",
	  .fallback = "30s",
	  .help = "how long the guest has after its power button was pressed" },
	{ .key = "force",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct api_line, request.force),
	  .value = "true",
	  .help = "end the VM at once" },
};

static const struct schema_row measure_rows[] = {
	COMMON_ROWS,
	{ .key = "rounds",
	  .type = SCHEMA_UINT,
	  .offset = offsetof(struct api_line, request.rounds),
	  .min = 1,
	  .max = MEASURE_ROUNDS_MAX,
	  .value = "N",
	  .fallback = "100",
	  .help = "how many checkpoints" },
	{ .key = "touched",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct api_line, request.touched),
	  .value = "true",
	  .help = "save only devices that were touched since the checkpoint before" },
	{ .key = "dirty",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct api_line, request.dirty),
	  .value = "true",
	  .help = "log the guest's writes meanwhile, and collect them in each checkpoint" },
};

static const struct schema plain_schema = { plain_rows, ARRAY_SIZE(plain_rows),
					    sizeof(struct api_line) };
static const struct schema stop_schema = { stop_rows, ARRAY_SIZE(stop_rows),
					   sizeof(struct api_line) };

static const struct schema measure_schema = { measure_rows, ARRAY_SIZE(measure_rows),
					      sizeof(struct api_line) };

const struct api_command_row api_commands[API_COMMANDS] = {
	[API_STATUS] = { "status", &plain_schema, "name, state, process, time since the start" },
	[API_INFO] = { "info", &plain_schema, "the status and the whole configuration" },
	[API_PAUSE] = { "pause", &plain_schema, "stop the vCPUs; devices stand still" },
	[API_RESUME] = { "resume", &plain_schema, "let them go on" },
	[API_POWER_BUTTON] = { "power-button", &plain_schema, "press the ACPI power button once" },
	[API_RESET] = { "reset", &plain_schema, "as the machine's reset button" },
	[API_STOP] = { "stop", &stop_schema,
		       "press the power button, and end the VM by force later" },
	[API_EVENTS] = { "events", &plain_schema, "tell from now on what happens to the VM" },
	[API_MEASURE] = { "measure", &measure_schema,
			  "how long a checkpoint without memory takes, while the guest works" },
};

static int find_command(const char *name, enum api_command *ret_command, struct error *err)
{
	struct suggest near;

	suggest_init(&near, name);
	for (int i = 0; i < API_COMMANDS; i++) {
		suggest_offer(&near, api_commands[i].name);
		if (strcmp(api_commands[i].name, name) != 0)
			continue;
		*ret_command = (enum api_command)i;
		return 0;
	}
	if (near.best)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "command: '%.40s' is unknown; did you mean '%s'?", name,
				 near.best);
	return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
			 "command: '%.40s' is unknown; see utsusu(1) for all of them", name);
}

static int decode_line(struct api_line *line, const json_t *json, struct error *err)
{
	struct problems problems = { 0 };
	struct schema_source source = { .file = "request", .problems = &problems };
	const char *name = json_string_value(json_object_get(json, "command"));
	const char *id = json_string_value(json_object_get(json, "id"));
	enum api_command command = API_STATUS;
	int r;

	if (id && strlen(id) <= API_REQUEST_ID_MAX)
		memcpy(line->request.id, id, strlen(id) + 1);
	if (!name)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "command: is missing; give {\"command\": \"status\"} or another");
	r = find_command(name, &command, err);
	if (r < 0)
		return r;
	schema_init(api_commands[command].schema, line);
	line->request.command = command;
	if (schema_decode_json(api_commands[command].schema, line, json, &source) == 0)
		return 0;
	*err = problems.list[0];
	return err->code;
}

int api_request_decode(const char *text, size_t len, struct api_request *ret_request,
		       struct error *err)
{
	struct api_line line = { 0 };
	json_error_t where;
	json_auto_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
	int r;

	memset(ret_request, 0, sizeof(*ret_request));
	if (!json)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "request:%d: is no JSON object: %s; send one object on each line",
				 where.column, where.text);
	r = decode_line(&line, json, err);
	*ret_request = line.request;
	return r;
}
