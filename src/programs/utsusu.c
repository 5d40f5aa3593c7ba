/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu: runs VMs on this machine and tells them what to do. Holds nothing itself: each VM is a
 * process. */
#include "programs/utsusu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/args.h"
#include "api/config.h"
#include "base/cleanup.h"
#include "base/suggest.h"

int tell(const struct error *err)
{
	fprintf(stderr, "utsusu: %s\n", err->message);
	return err->status;
}

const struct command *command_find(const char *name)
{
	struct suggest near;

	suggest_init(&near, name);
	for (size_t i = 0; i < n_commands; i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
		suggest_offer(&near, commands[i].name);
	}
	if (near.best)
		fprintf(stderr, "utsusu: '%.40s': unknown command; did you mean %s?\n", name,
			near.best);
	else
		fprintf(stderr, "utsusu: '%.40s': unknown command; see utsusu help\n", name);
	return NULL;
}

const struct schema *command_settings(const struct command *command)
{
	if (command->configures)
		return &config_schema;
	return command->watches ? &watch_schema : NULL;
}

static size_t count_words(char **words)
{
	size_t n = 0;

	while (words[n])
		n++;
	return n;
}

static size_t decode_once(struct invocation *invocation, char **argv, struct problems *problems)
{
	const struct command *command = invocation->command;
	struct args_target targets[] = {
		{ .schema = command->options, .object = &invocation->options },
		{ .schema = command_settings(command) },
	};
	struct args args = {
		.targets = targets,
		.n_targets = targets[1].schema ? 2 : 1,
		.command = command->name,
		.takes_rest = command->takes_rest,
	};
	size_t count;

	schema_init(command->options, &invocation->options);
	if (command->configures)
		targets[1].object = invocation->config;
	if (command->watches) {
		schema_init(&watch_schema, &invocation->watch);
		targets[1].object = &invocation->watch;
	}
	count = args_decode(&args, argv, problems);
	invocation->watch.given = command->watches ? targets[1].given : 0;
	invocation->rest = args.rest;
	return count;
}

/* A configuration file comes before the options that override it: its name is looked for first. */
static void read_config(struct invocation *invocation, char **argv)
{
	_cleanup_(freep) char **copy = calloc(count_words(argv) + 1, sizeof(*copy));
	_cleanup_(freep) struct problems *ignored = calloc(1, sizeof(*ignored));
	char *path;

	if (!copy || !ignored)
		return;
	memcpy(copy, argv, count_words(argv) * sizeof(*copy));
	decode_once(invocation, copy, ignored);
	path = TAKE_PTR(invocation->options.config);
	vm_config_release(invocation->config);
	if (path)
		config_read_file(invocation->config, path, invocation->problems);
	free(path);
}

static int invoke(struct invocation *invocation, char **argv)
{
	const struct command *command = invocation->command;

	if (command->configures)
		read_config(invocation, argv);
	decode_once(invocation, argv, invocation->problems);
	if (invocation->options.help)
		return help_command(command);
	/* A command that configures a VM may list all of its problems at once. */
	if (invocation->problems->count && !command->configures)
		return tell(&invocation->problems->list[0]);
	return command->run(invocation);
}

static int run_command(const struct command *command, char **argv)
{
	_cleanup_(freep) struct vm_config *config = calloc(1, sizeof(*config));
	_cleanup_(freep) struct problems *problems = calloc(1, sizeof(*problems));
	struct invocation invocation = {
		.command = command, .config = config, .problems = problems, .words = argv
	};
	int status;

	if (!config || !problems) {
		fprintf(stderr, "utsusu: out of memory; free some and try again\n");
		return EXIT_STATUS_HOST;
	}
	vm_config_init(config);
	status = invoke(&invocation, argv);
	schema_release(command->options, &invocation.options);
	schema_release(&watch_schema, &invocation.watch);
	vm_config_release(config);
	return status;
}

/* Output that could not be written is a failure, not silence. */
static int finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "utsusu: standard output: cannot be written; see where it goes\n");
	return status ? status : EXIT_STATUS_FAILED;
}

int main(int argc, char **argv)
{
	const struct command *command;

	if (argc < 2) {
		fprintf(stderr, "utsusu: COMMAND: is missing; see utsusu help\n");
		return EXIT_STATUS_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return finish(help_overview());
	if (strcmp(argv[1], "--man") == 0)
		return finish(help_manual());
	if (strcmp(argv[1], "--bash-completion") == 0)
		return finish(help_completion());
	command = command_find(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
	return command ? finish(run_command(command, argv + 2)) : EXIT_STATUS_USAGE;
}
