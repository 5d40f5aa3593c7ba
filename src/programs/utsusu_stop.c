/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu stop: the power button, a deadline that is shown, then force. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <unistd.h>

#include "api/client.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "host/runtime.h"
#include "programs/utsusu.h"

#define LOOK_MS 100
#define END_GRACE_MS 10000 /* after force: closing disks may take a moment */

DEFINE_CLEANUP(struct api_connection, api_connection_free, connection_freep)

static uint64_t now_ms(void)
{
	return clock_now(&clock_host) / NSEC_PER_MSEC;
}

static int ask_stop(const struct command_options *options, bool *ret_heard, struct error *err)
{
	_cleanup_(connection_freep) struct api_connection *connection = NULL;
	json_auto_t *answer = NULL;
	char timeout[32];
	int r = api_connect(options->name, &connection, err);

	if (r < 0)
		return r;
	snprintf(timeout, sizeof(timeout), "%" PRIu64 "ms", options->timeout);
	r = api_call(connection,
		     json_pack("{s:s, s:s, s:b}", "command", "stop", "timeout", timeout, "force",
			       (int)options->force),
		     &answer, err);
	if (r < 0)
		return r;
	*ret_heard = json_is_true(json_object_get(answer, "button"));
	return 0;
}

/* On a terminal one line counts down; elsewhere one line says it once. */
static void show_wait(const struct command_options *options, bool heard, uint64_t left_ms,
		      bool first)
{
	const char *who = heard ? "waiting for the guest to power off"
				: "the guest does not listen to its power button yet";

	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\x1b[K%s: %s; by force in %" PRIu64 " s", options->name, who,
			(left_ms + 999) / 1000);
	else if (first)
		fprintf(stderr, "%s: %s; by force in %" PRIu64 " s\n", options->name, who,
			(left_ms + 999) / 1000);
}

static bool wait_until_gone(const struct command_options *options, bool heard, uint64_t due_ms)
{
	bool first = true;

	while (runtime_alive(options->name) > 0) {
		uint64_t now = now_ms();

		if (now >= due_ms + END_GRACE_MS)
			return false;
		if (now < due_ms)
			show_wait(options, heard, due_ms - now, first);
		first = false;
		usleep(LOOK_MS * 1000);
	}
	return true;
}

/* A VM that died is not to be stopped; what it left goes. A living one keeps its name, and is told so. */
static bool sweep_dead(const char *name)
{
	struct runtime_vm vm;

	if (!runtime_is_dead(name) || runtime_claim(name, &vm, NULL) < 0)
		return false;
	runtime_release(&vm);
	printf("%s: was dead already; what it left is removed\n", name);
	return true;
}

int stop_vm(struct invocation *invocation)
{
	const struct command_options *options = &invocation->options;
	uint64_t due_ms = now_ms() + (options->force ? 0 : options->timeout);
	struct error err = { 0 };
	bool heard = false, gone, forced;
	int r;

	if (sweep_dead(options->name))
		return EXIT_STATUS_OK;
	r = ask_stop(options, &heard, &err);
	/* A VM that is gone before it answers has stopped as well. */
	if (r < 0 && r != -ECONNRESET)
		return tell(&err);
	gone = wait_until_gone(options, r == 0 && heard, due_ms);
	forced = now_ms() >= due_ms;
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r\x1b[K");
	if (gone) {
		printf("%s: stopped%s\n", options->name, forced ? " by force" : "");
		return EXIT_STATUS_OK;
	}
	err = (struct error){ 0 };
	error_set(&err, -ETIMEDOUT, EXIT_STATUS_FAILED,
		  "%s: its process has not ended; kill it: utsusu info %s shows its pid",
		  options->name, options->name);
	return tell(&err);
}
