/* SPDX-License-Identifier: Apache-2.0 */
/* --help, from the tables of commands and of the configuration. */
#include <stdio.h>
#include <string.h>

#include "api/config.h"
#include "base/macros.h"
#include "programs/utsusu.h"

#define TEXT_COLUMN 30
#define WIDTH 100

int show_version(struct invocation *invocation _unused_)
{
	puts("utsusu " UTSUSU_VERSION);
	return EXIT_STATUS_OK;
}

int help_overview(void)
{
	puts("utsusu runs virtual machines on Linux's KVM.\n\nusage: utsusu COMMAND [ARGUMENT...]\n");
	for (size_t i = 0; i < n_commands; i++)
		printf("  %-9s %-11s %s\n", commands[i].name, commands[i].arguments,
		       commands[i].summary);
	puts("\nutsusu help COMMAND tells all options of a command. Exit statuses: 0 done, 1 failed, 2 wrong\n"
	     "use, 3 this machine lacks something, 4 a file, disk or network cannot be used, 5 in use, 6 no\n"
	     "such VM, 7 the guest failed.");
	return EXIT_STATUS_OK;
}

/* Words from `column` on, broken at WIDTH; the cursor stands at `at`. */
static void print_wrapped(const char *text, int column, int at)
{
	while (*text) {
		int len = (int)strcspn(text, " \n");

		if (at > column && at + 1 + len > WIDTH) {
			printf("\n%*s", column, "");
			at = column;
		} else if (at > column) {
			putchar(' ');
			at++;
		}
		printf("%.*s", len, text);
		at += len;
		text += len;
		if (*text == '\n') {
			putchar('\n');
			at = column;
		}
		if (*text)
			text++;
	}
}

static void print_option(const char *option, const char *help, const char *fallback)
{
	char text[400];

	snprintf(text, sizeof(text), "%s%s%s%s", help, fallback ? " (default: " : "",
		 fallback ? fallback : "", fallback ? ")" : "");
	printf("  %-*s", TEXT_COLUMN - 2, option);
	if (strlen(option) >= TEXT_COLUMN - 2)
		printf("\n%*s", TEXT_COLUMN, "");
	print_wrapped(text, TEXT_COLUMN, TEXT_COLUMN);
	putchar('\n');
}

/* What a row takes is said where its name does not. */
static void print_group_row(const struct schema_row *row)
{
	char key[64], text[400], takes[160];

	schema_describe(row, takes, sizeof(takes));
	snprintf(key, sizeof(key), "    %s", row->key);
	snprintf(text, sizeof(text), "%s: %s", row->help, takes);
	print_option(key, text, row->fallback);
}

static void print_row(const struct schema_row *row)
{
	char option[400], usage[300] = "";

	if (row->type != SCHEMA_BOOL)
		schema_usage(row, usage, sizeof(usage));
	if (row->flags & SCHEMA_POSITIONAL)
		snprintf(option, sizeof(option), "%s", row->value);
	else if (row->type == SCHEMA_BOOL && row->fallback && strcmp(row->fallback, "on") == 0)
		snprintf(option, sizeof(option), "--no-%s", row->key);
	else
		snprintf(option, sizeof(option), "--%s%s%s", row->key, usage[0] ? " " : "", usage);
	if (row->type == SCHEMA_BOOL && row->fallback && strcmp(row->fallback, "on") == 0)
		snprintf(usage, sizeof(usage), "leave out: %s", row->help);
	else
		snprintf(usage, sizeof(usage), "%s", row->help);
	print_option(option, usage, row->type == SCHEMA_BOOL ? NULL : row->fallback);
	for (size_t i = 0; row->group && i < row->group->n_rows; i++)
		print_group_row(&row->group->rows[i]);
}

static void print_rows(const struct schema *schema)
{
	for (size_t i = 0; i < schema->n_rows; i++)
		print_row(&schema->rows[i]);
}

int help_command(const struct command *command)
{
	printf("utsusu %s: %s\n\nusage: utsusu %s%s%s [OPTION...]\n\n", command->name,
	       command->summary, command->name, command->arguments[0] ? " " : "",
	       command->arguments);
	if (command->about[0]) {
		print_wrapped(command->about, 0, 0);
		putchar('\n');
	}
	if (command_settings(command))
		print_rows(command_settings(command));
	print_rows(command->options);
	return EXIT_STATUS_OK;
}

int show_help(struct invocation *invocation)
{
	const struct command *command;

	if (!invocation->rest[0])
		return help_overview();
	command = command_find(invocation->rest[0]);
	return command ? help_command(command) : EXIT_STATUS_USAGE;
}
