/* SPDX-License-Identifier: Apache-2.0 */
#include "api/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/request_internal.h"
#include "base/macros.h"
#include "base/suggest.h"
#include "vm/measure.h"

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

const char *const api_watch_modes[] = {
	[STORE_OFF] = "off",
	[STORE_NORMAL] = "normal",
	[STORE_ALL] = "all",
	NULL,
};

static const struct schema_row watch_rows[] = {
	COMMON_ROWS,
	{ .key = "mode",
	  .type = SCHEMA_ENUM,
	  .offset = offsetof(struct api_line, request.watch.mode),
	  .names = api_watch_modes,
	  .value = "MODE",
	  .fallback = "normal",
	  .help = "all: doorbells that KVM would take are recorded too" },
	{ .key = "lossless",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct api_line, request.watch.lossless),
	  .value = "true",
	  .help = "the guest waits for readers that follow" },
	{ .key = "exact",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct api_line, request.watch.exact),
	  .value = "true",
	  .help = "instructions are single-stepped" },
};

const char *const api_stop_actions[STOP_ACTIONS + 1] = {
	[STOP_STOP] = "stop", [STOP_SET] = "set",     [STOP_DROP] = "drop",
	[STOP_FAIL] = "fail", [STOP_DELAY] = "delay", [STOP_DUMP] = "dump",
};

static int valid_data(const char *text, const char **ret_why)
{
	char *end;

	*ret_why = "is no value; write 0x41 or 65, at most 64 bits";
	errno = 0;
	(void)strtoull(text, &end, 0);
	return errno || *end || end == text || text[0] == '-' ? -EINVAL : 0;
}

#define DATA_ROW(help_)                                                                            \
	{                                                                                          \
		.key = "data", .type = SCHEMA_CHARS, .offset = offsetof(struct api_line, data),    \
		.min = 1, .max = DATA_MAX, .value = "VALUE", .valid = valid_data, .help = help_    \
	}

static const struct schema_row break_rows[] = {
	COMMON_ROWS,
	{ .key = "filter",
	  .type = SCHEMA_CHARS,
	  .offset = offsetof(struct api_line, request.stop.filter),
	  .max = FILTER_TEXT_MAX,
	  .value = "FILTER",
	  .help = "which requests" },
	{ .key = "action",
	  .type = SCHEMA_ENUM,
	  .offset = offsetof(struct api_line, request.stop.action),
	  .names = api_stop_actions,
	  .value = "ACTION",
	  .fallback = "stop",
	  .help = "what happens to them" },
	DATA_ROW("set: the value in place of theirs"),
	{ .key = "delay",
	  .type = SCHEMA_DURATION,
	  .offset = offsetof(struct api_line, request.stop.delay_ms),
	  .max = STOP_DELAY_MAX_MS,
	  .value = "TIME",
	  .help = "delay: how long" },
	{ .key = "count",
	  .type = SCHEMA_UINT,
	  .offset = offsetof(struct api_line, request.stop.count),
	  .max = UINT32_MAX,
	  .value = "N",
	  .help = "how many of them; 0: all" },
};

static const struct schema_row step_at_rows[] = {
	COMMON_ROWS,
	{ .key = "addresses",
	  .type = SCHEMA_CHARS,
	  .offset = offsetof(struct api_line, addresses),
	  .max = ADDRESSES_MAX,
	  .value = "0xADDRESS[,...]",
	  .help = "of instructions; none: nowhere" },
};

static const struct schema_row continue_rows[] = {
	COMMON_ROWS,
	{ .key = "step",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct api_line, request.answer.step),
	  .value = "true",
	  .help = "stop again at the next request, whatever it is" },
	{ .key = "drop",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct api_line, request.answer.drop),
	  .value = "true",
	  .help = "the device is not to see this one" },
	DATA_ROW("go on with this value in place of the request's"),
};

static const struct schema plain_schema = { plain_rows, ARRAY_SIZE(plain_rows),
					    sizeof(struct api_line) };
static const struct schema stop_schema = { stop_rows, ARRAY_SIZE(stop_rows),
					   sizeof(struct api_line) };

static const struct schema measure_schema = { measure_rows, ARRAY_SIZE(measure_rows),
					      sizeof(struct api_line) };

static const struct schema break_schema = { break_rows, ARRAY_SIZE(break_rows),
					    sizeof(struct api_line) };
static const struct schema step_at_schema = { step_at_rows, ARRAY_SIZE(step_at_rows),
					      sizeof(struct api_line) };
static const struct schema continue_schema = { continue_rows, ARRAY_SIZE(continue_rows),
					       sizeof(struct api_line) };
static const struct schema watch_schema = { watch_rows, ARRAY_SIZE(watch_rows),
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
	[API_WATCH] = { "watch", &watch_schema,
			"record the guest's requests until this connection ends; the keeper gives the store" },
	[API_STEP_AT] = { "step-at", &step_at_schema,
			  "single-step these instructions, for a watch with exact" },
	[API_BREAK] = { "break", &break_schema,
			"stop on requests, or change them, until this connection ends; it hears of each" },
	[API_CONTINUE] = { "continue", &continue_schema, "go on after a stop on a request" },
	[API_MOVE_FACTS] = { "move-facts", &plain_schema, "what a mover needs to know of the VM" },
	[API_MOVE_CHECK] = { "move-check", &plain_schema, "what forbids a move now" },
	[API_MOVE_BEGIN] = { "move-begin", &api_move_begin_schema,
			     "log what is written from now on" },
	[API_MOVE_COLLECT] = { "move-collect", &plain_schema, "tell what was written" },
	[API_MOVE_LOG_DISK] = { "move-log-disk", &api_move_log_disk_schema,
				"log what is written to a disk" },
	[API_MOVE_THROTTLE] = { "move-throttle", &api_move_throttle_schema, "slow the vCPUs" },
	[API_MOVE_STOP] = { "move-stop", &api_move_stop_schema,
			    "finish all disk requests, and stand still" },
	[API_MOVE_SAVE] = { "move-save", &api_move_save_schema,
			    "write the state into the shared file" },
	[API_MOVE_CANCEL] = { "move-cancel", &plain_schema, "run on as if nothing had been" },
	[API_MOVE_GIVEN] = { "move-given", &api_move_given_schema,
			     "mark durably that the VM is given away" },
	[API_MOVE_NEVER] = { "move-never", &api_move_token_schema,
			     "it never ran there: run on here" },
	[API_MOVE_RAN] = { "move-ran", &api_move_ran_schema, "it runs there: end here" },
	[API_ARRIVE_BEGIN] = { "arrive-begin", &api_move_begin_schema,
			       "a mover will load this VM" },
	[API_ARRIVE_LOAD] = { "arrive-load", &api_arrive_load_schema,
			      "load the state from the shared file, or rehearse that" },
	[API_ARRIVE_RENEW] = { "arrive-renew", &plain_schema,
			       "make what two VMs must not share new" },
	[API_ARRIVE_ANNOUNCE] = { "arrive-announce", &plain_schema,
				  "tell the networks that the VM will run here" },
	[API_ARRIVE_DEMAND] = { "arrive-demand", &plain_schema,
				"let memory come while the VM runs" },
	[API_ARRIVE_FILLED] = { "arrive-filled", &plain_schema, "all memory has come" },
	[API_ARRIVE_COMMIT] = { "arrive-commit", &plain_schema,
				"run, unless the move was closed before" },
	[API_ARRIVE_ABANDON] = { "arrive-abandon", &plain_schema,
				 "end, unless a mover has it or it may have run" },
	[API_UPGRADE_CHECK] = { "upgrade-check", &plain_schema, "what forbids an upgrade now" },
	[API_HANDOVER_BEGIN] = { "handover-begin", &api_move_token_schema,
				 "send what is open to a new version of the program" },
	[API_HANDOVER_GIVE] = { "handover-give", &api_handover_give_schema,
				"stand still and write the state: the new version may run it" },
	[API_INHERIT_BEGIN] = { "inherit-begin", &api_move_token_schema,
				"this new version will be given the VM" },
	[API_INHERIT_TAKE] = { "inherit-take", &api_inherit_take_schema,
			       "load the state and run, unless the old version goes on" },
	[API_ARRIVE_WAIT] = { "arrive-wait", &api_arrive_wait_schema,
			      "stand as long as memory does not come" },
	[API_PROTECT_FACTS] = { "protect-facts", &plain_schema, "what its protection is" },
	[API_PROTECT_CHECK] = { "protect-check", &plain_schema, "what forbids to protect it now" },
	[API_PROTECT_BEGIN] = { "protect-begin", &api_protect_begin_schema,
				"a guard gives a backup a copy from now on" },
	[API_PROTECT_COLLECT] = { "protect-collect", &plain_schema, "tell what was written" },
	[API_PROTECT_GATE] = { "protect-gate", &plain_schema,
			       "hold what is put out until a backup has its state" },
	[API_PROTECT_CUT] = { "protect-cut", &api_protect_epoch_schema,
			      "end an epoch: copy what it changed" },
	[API_PROTECT_ACKED] = { "protect-acked", &api_protect_acked_schema,
				"the backup has an epoch" },
	[API_PROTECT_END] = { "protect-end", &api_protect_why_schema, "the copy is lost" },
	[API_PROTECT_OFF] = { "protect-off", &plain_schema, "be protected no longer" },
	[API_PROTECT_FAILOVER] = { "protect-failover", &plain_schema,
				   "go on on the backup's host" },
	[API_BACKUP_BEGIN] = { "backup-begin", &api_backup_begin_schema,
			       "a guard keeps this VM ready to go on for its owner" },
	[API_BACKUP_WHOLE] = { "backup-whole", &api_protect_epoch_schema,
			       "an epoch is here, whole and durable" },
	[API_BACKUP_SUSPECT] = { "backup-suspect", &api_protect_why_schema,
				 "the owner is silent, or a failover is wanted" },
	[API_BACKUP_PREPARED] = { "backup-prepared", &plain_schema,
				  "all that can fail in a take-over is done" },
	[API_BACKUP_APPLY] = { "backup-apply", &api_backup_apply_schema,
			       "load the last state and run, output held" },
	[API_BACKUP_FAILED] = { "backup-failed", &api_protect_why_schema,
				"it cannot be taken over" },
	[API_ARBITER_ATTACH] = { "arbiter-attach", &api_arbiter_attach_schema,
				 "a relay asks the arbiter for this VM from now on" },
	[API_ARBITER_SWAPPED] = { "arbiter-swapped", &api_arbiter_swapped_schema,
				  "what became of a swap" },
	[API_ARBITER_STANDS] = { "arbiter-stands", &api_arbiter_stands_schema,
				 "what the record says now" },
	[API_PROTECT_GIVE] = { "protect-give", &plain_schema, "end for good: the backup goes on" },
	[API_PROTECT_ENDED] = { "protect-ended", &api_protect_session_schema,
				"the other side of this copy says that it has ended" },
	[API_BACKUP_RECORD] = { "backup-record", &api_arbiter_stands_schema,
				"what the owner's host says the record is" },
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

static int take_addresses(struct api_line *line, struct error *err)
{
	const char *text = line->addresses;

	while (*text) {
		char *end;

		if (line->request.n_addresses == MONITOR_STEPS)
			break;
		line->request.addresses[line->request.n_addresses++] = strtoull(text, &end, 16);
		if (end == text || (*end && *end != ','))
			break;
		text = *end ? end + 1 : end;
	}
	if (!*text)
		return 0;
	return error_set(
		err, -EINVAL, EXIT_STATUS_USAGE,
		"addresses: '%.40s' is no list of at most %u addresses; write 0x1000,0x2000", text,
		MONITOR_STEPS);
}

static int take_data(struct api_line *line, struct error *err)
{
	uint64_t data = strtoull(line->data, NULL, 0);

	if (line->request.command == API_BREAK && line->request.stop.action == STOP_SET &&
	    !line->data[0])
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "data: is missing; the action 'set' needs a value");
	line->request.stop.data = data;
	line->request.answer.data = data;
	line->request.answer.set = line->data[0] != '\0';
	return take_addresses(line, err);
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
	if (schema_decode_json(api_commands[command].schema, line, json, &source) == 0) {
		api_request_take_token(line);
		r = api_request_take_protect(line, err);
		return r < 0 ? r : take_data(line, err);
	}
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
