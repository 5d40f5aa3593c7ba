/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu list, info, pause, resume: what there is, and short words with one VM. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/client.h"
#include "base/cleanup.h"
#include "host/runtime.h"
#include "programs/json_text.h"
#include "programs/utsusu.h"

#define CHANGE_NAPS 40
#define CHANGE_NAP_NS (50 * NSEC_PER_MSEC)

DEFINE_CLEANUP(struct api_connection, api_connection_free, connection_freep)

static int ask(const char *name, const char *command, json_t **ret_answer, struct error *err)
{
	_cleanup_(connection_freep) struct api_connection *connection = NULL;
	int r = api_connect(name, &connection, err);

	if (r < 0)
		return r;
	return api_call(connection, json_pack("{s:s}", "command", command), ret_answer, err);
}

static void print_json(const json_t *json)
{
	_cleanup_(freep) char *text = json_dumps(json, JSON_INDENT(2));

	puts(text ? text : "null");
}

/* What stands in the list for a VM that cannot be asked. */
static json_t *silent_entry(const struct runtime_entry *entry, const struct error *err)
{
	char words[256];

	if (entry->alive)
		return json_pack("{s:s, s:s, s:s}", "name", entry->name, "state", "silent",
				 "message", err->message);
	runtime_why_dead(entry->name, words, sizeof(words));
	/* No text, when it is none: a log may hold anything. */
	return json_pack("{s:s, s:s, s:o*}", "name", entry->name, "state", "dead", "message",
			 words[0] ? json_string(words) : NULL);
}

/* Nobody listens where a process holds the name: it begins or ends just now. 0 with what it then says; -ESRCH: it is gone. */
static int ask_again(const char *name, json_t **ret_answer, struct error *err)
{
	const struct timespec nap = { .tv_nsec = CHANGE_NAP_NS };
	int r = -ECONNREFUSED;

	for (int i = 0; i < CHANGE_NAPS && (r == -ECONNREFUSED || r == -ECONNRESET); i++) {
		nanosleep(&nap, NULL);
		if (runtime_alive(name) == 0 && !runtime_is_dead(name))
			return -ESRCH;
		*err = (struct error){ 0 };
		r = ask(name, "info", ret_answer, err);
	}
	return r;
}

static int collect(void *ctx, const struct runtime_entry *entry)
{
	struct error err = { 0 };
	json_t *answer = NULL;
	int r = entry->alive ? ask(entry->name, "info", &answer, &err) : -ESRCH;

	if (r == -ECONNREFUSED || r == -ECONNRESET || (r < 0 && entry->alive && r == -ENOENT)) {
		r = ask_again(entry->name, &answer, &err);
		if (r == -ESRCH)
			return 0;
	}
	if (r < 0)
		answer = silent_entry(entry, &err);
	json_object_del(answer, "ok");
	return json_array_append_new(ctx, answer);
}

static void format_uptime(const json_t *vm, char *ret_text, size_t size)
{
	uint64_t s = (uint64_t)json_integer_value(json_object_get(vm, "uptime_ms")) / 1000;

	if (!json_object_get(vm, "uptime_ms"))
		snprintf(ret_text, size, "-");
	else if (s < 3600)
		snprintf(ret_text, size, "%" PRIu64 ":%02" PRIu64, s / 60, s % 60);
	else
		snprintf(ret_text, size, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, s / 3600,
			 s / 60 % 60, s % 60);
}

static void print_row(const json_t *vm)
{
	const json_t *config = json_object_get(vm, "config");
	const json_t *cpus = json_object_get(json_object_get(config, "cpus"), "count");
	const json_t *pid = json_object_get(vm, "pid");
	const char *message = json_string_value(json_object_get(vm, "message"));
	const char *paused_by = json_string_value(json_object_get(vm, "paused_by"));
	const char *given_to = json_string_value(json_object_get(vm, "given_to"));
	char uptime[40], count[24] = "-", process[24] = "-";

	format_uptime(vm, uptime, sizeof(uptime));
	if (cpus)
		snprintf(count, sizeof(count), "%d", (int)json_integer_value(cpus));
	if (pid)
		snprintf(process, sizeof(process), "%d", (int)json_integer_value(pid));
	if (!message && paused_by)
		message = paused_by;
	if (!message && given_to)
		message = given_to;
	printf("%-20s %-9s %8s %5s %7s %9s%s%s\n", json_text(vm, "name", "-"),
	       json_text(vm, "state", "-"), process, count,
	       json_text(json_object_get(config, "memory"), "size", "-"), uptime,
	       message ? "  " : "", message ? message : "");
}

int list_vms(struct invocation *invocation)
{
	json_auto_t *list = json_array();
	struct error err = { 0 };
	int r = runtime_list(collect, list, &err);
	const json_t *vm;
	size_t i;

	if (r < 0) {
		error_set(&err, r, EXIT_STATUS_FAILED, "list: %s; try again", strerror(-r));
		return tell(&err);
	}
	if (invocation->options.json) {
		print_json(list);
		return EXIT_STATUS_OK;
	}
	printf("%-20s %-9s %8s %5s %7s %9s\n", "NAME", "STATE", "PROCESS", "VCPUS", "MEMORY",
	       "UPTIME");
	json_array_foreach(list, i, vm) print_row(vm);
	return EXIT_STATUS_OK;
}

/* "key: value" lines, objects and lists indented below their key. */
static void print_indented(const json_t *json, int depth)
{
	const char *key;
	json_t *value;
	size_t i;

	json_array_foreach((json_t *)json, i, value)
	{
		printf("%*s%zu:\n", depth * 2, "", i);
		print_indented(value, depth + 1);
	}
	json_object_foreach((json_t *)json, key, value)
	{
		_cleanup_(freep) char *text = json_dumps(value, JSON_ENCODE_ANY);

		if (json_is_object(value) || json_is_array(value)) {
			printf("%*s%s:\n", depth * 2, "", key);
			print_indented(value, depth + 1);
		} else {
			printf("%*s%s: %s\n", depth * 2, "", key,
			       json_is_string(value) ? json_string_value(value) : text);
		}
	}
}

int show_info(struct invocation *invocation)
{
	json_auto_t *answer = NULL;
	struct error err = { 0 };

	if (ask(invocation->options.name, "info", &answer, &err) < 0)
		return tell(&err);
	json_object_del(answer, "ok");
	if (invocation->options.json)
		print_json(answer);
	else
		print_indented(answer, 0);
	return EXIT_STATUS_OK;
}

static int command_only(struct invocation *invocation, const char *command)
{
	json_auto_t *answer = NULL;
	struct error err = { 0 };

	return ask(invocation->options.name, command, &answer, &err) < 0 ? tell(&err)
									 : EXIT_STATUS_OK;
}

int pause_vm(struct invocation *invocation)
{
	return command_only(invocation, "pause");
}

int resume_vm(struct invocation *invocation)
{
	return command_only(invocation, "resume");
}
