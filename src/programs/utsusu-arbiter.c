/* SPDX-License-Identifier: Apache-2.0 */
/*
 * utsusu-arbiter: the only program of utsusu that speaks HTTP. Asks the arbiter (docs/arbiter.md) who may run a VM, for the VM's process,
 * which decides what to do with the answer.
 *
 *   utsusu-arbiter --vm NAME       the relay of one VM, until that ends; started by utsusud
 *   utsusu-arbiter --check         whether the arbiter can be asked from here: utsusu arbiter check
 *   utsusu-arbiter --record UUID   what stands there of one VM, as JSON: utsusu resolve
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "api/args.h"
#include "base/cleanup.h"
#include "host/runtime.h"
#include "programs/arbiter_host.h"

struct options {
	bool help, check, json;
	char vm[LIMIT_NAME];
	char record[UUID_TEXT];
};

static int valid_name(const char *text, const char **ret_why)
{
	*ret_why = "is no name of a VM; utsusu list shows those there are";
	return runtime_name_valid(text) ? 0 : -EINVAL;
}

static int valid_uuid(const char *text, const char **ret_why)
{
	*ret_why = "is no UUID; give 36 characters";
	return uuid_valid(text) ? 0 : -EINVAL;
}

static const struct schema_row rows[] = {
	{ .key = "vm",
	  .type = SCHEMA_CHARS,
	  .offset = offsetof(struct options, vm),
	  .min = 1,
	  .max = LIMIT_NAME - 1,
	  .valid = valid_name,
	  .value = "NAME",
	  .help = "the VM to ask for, as long as it runs" },
	{ .key = "check",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct options, check),
	  .value = "on",
	  .help = "tell whether the arbiter can be asked from here" },
	{ .key = "record",
	  .type = SCHEMA_CHARS,
	  .offset = offsetof(struct options, record),
	  .min = 1,
	  .max = UUID_TEXT - 1,
	  .valid = valid_uuid,
	  .value = "UUID",
	  .help = "tell what stands there of one VM" },
	{ .key = "json",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct options, json),
	  .value = "on",
	  .help = "answer in JSON" },
	{ .key = "help",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct options, help),
	  .value = "on",
	  .help = "show this and do nothing" },
};
static const struct schema schema = { rows, ARRAY_SIZE(rows), sizeof(struct options), 0 };

static int show_help(void)
{
	puts("usage: utsusu-arbiter --vm NAME | --check [--json] | --record UUID\n\n"
	     "Asks the arbiter that host.json names. Started by utsusud and utsusu.\n");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		printf("  --%-8s %-6s %s\n", rows[i].key,
		       rows[i].type == SCHEMA_BOOL ? "" : rows[i].value, rows[i].help);
	return EXIT_STATUS_OK;
}

static int run(const struct options *options)
{
	if (options->help)
		return show_help();
	if (options->check)
		return arbiter_check(options->json);
	if (options->record[0])
		return arbiter_show(options->record);
	if (options->vm[0])
		return arbiter_relay(options->vm);
	fprintf(stderr, "utsusu-arbiter: give --vm, --check or --record\n");
	return EXIT_STATUS_USAGE;
}

int main(int argc _unused_, char **argv)
{
	struct options options;
	struct args_target target = { .schema = &schema, .object = &options };
	struct args args = { .targets = &target, .n_targets = 1, .command = "utsusu-arbiter" };
	struct problems problems = { 0 };
	int status;

	signal(SIGPIPE, SIG_IGN);
	schema_init(&schema, &options);
	if (args_decode(&args, argv + 1, &problems)) {
		fprintf(stderr, "utsusu-arbiter: %s\n", problems.list[0].message);
		return problems.list[0].status;
	}
	status = run(&options);
	if (fflush(stdout) == EOF && !status)
		status = EXIT_STATUS_FAILED;
	return status;
}
