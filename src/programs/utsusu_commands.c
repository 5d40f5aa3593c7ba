/* SPDX-License-Identifier: Apache-2.0 */
/* THE table of commands and their options. --help, the manual and the completion are made from it.
 */
#include "api/config.h"
#include "host/runtime.h"
#include "programs/utsusu.h"

#include <errno.h>
#include <limits.h>

static int valid_name(const char *text, const char **ret_why)
{
	*ret_why = "is no name of a VM; utsusu list shows those there are";
	return runtime_name_valid(text) ? 0 : -EINVAL;
}

#define ROW(type_, member) .type = type_, .offset = offsetof(struct command_options, member)

#define HELP_ROW                                                                                   \
	{                                                                                          \
		.key = "help", ROW(SCHEMA_BOOL, help), .value = "on",                              \
		.help = "show this and do nothing"                                                 \
	}

#define NAME_ROW                                                                                   \
	{                                                                                          \
		.key = "name", ROW(SCHEMA_CHARS, name),                                            \
		.flags = SCHEMA_POSITIONAL | SCHEMA_REQUIRED, .min = 1, .max = LIMIT_NAME - 1,     \
		.value = "NAME", .valid = valid_name, .help = "the VM's name"                      \
	}

#define JSON_ROW                                                                                   \
	{                                                                                          \
		.key = "json", ROW(SCHEMA_BOOL, json), .value = "on", .help = "answer in JSON"     \
	}

static const struct schema_row plain_rows[] = { HELP_ROW };
static const struct schema_row json_rows[] = { JSON_ROW, HELP_ROW };
static const struct schema_row name_rows[] = { NAME_ROW, HELP_ROW };
static const struct schema_row name_json_rows[] = { NAME_ROW, JSON_ROW, HELP_ROW };

static const struct schema_row run_rows[] = {
	{ .key = "config",
	  ROW(SCHEMA_STRING, config),
	  .min = 1,
	  .max = PATH_MAX - 1,
	  .value = "FILE",
	  .help = "a JSON file with any of these keys; options replace what it says" },
	{ .key = "check",
	  ROW(SCHEMA_BOOL, check),
	  .value = "on",
	  .help = "list all that stands against running it, and run nothing" },
	JSON_ROW,
	HELP_ROW,
};

static const struct schema_row stop_rows[] = {
	NAME_ROW,
	{ .key = "timeout",
	  ROW(SCHEMA_DURATION, timeout),
	  .max = 3600 * 1000,
	  .value = "TIME",
	  .fallback = "30s",
	  .help = "how long the guest may take before it is ended by force" },
	{ .key = "force",
	  ROW(SCHEMA_BOOL, force),
	  .value = "on",
	  .help = "by force at once, like pulling the plug" },
	HELP_ROW,
};

static const struct schema_row baseline_rows[] = {
	{ .key = "show",
	  ROW(SCHEMA_BOOL, show),
	  .value = "on",
	  .help = "print what this machine can give a guest, for use elsewhere" },
	JSON_ROW,
	HELP_ROW,
};

#define SCHEMA(rows)                                                                               \
	{                                                                                          \
		rows, ARRAY_SIZE(rows), sizeof(struct command_options), 0                          \
	}

static const struct schema plain_schema = SCHEMA(plain_rows);
static const struct schema json_schema = SCHEMA(json_rows);
static const struct schema name_schema = SCHEMA(name_rows);
static const struct schema name_json_schema = SCHEMA(name_json_rows);
static const struct schema run_schema = SCHEMA(run_rows);
static const struct schema baseline_schema = SCHEMA(baseline_rows);
static const struct schema stop_schema = SCHEMA(stop_rows);

const struct command commands[] = {
	{ .name = "run",
	  .arguments = "[NAME]",
	  .summary = "run a VM",
	  .about =
		  "Checks everything first: what is wrong is told in one line, and nothing is made. The VM "
		  "then runs in the foreground, its console on the terminal (Ctrl-] ends it), or with --detach "
		  "in the background.\n"
		  "Grouped values are written KEY=VALUE with commas between them; a comma inside a value is "
		  "doubled. A switch inside a group may be given alone: readonly is readonly=on. Options "
		  "replace what --config FILE says, key by key; --disk and --net replace its whole list. In the "
		  "file, keys are those of the options: {\"kernel\": \"vmlinuz\", \"cpus\": {\"count\": 2}, "
		  "\"memory\": \"1G\", \"disk\": [{\"path\": \"root.img\"}], \"net\": [{\"user\": true}]}.\n",
	  .options = &run_schema,
	  .configures = true,
	  .run = run_vm },
	{ .name = "list",
	  .arguments = "",
	  .summary = "show the VMs of this user on this machine",
	  .about =
		  "A VM that failed is shown as dead until its name is used again or it is stopped; one "
		  "that does not answer as silent.\n",
	  .options = &json_schema,
	  .run = list_vms },
	{ .name = "info",
	  .arguments = "NAME",
	  .summary = "show one VM: its state and what it was made of",
	  .about = "",
	  .options = &name_json_schema,
	  .run = show_info },
	{ .name = "console",
	  .arguments = "NAME",
	  .summary = "attach this terminal to a VM's console",
	  .about =
		  "Shows what was printed last, then passes all keys to the guest but Ctrl-], which detaches. "
		  "The VM goes on.\n",
	  .options = &name_schema,
	  .run = attach_console },
	{ .name = "pause",
	  .arguments = "NAME",
	  .summary = "stop a VM's processors for a while",
	  .about = "The guest does not notice, except by clocks outside of it.\n",
	  .options = &name_schema,
	  .run = pause_vm },
	{ .name = "resume",
	  .arguments = "NAME",
	  .summary = "let a paused VM go on",
	  .about = "",
	  .options = &name_schema,
	  .run = resume_vm },
	{ .name = "stop",
	  .arguments = "NAME",
	  .summary = "press a VM's power button, and end it by force if that does not help",
	  .about =
		  "Shows how long it still waits. A guest that is starting may not listen to its power button "
		  "yet: it is then pressed again each second. The deadline holds even when this command is "
		  "interrupted.\n",
	  .options = &stop_schema,
	  .run = stop_vm },
	{ .name = "doctor",
	  .arguments = "",
	  .summary = "tell what this machine can do for VMs",
	  .about =
		  "For each thing that is missing: what follows from it, and how to get it. The exit status is 3 "
		  "when no VM could run.\n",
	  .options = &json_schema,
	  .run = run_doctor },
	{ .name = "cpu-baseline",
	  .arguments = "[FILE...]",
	  .summary = "find the CPU model that several machines have in common",
	  .about =
		  "Each FILE is what `utsusu cpu-baseline --show` printed on one machine; without any, this machine "
		  "alone is judged. Says which --cpus model runs on all of them, and what each lacks for a better "
		  "one.\n",
	  .options = &baseline_schema,
	  .takes_rest = true,
	  .run = compute_baseline },
	{ .name = "version",
	  .arguments = "",
	  .summary = "print the version",
	  .about = "",
	  .options = &plain_schema,
	  .run = show_version },
	{ .name = "help",
	  .arguments = "[COMMAND]",
	  .summary = "explain a command",
	  .about = "",
	  .options = &plain_schema,
	  .takes_rest = true,
	  .run = show_help },
};

const size_t n_commands = ARRAY_SIZE(commands);
