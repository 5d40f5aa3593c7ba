/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/watch_options.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/runtime.h"

#define DAY_MS (24ULL * 3600 * 1000)
#define FILTER_MAX 1024

static int valid_name(const char *text, const char **ret_why)
{
	*ret_why = "is no name of a VM; utsusu list shows those there are";
	return runtime_name_valid(text) ? 0 : -EINVAL;
}

static int valid_set(const char *text, const char **ret_why)
{
	char *end;

	*ret_why = "is no value; write data=0x41 or data=65, at most 64 bits";
	if (strncmp(text, "data=", 5) != 0 || text[5] < '0' || text[5] > '9')
		return -EINVAL;
	errno = 0;
	(void)strtoull(text + 5, &end, 0);
	return errno || *end ? -EINVAL : 0;
}

static const char *const exports[] = { "perfetto", "ctf", "pcapng", "json", NULL };

#define ROW(type_, member) .type = type_, .offset = offsetof(struct watch_options, member)

#define SWITCH(key_, member, help_)                                                                \
	{                                                                                          \
		.key = key_, ROW(SCHEMA_BOOL, member), .value = "on", .help = help_                \
	}

#define TEXT(key_, member, max_, value_, help_)                                                    \
	{                                                                                          \
		.key = key_, ROW(SCHEMA_STRING, member), .min = 1, .max = max_, .value = value_,   \
		.help = help_                                                                      \
	}

static const struct schema_row rows[] = {
	{ .key = "name",
	  ROW(SCHEMA_CHARS, name),
	  .flags = SCHEMA_POSITIONAL,
	  .min = 1,
	  .max = LIMIT_NAME - 1,
	  .value = "NAME",
	  .valid = valid_name,
	  .help = "the VM's name; left out with --from" },
	SWITCH("follow", follow,
	       "a line for each request; so it is when the output is no terminal"),
	SWITCH("json", json, "a line of JSON for each request, or the report as JSON"),
	SWITCH("report", report,
	       "tell what the VM is bound by, its mix of requests, and what is odd"),
	{ .key = "window",
	  ROW(SCHEMA_DURATION, window_ms),
	  .min = 100,
	  .max = DAY_MS,
	  .value = "TIME",
	  .help = "report on each stretch of this length; otherwise one report on all" },
	SWITCH("web", web, "show a page on this machine; its address is printed"),
	{ .key = "port",
	  ROW(SCHEMA_UINT, port),
	  .min = 1,
	  .max = 65535,
	  .value = "N",
	  .help = "the page's port; otherwise any that is free" },
	{ .key = "export",
	  ROW(SCHEMA_ENUM, format),
	  .names = exports,
	  .value = "FORMAT",
	  .help = "write the requests for another tool, to --output" },
	TEXT("output", output, PATH_MAX - 1, "PATH",
	     "where --export writes; ctf makes a directory"),
	TEXT("record", record, PATH_MAX - 1, "FILE", "write the requests to a file, for --from"),
	{ .key = "rotate",
	  ROW(SCHEMA_SIZE, rotate),
	  .min = MIB(1),
	  .max = GIB(1024),
	  .step = 1,
	  .value = "SIZE",
	  .help = "begin another file of the recording when one has this size" },
	{ .key = "files",
	  ROW(SCHEMA_UINT, files),
	  .min = 1,
	  .max = 1000000,
	  .value = "N",
	  .help = "keep so many files of the recording, and delete older ones" },
	TEXT("from", from, PATH_MAX - 1, "FILE", "look at a recording instead of a VM"),
	SWITCH("post-mortem", post_mortem, "the last requests of a watched VM that died"),
	TEXT("filter", filter, FILTER_MAX - 1, "FILTER",
	     "only these requests, such as 'dev==serial && out'; docs/filters.md tells all"),
	{ .key = "break",
	  ROW(SCHEMA_STRING, stop),
	  .max = FILTER_MAX - 1,
	  .value = "FILTER",
	  .help = "stop the VM on each of these requests, show it, and ask how to go on" },
	{ .key = "set",
	  ROW(SCHEMA_STRING, set),
	  .min = 1,
	  .max = 25,
	  .value = "data=VALUE",
	  .valid = valid_set,
	  .help = "with --break: do not stop, put this value in place of the request's" },
	SWITCH("drop", drop, "with --break: do not stop, keep the request from the device"),
	SWITCH("fail", fail, "with --break: do not stop, let the request fail"),
	{ .key = "delay",
	  ROW(SCHEMA_DURATION, delay_ms),
	  .min = 1,
	  .max = 10000,
	  .value = "TIME",
	  .help = "with --break: do not stop, let the request wait" },
	SWITCH("dump", dump, "with --break: do not stop, show the request with registers and code"),
	TEXT("symbols", symbols, PATH_MAX - 1, "FILE[@OFFSET]",
	     "names for the guest's code: vmlinux, a module, System.map or a copy of kallsyms"),
	SWITCH("registers", registers, "a second line with the registers, with --follow"),
	SWITCH("all", all, "doorbells too, which KVM takes otherwise; slower"),
	SWITCH("exact", exact, "prove each instruction: see the vCPU come to it, and step it"),
	SWITCH("lossless", lossless, "lose no request: the guest waits for this command"),
	SWITCH("history", history, "begin with what was recorded before, as far as it is there"),
	{ .key = "count",
	  ROW(SCHEMA_UINT, count),
	  .min = 1,
	  .max = UINT32_MAX,
	  .value = "N",
	  .help = "end after so many requests that the filter lets through" },
	{ .key = "for",
	  ROW(SCHEMA_DURATION, for_ms),
	  .min = 1,
	  .max = 366 * DAY_MS,
	  .value = "TIME",
	  .help = "end after this time" },
};

const struct schema watch_schema = { rows, ARRAY_SIZE(rows), sizeof(struct watch_options), 0 };

bool watch_given(const struct watch_options *options, const char *key)
{
	const struct schema_row *row = schema_find(&watch_schema, key);

	if (!row || !(options->given >> (row - rows) & 1))
		return false;
	/* --no-json is as if nothing was said. */
	return row->type != SCHEMA_BOOL || *((const bool *)((const char *)options + row->offset));
}

/* Of these, one at most: what is done with the requests. */
static const char *const views[] = {
	"follow", "json", "report", "web", "export", "record", "break"
};

struct pair {
	const char *key, *other;
};

/* A report may be JSON, and so may hits of a breakpoint. */
static bool may_be_json(const char *one, const char *other)
{
	return strcmp(one, "json") == 0 &&
	       (strcmp(other, "report") == 0 || strcmp(other, "break") == 0);
}

static const struct pair excluded[] = {
	{ "from", "name" },
	{ "from", "post-mortem" },
	{ "from", "all" },
	{ "from", "exact" },
	{ "from", "lossless" },
	{ "from", "history" },
	{ "from", "for" },
	{ "post-mortem", "all" },
	{ "post-mortem", "exact" },
	{ "post-mortem", "lossless" },
	{ "post-mortem", "history" },
	{ "post-mortem", "for" },
	{ "web", "count" },
	{ "break", "from" },
	{ "break", "post-mortem" },
	{ "break", "filter" },
	{ "break", "history" },
	{ "set", "drop" },
	{ "set", "fail" },
	{ "set", "delay" },
	{ "set", "dump" },
	{ "drop", "fail" },
	{ "drop", "delay" },
	{ "drop", "dump" },
	{ "fail", "delay" },
	{ "fail", "dump" },
	{ "delay", "dump" },
	{ "registers", "json" },
	{ "registers", "report" },
	{ "registers", "web" },
	{ "registers", "export" },
	{ "registers", "record" },
};

static const struct pair needed[] = {
	{ "window", "report" }, { "port", "web" },	{ "output", "export" },
	{ "export", "output" }, { "rotate", "record" }, { "files", "rotate" },
	{ "set", "break" },	{ "drop", "break" },	{ "fail", "break" },
	{ "delay", "break" },	{ "dump", "break" },
};

static void name_option(const char *key, char *ret_text, size_t size)
{
	const struct schema_row *row = schema_find(&watch_schema, key);

	if (row->flags & SCHEMA_POSITIONAL)
		snprintf(ret_text, size, "%s", row->value);
	else
		snprintf(ret_text, size, "--%s", key);
}

static size_t add_problem(struct problems *problems, const char *text)
{
	struct error err = { 0 };

	error_set(&err, -EINVAL, EXIT_STATUS_USAGE, "%s", text);
	problems_add(problems, &err);
	return 1;
}

static size_t exclude(const struct watch_options *options, const char *key, const char *other,
		      struct problems *problems)
{
	char text[200], one[64], two[64];

	if (!watch_given(options, key) || !watch_given(options, other))
		return 0;
	name_option(key, one, sizeof(one));
	name_option(other, two, sizeof(two));
	snprintf(text, sizeof(text), "%s: does not go with %s; keep one of them", one, two);
	return add_problem(problems, text);
}

static size_t need(const struct watch_options *options, const struct pair *pair,
		   struct problems *problems)
{
	char text[200], usage[64] = "";
	const struct schema_row *row = schema_find(&watch_schema, pair->other);

	if (!watch_given(options, pair->key) || watch_given(options, pair->other))
		return 0;
	if (row->type != SCHEMA_BOOL)
		schema_usage(row, usage, sizeof(usage));
	snprintf(text, sizeof(text), "--%s: needs --%s; give --%s%s%s", pair->key, pair->other,
		 pair->other, usage[0] ? " " : "", usage);
	return add_problem(problems, text);
}

size_t watch_check(const struct watch_options *options, struct problems *problems)
{
	size_t count = 0;

	if (!watch_given(options, "name") && !watch_given(options, "from"))
		count += add_problem(problems,
				     "NAME: is missing; give the VM's name, or --from FILE");
	for (size_t i = 0; i < ARRAY_SIZE(views); i++)
		for (size_t j = i + 1; j < ARRAY_SIZE(views); j++)
			if (!may_be_json(views[i], views[j]))
				count += exclude(options, views[i], views[j], problems);
	for (size_t i = 0; i < ARRAY_SIZE(excluded); i++)
		count += exclude(options, excluded[i].key, excluded[i].other, problems);
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		count += need(options, &needed[i], problems);
	return count;
}
