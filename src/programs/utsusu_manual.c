/* SPDX-License-Identifier: Apache-2.0 */
/* The manual page and the completion of bash, from the same tables as --help. */
#include <stdio.h>
#include <string.h>

#include "api/config.h"
#include "api/request.h"
#include "programs/utsusu.h"

/* Text for roff: a backslash and a leading dot or quote mean something there. */
static void print_roff(const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", stdout);
	for (; *text; text++) {
		if (*text == '\\')
			fputs("\\e", stdout);
		else if (*text == '-')
			fputs("\\-", stdout);
		else
			putchar(*text);
		if (*text == '\n' && text[1])
			fputs(".PP\n", stdout);
	}
}

static void print_tagged(const char *tag, const char *text)
{
	fputs(".TP\n.B ", stdout);
	print_roff(tag);
	putchar('\n');
	print_roff(text);
	putchar('\n');
}

static void manual_group_row(const struct schema_row *row)
{
	char takes[160], text[400];

	schema_describe(row, takes, sizeof(takes));
	snprintf(text, sizeof(text), "%s: %s%s%s.", row->help, takes,
		 row->fallback ? "; default: " : "", row->fallback ? row->fallback : "");
	print_tagged(row->key, text);
}

static void manual_row(const struct schema_row *row)
{
	char usage[300] = "", tag[400], text[400];
	bool on = row->type == SCHEMA_BOOL && row->fallback && strcmp(row->fallback, "on") == 0;
	bool told = row->fallback && row->type != SCHEMA_BOOL;

	if (row->type != SCHEMA_BOOL)
		schema_usage(row, usage, sizeof(usage));
	if (row->flags & SCHEMA_POSITIONAL)
		snprintf(tag, sizeof(tag), "%s", row->value);
	else
		snprintf(tag, sizeof(tag), "--%s%s%s%s", on ? "no-" : "", row->key,
			 usage[0] ? " " : "", usage);
	snprintf(text, sizeof(text), "%s%s%s%s.", on ? "leave out: " : "", row->help,
		 told ? "; default: " : "", told ? row->fallback : "");
	print_tagged(tag, text);
	if (!row->group)
		return;
	puts(".RS");
	for (size_t i = 0; i < row->group->n_rows; i++)
		manual_group_row(&row->group->rows[i]);
	puts(".RE");
}

static void manual_command(const struct command *command)
{
	const struct schema *settings = command_settings(command);

	printf(".SS utsusu %s %s\n", command->name, command->arguments);
	print_roff(command->summary);
	puts(".\n.PP");
	print_roff(command->about);
	for (size_t i = 0; settings && i < settings->n_rows; i++)
		manual_row(&settings->rows[i]);
	for (size_t i = 0; i < command->options->n_rows; i++)
		manual_row(&command->options->rows[i]);
}

/* A command's own parameters: the common ones are told once. */
static void manual_request(const struct api_command_row *command)
{
	print_tagged(command->name, command->help);
	puts(".RS");
	for (size_t i = 0; i < command->schema->n_rows; i++) {
		const struct schema_row *row = &command->schema->rows[i];

		if (strcmp(row->key, "command") != 0 && strcmp(row->key, "id") != 0)
			manual_group_row(row);
	}
	puts(".RE");
}

static const struct {
	const char *status, *meaning;
} statuses[] = {
	{ "0", "done" },
	{ "1", "something went wrong while running" },
	{ "2", "the command line or the configuration is wrong" },
	{ "3", "this machine lacks something: /dev/kvm, a right, memory" },
	{ "4", "a named file, disk or network cannot be used" },
	{ "5", "the name or a disk is in use by another VM" },
	{ "6", "there is no such VM" },
	{ "7", "the guest failed" },
};

int help_manual(void)
{
	puts(".TH UTSUSU 1 \"\" \"utsusu " UTSUSU_VERSION "\" \"User Commands\"\n"
	     ".SH NAME\nutsusu \\- run virtual machines on KVM\n"
	     ".SH SYNOPSIS\n.B utsusu\n.I COMMAND\n[\\fIARGUMENT\\fR...]\n"
	     ".SH DESCRIPTION\n"
	     "Each VM is a process of its own; no daemon is needed. Every command answers\n"
	     ".BR \\-\\-help .\n"
	     ".SH COMMANDS");
	for (size_t i = 0; i < n_commands; i++)
		manual_command(&commands[i]);
	puts(".SH SOCKET\n"
	     "The UNIX socket of a VM takes one JSON object on each line from its user and from root, and\n"
	     "answers each with one line: {\"ok\": true, ...} or {\"error\": {\"message\", \"status\"}}.\n"
	     "An \"id\" comes back in the answer. Commands:");
	for (size_t i = 0; i < API_COMMANDS; i++)
		manual_request(&api_commands[i]);
	puts(".SH EXIT STATUS");
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		print_tagged(statuses[i].status, statuses[i].meaning);
	puts(".SH ENVIRONMENT");
	print_tagged("UTSUSU_RUNTIME_DIR",
		     "where the VMs' names, locks and sockets are; /run/utsusu for root and "
		     "$XDG_RUNTIME_DIR/utsusu for others when not set");
	puts(".SH FILES");
	print_tagged(
		"NAME/socket, NAME/console, NAME/lock, NAME/log, NAME/requests",
		"in that directory: the VM's socket, its console, its life, what a detached VM had to say, and the "
		"last requests of a watched VM that died");
	return EXIT_STATUS_OK;
}

static void completion_words(const struct schema *schema)
{
	for (size_t i = 0; i < schema->n_rows; i++) {
		const struct schema_row *row = &schema->rows[i];
		bool on = row->type == SCHEMA_BOOL && row->fallback &&
			  strcmp(row->fallback, "on") == 0;

		if (!(row->flags & SCHEMA_POSITIONAL))
			printf(" --%s%s", on ? "no-" : "", row->key);
	}
}

static void completion_keys(const struct schema_row *row)
{
	printf("\t--%s) words=\"", row->key);
	for (size_t i = 0; row->group && i < row->group->n_rows; i++) {
		const struct schema_row *inner = &row->group->rows[i];
		bool bare = inner->type == SCHEMA_BOOL && (inner->flags & SCHEMA_CHOICE);

		printf("%s%s%s", i ? " " : "", inner->key, bare ? "" : "=");
	}
	for (size_t i = 0; row->names && row->names[i]; i++)
		printf("%s%s", i ? " " : "", row->names[i]);
	puts("\" ;;");
}

static bool takes_file(const struct schema_row *row)
{
	return row->value &&
	       (strncmp(row->value, "FILE", 4) == 0 || strcmp(row->value, "PATH") == 0);
}

static void completion_values(const struct schema *schema)
{
	for (size_t i = 0; i < schema->n_rows; i++) {
		const struct schema_row *row = &schema->rows[i];

		if (row->group || row->names)
			completion_keys(row);
		else if (takes_file(row))
			printf("\t--%s) files=1 ;;\n", row->key);
	}
}

/* Words of the present command: its options, and VMs' names where it takes one. */
static void completion_command(const struct command *command)
{
	const struct schema *settings = command_settings(command);
	bool named = schema_find(command->options, "name") || command->watches;

	printf("\t%s) words=\"", command->name);
	if (settings)
		completion_words(settings);
	completion_words(command->options);
	printf("%s\" ;;\n", named ? " $(utsusu list 2>/dev/null | awk 'NR > 1 { print $1 }')" : "");
}

int help_completion(void)
{
	puts("# bash completion for utsusu; made by utsusu --bash-completion\n"
	     "_utsusu()\n{\n"
	     "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= files=\n"
	     "\tlocal stem=\n"
	     "\tif [[ $COMP_CWORD == 1 ]]; then\n\t\twords=\"");
	for (size_t i = 0; i < n_commands; i++)
		printf("%s ", commands[i].name);
	puts("\"\n\telse\n\tcase $prev in");
	completion_values(&config_schema);
	completion_values(&watch_schema);
	puts("\t--config) files=1 ;;");
	puts("\t*)\n\tcase ${COMP_WORDS[1]} in");
	for (size_t i = 0; i < n_commands; i++)
		completion_command(&commands[i]);
	puts("\tesac ;;\n\tesac\n\tfi\n"
	     "\tif [[ $files ]]; then\n\t\tcompopt -o default\n\t\tCOMPREPLY=()\n\t\treturn\n\tfi\n"
	     "\tif [[ $prev == --* && $cur == *,* ]]; then\n\t\tstem=${cur%,*},\n\tfi\n"
	     "\tcompopt -o nosort\n"
	     "\t[[ $words == *= || $words == *=\\ * ]] && compopt -o nospace\n"
	     "\tmapfile -t COMPREPLY < <(compgen -P \"$stem\" -W \"$words\" -- \"${cur#\"$stem\"}\")\n"
	     "}\n"
	     "complete -F _utsusu utsusu");
	return EXIT_STATUS_OK;
}
