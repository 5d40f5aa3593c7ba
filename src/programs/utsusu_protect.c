/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu protect, failover: a backup on another host, and its turn. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "host/runtime.h"
#include "peer/door.h"
#include "peer/request.h"
#include "programs/json_text.h"
#include "programs/utsusu_errand.h"
#include "programs/utsusu_status.h"

#define WORD_MS 10000
#define WISH_STEPS 100
#define STEP_NS (100 * NSEC_PER_MSEC)
#define RECORD_STEPS 150
#define OFF_STEPS 150	   /* the arbiter must agree */
#define FAILOVER_STEPS 600 /* one more epoch, and two swaps */

static bool is_protected(const json_t *line)
{
	return strcmp(json_text(line, "phase", ""), "protected") == 0 ||
	       strcmp(json_text(line, "end", ""), "protected") == 0;
}

static void print_nothing(const struct errand *errand _unused_)
{
}

/* "auto", or a duration. */
static int take_latency(const struct command_options *options, uint64_t *ret_ms, struct error *err)
{
	static const struct schema_row row = {
		.key = "latency", .type = SCHEMA_DURATION, .min = 1, .max = PROTECT_LATENCY_MAX_MS
	};
	struct problems problems = { 0 };
	const struct schema_source source = { .problems = &problems };

	*ret_ms = 0;
	if (strcmp(options->latency, "auto") == 0 ||
	    !schema_decode_text(&row, ret_ms, options->latency, false, &source))
		return 0;
	*err = problems.list[0];
	return -EINVAL;
}

static void nap(void)
{
	const struct timespec step = { .tv_nsec = STEP_NS };

	nanosleep(&step, NULL);
}

/* A line whenever it is another one. */
static void say(const char *name, const char *words, char *said, size_t size)
{
	if (!words[0] || strcmp(words, said) == 0)
		return;
	snprintf(said, size, "%s", words);
	fprintf(stderr, "%s: waits for %s\n", name, words);
}

/* The guards are done; it is the record that counts. */
static int wait_for_record(const struct command_options *options)
{
	const char *name = options->name;
	char said[200] = "";
	struct error err = { 0 };
	int r = 0;

	for (int i = 0; r == 0 && i < RECORD_STEPS; i++) {
		json_auto_t *facts = NULL;

		if (i)
			nap();
		r = status_ask(name, "protect-facts", &facts, &err);
		if (r == 0 && status_says(facts, "mode", "protected")) {
			if (options->json)
				puts("{\"end\":\"protected\"}");
			else
				printf("%s is protected by %s; see utsusu status %s\n", name,
				       options->host, name);
			return EXIT_STATUS_OK;
		}
		if (i > 10)
			say(name, json_text(facts, "waits_for", ""), said, sizeof(said));
	}
	if (r == 0)
		(void)error_set(&err, -ETIMEDOUT, EXIT_STATUS_FAILED,
				"%s: its backup is whole, and the arbiter has not agreed yet; see "
				"utsusu status %s, utsusu arbiter check",
				name, name);
	return tell(&err);
}

static int begin(const struct command_options *options)
{
	struct control_request request = { .command = CONTROL_PROTECT,
					   .move = options->move,
					   .protect = { .detect_ms = options->detect } };
	struct errand errand = {
		.options = options,
		.can = "be protected by",
		.cancelling = "cancelling; the VM runs on here, unprotected",
		.silence = "how its protection goes on; see utsusu status",
		.is_done = is_protected,
		.report = print_nothing,
	};
	struct error err = { 0 };
	int status;

	if (take_latency(options, &request.protect.latency_ms, &err) < 0)
		return tell(&err);
	if (options->move.plain)
		fprintf(stderr,
			"%s: --plain: whoever is on the wire between can read and change the "
			"guest's memory\n",
			options->name);
	memcpy(request.name, options->name, LIMIT_NAME);
	memcpy(request.host, options->host, sizeof(request.host));
	status = errand_run(&errand, control_request_encode(&request));
	return status || options->detach || options->move.check ? status : wait_for_record(options);
}

/* ---- and what a VM is told itself ---- */

static int ask_person(const char *name, const char *what, struct error *err)
{
	char line[16];

	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "%s: nobody is here to say that it is so; give --yes", name);
	fprintf(stderr,
		"%s: %s.\nIf that is not so there will be two of it, and nobody else prevents it. "
		"Is it so (yes/no)? ",
		name, what);
	if (fgets(line, sizeof(line), stdin) && strcmp(line, "yes\n") == 0)
		return 0;
	return error_set(err, -ECANCELED, EXIT_STATUS_FAILED, "%s: nothing is changed", name);
}

/* Until it waits for this word: a moment after the other side was last heard. */
static int wait_for_wish(const char *name, enum manual_says says, uint64_t *ret_generation,
			 struct error *err)
{
	const bool owner = says == MANUAL_BACKUP_IS_DEAD;
	int r = 0;

	for (int i = 0; r == 0 && i < WISH_STEPS; i++) {
		json_auto_t *facts = NULL;

		if (i)
			nap();
		r = status_ask(name, "protect-facts", &facts, err);
		if (r == 0 && !json_is_true(json_object_get(facts, "manual")))
			return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
					 "%s: an arbiter decides, and not your word; see utsusu "
					 "status %s",
					 name, name);
		*ret_generation =
			(uint64_t)json_integer_value(json_object_get(facts, "generation"));
		if (r == 0 && (owner ? status_says(facts, "role", "protected") &&
					       (status_says(facts, "wants", "solo") ||
						status_says(facts, "wants", "stopped"))
				     : status_says(facts, "wants", "claimed")))
			return 0;
	}
	return r < 0 ? r
		     : error_set(
			       err, -EBUSY, EXIT_STATUS_BUSY,
			       "%s: the other side is heard, or this word is not waited for here; "
			       "see utsusu status %s",
			       name, name);
}

/* The daemon notes it, for this generation only. */
static int give_word(const struct command_options *options, enum manual_says says, const char *what,
		     struct error *err)
{
	struct control_request request = { .command = CONTROL_WORD, .said = { .says = says } };
	json_auto_t *answer = NULL;
	int r = wait_for_wish(options->name, says, &request.said.generation, err);

	if (r == 0 && !options->yes)
		r = ask_person(options->name, what, err);
	if (r < 0)
		return r;
	memcpy(request.name, options->name, LIMIT_NAME);
	return door_call(control_request_encode(&request), -1, WORD_MS, &answer, err);
}

/* Its word is given, or it is to end its protection. */
static int begin_end(const struct command_options *options, struct error *err)
{
	const char *name = options->name;
	json_auto_t *facts = NULL;
	json_auto_t *answer = NULL;
	bool waits;
	int r = options->backup_is_dead ? status_ask(name, "protect-facts", &facts, err) : 0;

	waits = status_says(facts, "wants", "solo") || status_says(facts, "wants", "stopped");
	if (r == 0 && !waits)
		r = status_ask(name, "protect-off", &answer, err);
	if (r == 0 && options->backup_is_dead)
		r = give_word(
			options, MANUAL_BACKUP_IS_DEAD,
			"you say that its backup has ended: it does not run on the other host, "
			"and will not",
			err);
	return r;
}

static int end(const struct command_options *options)
{
	const char *name = options->name;
	char said[200] = "";
	struct error err = { 0 };
	int r = begin_end(options, &err);

	for (int i = 0; r == 0 && i < OFF_STEPS; i++) {
		json_auto_t *facts = NULL;

		r = status_ask(name, "protect-facts", &facts, &err);
		if (r == 0 && status_says(facts, "mode", "solo") &&
		    !json_is_true(json_object_get(facts, "gated"))) {
			printf("%s runs here, unprotected\n", name);
			return EXIT_STATUS_OK;
		}
		say(name, json_text(facts, "waits_for", ""), said, sizeof(said));
		nap();
	}
	if (r == 0)
		(void)error_set(
			&err, -ETIMEDOUT, EXIT_STATUS_FAILED,
			"%s: its protection is being ended, and the arbiter has not agreed yet; its "
			"output waits until then: see utsusu status %s, utsusu arbiter check",
			name, name);
	return tell(&err);
}

static int wrong_use(const char *why)
{
	struct error err = { 0 };

	(void)error_set(&err, -EINVAL, EXIT_STATUS_USAGE, "protect: %s; see utsusu protect --help",
			why);
	return tell(&err);
}

int protect_vm(struct invocation *invocation)
{
	const struct command_options *options = &invocation->options;

	if (options->backup_is_dead && !options->off)
		return wrong_use("--backup-is-dead belongs to --off");
	if (options->off && options->host[0])
		return wrong_use("--off needs no HOST");
	if (options->off)
		return end(options);
	if (!options->host[0])
		return wrong_use("give HOST, or --off");
	return begin(options);
}

/* ---- a failover that is wanted ---- */

struct failing_over {
	const char *name;
	char peer[200];
	bool here; /* asked of the backup: it is to run here */
	bool by_hand;
	char said[200];
};

/* 1: it is decided, and said; 0: not yet; negative errno with `err`. */
static int look(struct failing_over *over, struct error *err)
{
	json_auto_t *facts = NULL;
	struct error unheard = { 0 };
	int r = status_ask(over->name, "protect-facts", &facts, &unheard);

	if (r < 0 && runtime_alive(over->name) == 0) {
		if (over->here)
			return error_set(
				err, -ESRCH, EXIT_STATUS_FAILED,
				"%s: the backup here has ended; it runs on %s, or see there: "
				"utsusu status %s",
				over->name, over->peer, over->name);
		printf(over->by_hand ? "%s has ended here, for %s to go on with it\n"
				     : "%s runs on %s\n",
		       over->name, over->peer);
		return 1;
	}
	if (r < 0)
		return 0; /* it ends just now */
	if (status_says(facts, "role", "solo") && !json_is_true(json_object_get(facts, "gated"))) {
		if (!over->here)
			return error_set(err, -ECANCELED, EXIT_STATUS_FAILED,
					 "%s: runs here, unprotected: %s did not take it over; see "
					 "journalctl -u utsusud on both hosts",
					 over->name, over->peer);
		printf("%s runs here\n", over->name);
		return 1;
	}
	say(over->name, json_text(facts, "waits_for", ""), over->said, sizeof(over->said));
	return 0;
}

static int wait_for_it(struct failing_over *over, struct error *err)
{
	int r = 0;

	for (int i = 0; r == 0 && i < FAILOVER_STEPS; i++) {
		if (i)
			nap();
		r = look(over, err);
	}
	return r != 0 ? MIN(r, 0)
		      : error_set(err, -ETIMEDOUT, EXIT_STATUS_FAILED,
				  "%s: it is not decided yet who runs it; see utsusu status %s, "
				  "utsusu arbiter check",
				  over->name, over->name);
}

int fail_over_vm(struct invocation *invocation)
{
	const struct command_options *options = &invocation->options;
	struct failing_over over = { .name = options->name };
	json_auto_t *facts = NULL;
	json_auto_t *answer = NULL;
	struct error err = { 0 };
	int r = status_ask(over.name, "protect-facts", &facts, &err);

	if (r == 0) {
		over.here = status_says(facts, "role", "backs-up");
		snprintf(over.peer, sizeof(over.peer), "%s",
			 json_text(facts, "peer", "")[0] ? json_text(facts, "peer", "")
							 : "the other host");
		over.by_hand = json_is_true(json_object_get(facts, "manual"));
		r = options->owner_is_dead
			    ? give_word(options, MANUAL_OWNER_IS_DEAD,
					"you say that it does not run on the "
					"other host any more, and will not",
					&err)
			    : status_ask(over.name, "protect-failover", &answer, &err);
	}
	if (r == 0) {
		fprintf(stderr, "%s: %s\n", over.name,
			over.here ? "its backup here takes over" : "its backup takes over");
		r = wait_for_it(&over, &err);
	}
	return r < 0 ? tell(&err) : EXIT_STATUS_OK;
}
