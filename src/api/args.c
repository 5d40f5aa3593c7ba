/* SPDX-License-Identifier: Apache-2.0 */
#include "api/args.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/macros.h"
#include "base/suggest.h"

#define KEY_MAX 64

/* Where the decoder stands. */
struct args_reader {
	struct args *args;
	char **next;
	size_t n_rest;
	struct problems *problems;
};

_printf_(2, 3) static size_t problem(struct args_reader *reader, const char *format, ...)
{
	struct error err = { 0 };
	char text[ERROR_MESSAGE_MAX];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	error_set(&err, -EINVAL, EXIT_STATUS_USAGE, "%s", text);
	problems_add(reader->problems, &err);
	return 1;
}

bool args_given(const struct args_target *target, const char *key)
{
	const struct schema_row *row = schema_find(target->schema, key);

	return row && (target->given >> (row - target->schema->rows) & 1);
}

static const struct schema_row *find_row(struct args *args, const char *key,
					 struct args_target **ret_target)
{
	for (size_t i = 0; i < args->n_targets; i++) {
		const struct schema_row *row = schema_find(args->targets[i].schema, key);

		if (!row)
			continue;
		*ret_target = &args->targets[i];
		return row;
	}
	return NULL;
}

static size_t unknown_option(struct args_reader *reader, const char *key)
{
	struct suggest near;

	suggest_init(&near, key);
	for (size_t i = 0; i < reader->args->n_targets; i++)
		for (size_t j = 0; j < reader->args->targets[i].schema->n_rows; j++)
			suggest_offer(&near, reader->args->targets[i].schema->rows[j].key);
	if (near.best)
		return problem(reader, "--%.60s: unknown option; did you mean --%s?", key,
			       near.best);
	return problem(reader, "--%.60s: unknown option; see utsusu %s --help", key,
		       reader->args->command);
}

static size_t set_value(struct args_reader *reader, struct args_target *target,
			const struct schema_row *row, const char *text)
{
	uint64_t bit = 1ULL << (row - target->schema->rows);
	struct schema_source source = { .problems = reader->problems };
	bool again = target->given & bit;

	if (again && row->type != SCHEMA_LIST)
		return problem(reader, "--%s: is given twice; keep one", row->key);
	target->given |= bit;
	return schema_decode_text(row, target->object, text, !again, &source);
}

/* "--no-rng": the row, when it is a switch. */
static const struct schema_row *find_negated(struct args *args, const char *key,
					     struct args_target **ret_target)
{
	const struct schema_row *row;

	if (strncmp(key, "no-", 3) != 0)
		return NULL;
	row = find_row(args, key + 3, ret_target);
	return row && row->type == SCHEMA_BOOL ? row : NULL;
}

static size_t take_option(struct args_reader *reader, const char *option)
{
	const char *equals = strchr(option, '=');
	size_t len = equals ? (size_t)(equals - option) : strlen(option);
	struct args_target *target;
	const struct schema_row *row;
	char usage[160];
	char key[KEY_MAX];

	snprintf(key, sizeof(key), "%.*s", (int)MIN(len, sizeof(key)), option);
	row = find_row(reader->args, key, &target);
	if (!row) {
		row = equals ? NULL : find_negated(reader->args, key, &target);
		return row ? set_value(reader, target, row, "off") : unknown_option(reader, key);
	}
	if (equals)
		return set_value(reader, target, row, equals + 1);
	if (row->type == SCHEMA_BOOL)
		return set_value(reader, target, row, "on");
	if (*reader->next)
		return set_value(reader, target, row, *reader->next++);
	schema_usage(row, usage, sizeof(usage));
	return problem(reader, "--%s: has no value; give --%s %s", key, key, usage);
}

/* The next positional row that has no value yet. */
static size_t take_argument(struct args_reader *reader, char *text)
{
	struct args *args = reader->args;

	for (size_t i = 0; i < args->n_targets; i++)
		for (size_t j = 0; j < args->targets[i].schema->n_rows; j++) {
			const struct schema_row *row = &args->targets[i].schema->rows[j];

			if ((row->flags & SCHEMA_POSITIONAL) && !(args->targets[i].given >> j & 1))
				return set_value(reader, &args->targets[i], row, text);
		}
	if (!args->takes_rest)
		return problem(reader, "'%.60s': is one argument too many; see utsusu %s --help",
			       text, args->command);
	/* Never overtakes the reader: so many words have been read. */
	args->rest[reader->n_rest++] = text;
	return 0;
}

static size_t check_required(struct args_reader *reader)
{
	size_t problems = 0;

	for (size_t i = 0; i < reader->args->n_targets; i++) {
		const struct schema *schema = reader->args->targets[i].schema;

		for (size_t j = 0; j < schema->n_rows; j++)
			if ((schema->rows[j].flags & SCHEMA_REQUIRED) &&
			    !(reader->args->targets[i].given >> j & 1))
				problems += problem(reader, "%s: is missing; give %s",
						    schema->rows[j].value, schema->rows[j].help);
	}
	return problems;
}

size_t args_decode(struct args *args, char **argv, struct problems *problems)
{
	struct args_reader reader = { .args = args, .next = argv, .problems = problems };
	bool only_arguments = false;
	size_t count = 0;

	args->rest = argv;
	while (*reader.next) {
		char *word = *reader.next++;

		if (only_arguments || word[0] != '-' || !word[1])
			count += take_argument(&reader, word);
		else if (strcmp(word, "--") == 0)
			only_arguments = true;
		else if (strcmp(word, "-h") == 0)
			count += take_option(&reader, "help");
		else if (word[1] == '-')
			count += take_option(&reader, word + 2);
		else
			count += problem(&reader, "%.60s: unknown option; options begin with --",
					 word);
	}
	if (args->takes_rest)
		args->rest[reader.n_rest] = NULL;
	return count + check_required(&reader);
}
