/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu status: how a VM's protection goes, and why it is as fast as it is. */
#include "programs/utsusu_status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/client.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "programs/json_text.h"
#include "programs/utsusu.h"

#define PAGE_BYTES 4096

DEFINE_CLEANUP(struct api_connection, api_connection_free, connectionp)

int status_ask(const char *name, const char *command, json_t **ret_answer, struct error *err)
{
	_cleanup_(connectionp) struct api_connection *connection = NULL;
	int r = api_connect(name, &connection, err);

	return r < 0 ? r
		     : api_call(connection, json_pack("{s:s}", "command", command), ret_answer,
				err);
}

bool status_says(const json_t *facts, const char *key, const char *text)
{
	return strcmp(json_text(facts, key, ""), text) == 0;
}

static uint64_t number_of(const json_t *facts, const char *key)
{
	json_int_t number = json_integer_value(json_object_get(facts, key));

	return number > 0 ? (uint64_t)number : 0;
}

static void format_ms(const json_t *facts, const char *key, char *ret_text, size_t size)
{
	uint64_t ns = number_of(facts, key);

	snprintf(ret_text, size, "%llu.%llu ms", ns / NSEC_PER_MSEC, ns % NSEC_PER_MSEC / 100000);
}

/* "3.1 ms p50, 4.4 ms p99" */
static void format_spread(const json_t *facts, const char *p50, const char *p99, char *ret_text,
			  size_t size)
{
	char low[32], high[32];

	format_ms(facts, p50, low, sizeof(low));
	format_ms(facts, p99, high, sizeof(high));
	snprintf(ret_text, size, "%s p50, %s p99", low, high);
}

static void print_role(const char *name, const json_t *facts)
{
	const char *peer = json_text(facts, "peer", "");
	const char *role = json_text(facts, "role", "");

	if (!peer[0])
		peer = "another host";
	if (strcmp(role, "protected") == 0)
		printf("%s runs here, protected by %s\n", name, peer);
	else if (strcmp(role, "backs-up") == 0)
		printf("%s runs on %s; this is its backup\n", name, peer);
	else if (strcmp(role, "claims") == 0)
		printf("%s is being taken over from %s\n", name, peer);
	else if (strcmp(role, "deposed") == 0)
		printf("%s was claimed by %s; it ends here as soon as that is confirmed\n", name,
		       peer);
	else if (json_is_true(json_object_get(facts, "foreign")))
		printf("%s runs here, unprotected; the arbiter's record says that it is another "
		       "process's: utsusu resolve %s\n",
		       name, name);
	else if (json_is_true(json_object_get(facts, "guard")))
		printf("%s runs here; a backup on %s is being filled\n", name, peer);
	else
		printf("%s runs here, unprotected\n", name);
}

static void print_record(const json_t *facts)
{
	const bool relay = json_is_true(json_object_get(facts, "relay"));

	printf("  %-14s %s, generation %" PRIu64 "%s\n", "record", json_text(facts, "mode", "none"),
	       number_of(facts, "generation"),
	       relay ? "" : "; nobody asks the arbiter: utsusud starts that again in a moment");
	printf("  %-14s %s\n", "instance", json_text(facts, "instance", "-"));
	if (strspn(json_text(facts, "session", ""), "0") <
	    strlen(json_text(facts, "session", ""))) /* all zeroes: there is none */
		printf("  %-14s %s\n", "session", json_text(facts, "session", ""));
}

static void print_epochs(const json_t *facts)
{
	uint64_t cut = number_of(facts, "cut"), acked = number_of(facts, "acked");
	uint64_t pages = number_of(facts, "pages");
	char pauses[80], last[32];

	if (!cut || !json_is_true(json_object_get(facts, "guard")))
		return;
	format_ms(facts, "last_pause_ns", last, sizeof(last));
	format_spread(facts, "pause_p50_ns", "pause_p99_ns", pauses, sizeof(pauses));
	printf("  %-14s %" PRIu64 "; %" PRIu64 " acknowledged, %" PRIu64 " on the way\n", "epoch",
	       cut, acked, cut > acked ? cut - acked : 0);
	printf("  %-14s %" PRIu64 " pages (%" PRIu64 " KiB) and %" PRIu64 " KiB of state\n",
	       "last epoch", pages, pages * PAGE_BYTES / KIB(1),
	       number_of(facts, "state_len") / KIB(1));
	printf("  %-14s %s the last one; %s\n", "pauses", last, pauses);
}

static void print_held(const json_t *facts)
{
	char times[80];

	if (!json_is_true(json_object_get(facts, "gated")))
		return;
	format_spread(facts, "hold_p50_ns", "hold_p99_ns", times, sizeof(times));
	printf("  %-14s %" PRIu64 " (%" PRIu64 " KiB) now; waits %s\n", "held output",
	       number_of(facts, "held_items"), number_of(facts, "held_bytes") / KIB(1), times);
}

int show_protection(struct invocation *invocation)
{
	const struct command_options *options = &invocation->options;
	json_auto_t *facts = NULL;
	struct error err = { 0 };

	if (status_ask(options->name, "protect-facts", &facts, &err) < 0)
		return tell(&err);
	json_object_del(facts, "ok");
	if (options->json) {
		_cleanup_(freep) char *text = json_dumps(facts, JSON_INDENT(2));

		puts(text ? text : "null");
		return EXIT_STATUS_OK;
	}
	print_role(options->name, facts);
	if (status_says(facts, "mode", "none") && !json_is_true(json_object_get(facts, "guard")))
		return EXIT_STATUS_OK;
	print_record(facts);
	print_epochs(facts);
	print_held(facts);
	if (json_text(facts, "waits_for", "")[0])
		printf("  %-14s %s\n", "waits for", json_text(facts, "waits_for", ""));
	return EXIT_STATUS_OK;
}
