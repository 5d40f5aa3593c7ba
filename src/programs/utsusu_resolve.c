/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu resolve: both hosts' truth about a VM that was handed over, and the operator's word. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "host/state_dir.h"
#include "move/marks.h"
#include "peer/door.h"
#include "peer/request.h"
#include "programs/json_text.h"
#include "programs/utsusu_resolve.h"

#define RESOLVE_MS 60000 /* the other host may have to be waited for */

static void print_side(const char *host, const json_t *side, const char *key)
{
	const char *error = json_string_value(json_object_get(side, "error"));

	if (error)
		printf("  %-14s does not answer: %s\n", host, error);
	else
		printf("  %-14s %s, %s: %s\n", host,
		       json_is_true(json_object_get(side, "vm"))      ? "a process of it is there"
		       : json_is_true(json_object_get(side, "moved")) ? "it has moved on from there"
								      : "no process of it is there",
		       key, json_text(side, key, "-"));
}

static void print_ways(const json_t *answer)
{
	const char *name = json_text(answer, "name", "-"), *peer = json_text(answer, "peer", "-");
	const json_t *there = json_object_get(answer, "there");

	if (json_is_false(json_object_get(there, "vm")) && !json_object_get(there, "moved") &&
	    strcmp(json_text(answer, "state", "-"), "there") == 0)
		printf("\nIt has ended there. To start it on this host again, and not on %s:\n"
		       "  utsusu resolve %s --run-here\n",
		       peer, name);
	if (!there)
		printf("\nIf no other host runs it:\n  utsusu resolve %s --run-here\n", name);
	if (!json_object_get(there, "error"))
		return;
	printf("\nOnly if %s is gone for good:\n"
	       "  utsusu resolve %s --run-here            it did not run there and never will; it is this "
	       "host's\n"
	       "  utsusu resolve %s --declare-lost-here   it runs there; it ends here\n"
	       "If %s does run there, --run-here makes two of it, and both write to its disks.\n",
	       peer, name, name, name);
}

static void print_answer(const json_t *answer)
{
	const json_t *there = json_object_get(answer, "there");
	const char *state = json_text(answer, "state", "-");

	printf("%s\n", json_text(answer, "message", "-"));
	print_side("this host", json_object_get(answer, "here"), "given");
	if (there)
		print_side(json_text(answer, "peer", "-"), there, "result");
	if (strcmp(state, "doubt") == 0 || strcmp(state, "there") == 0)
		print_ways(answer);
	if (strcmp(state, "not-taken") == 0)
		printf("\nIf it is to be this host's all the same, and no other host runs it:\n"
		       "  utsusu resolve %s --run-here\n",
		       json_text(answer, "name", "-"));
}

/* ---- one that was saved: for that no daemon is needed ---- */

/* Whether it is in a file, by the note of `utsusu save`. */
static bool is_saved(struct marks *marks, const char *name, struct mark_given *ret_given)
{
	return marks_read_given(marks, name, ret_given) == 1 && ret_given->result == MARK_RAN &&
	       mark_is_file(ret_given);
}

static void print_saved(const struct command_options *options, const struct mark_given *given,
			bool forgotten)
{
	json_auto_t *json = json_pack("{s:s, s:s, s:s}", "name", options->name, "state",
				      forgotten ? "none" : "saved", "file",
				      given->peer + strlen(MARK_FILE_PREFIX));
	_cleanup_(freep) char *text = options->json ? json_dumps(json, JSON_INDENT(2)) : NULL;

	if (options->json)
		puts(text ? text : "null");
	else if (forgotten)
		printf("%s may be started here; restore %s no more\n", options->name, given->peer);
	else
		printf("%s was saved in %s and is there\n\nOnly if that is never to be restored:\n"
		       "  utsusu resolve %s --run-here   it may be started here, from its disks\n",
		       options->name, given->peer, options->name);
}

/* 1: it was one, and was told of; 0: it is for the daemon. */
static int resolve_saved(const struct command_options *options, struct error *err)
{
	struct marks *marks = NULL;
	struct mark_given given;
	int r = state_dir_is_there() ? marks_open(&marks, err) : -ENOENT;

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	r = is_saved(marks, options->name, &given);
	if (r == 1 && options->lost_here)
		r = error_set(err, -EEXIST, EXIT_STATUS_USAGE,
			      "%s: there is nothing to declare: it was saved in %s and is there",
			      options->name, given.peer);
	if (r == 1 && options->run_here) {
		int settled = marks_settle_given(marks, options->name, given.token, MARK_NEVER);

		if (settled < 0)
			r = error_set(err, settled, EXIT_STATUS_HOST,
				      "%s: its mark cannot be removed: %s", options->name,
				      strerror(-settled));
	}
	if (r == 1)
		print_saved(options, &given, options->run_here);
	marks_close(marks);
	return r;
}

int resolve_vm(struct invocation *invocation)
{
	const struct command_options *options = &invocation->options;
	struct control_request request = { .command = CONTROL_RESOLVE };
	json_auto_t *answer = NULL;
	struct error err = { 0 };
	int r;

	if (options->lost_here && options->run_here) {
		(void)error_set(&err, -EINVAL, EXIT_STATUS_USAGE,
				"--declare-lost-here and --run-here say the opposite; give one");
		return tell(&err);
	}
	r = resolve_saved(options, &err);
	if (r == 0)
		r = resolve_protected(options, &err);
	if (r != 0)
		return r < 0 ? tell(&err) : EXIT_STATUS_OK;
	memcpy(request.name, options->name, LIMIT_NAME);
	request.word = options->lost_here  ? RESOLVE_LOST_HERE
		       : options->run_here ? RESOLVE_RUN_HERE
					   : RESOLVE_SHOW;
	if (door_call(control_request_encode(&request), -1, RESOLVE_MS, &answer, &err) < 0)
		return tell(&err);
	json_object_del(answer, "ok");
	if (options->json) {
		_cleanup_(freep) char *text = json_dumps(answer, JSON_INDENT(2));

		puts(text ? text : "null");
	} else {
		print_answer(answer);
	}
	return EXIT_STATUS_OK;
}
