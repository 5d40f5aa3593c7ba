/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu peer: the hosts that this one knows. The daemon keeps the list; a new one's key is shown before it is believed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "peer/door.h"
#include "peer/request.h"
#include "programs/json_text.h"
#include "programs/utsusu.h"

#define PEER_CALL_MS 40000

static void print_json(const json_t *json)
{
	_cleanup_(freep) char *text = json_dumps(json, JSON_INDENT(2));

	puts(text ? text : "null");
}

static int wrong_words(const char *usage)
{
	struct error err = { 0 };

	(void)error_set(&err, -EINVAL, EXIT_STATUS_USAGE, "peer: give %s; see utsusu peer --help",
			usage);
	return tell(&err);
}

static int list_peers(struct invocation *invocation)
{
	const struct control_request request = { .command = CONTROL_PEERS };
	json_auto_t *answer = NULL;
	struct error err = { 0 };
	json_t *peer;
	size_t i;

	if (door_call(control_request_encode(&request), -1, PEER_CALL_MS, &answer, &err) < 0)
		return tell(&err);
	if (invocation->options.json) {
		print_json(json_object_get(answer, "peers"));
		return EXIT_STATUS_OK;
	}
	printf("%-16s %-24s %-5s %s\n", "NAME", "ADDRESS", "PORT", "KNOWN BY");
	json_array_foreach(json_object_get(answer, "peers"), i, peer)
		printf("%-16s %-24s %-5d %s%s%s\n", json_text(peer, "name", ""),
		       json_text(peer, "address", ""),
		       (int)json_integer_value(json_object_get(peer, "port")),
		       json_text(peer, "fingerprint", ""), json_text(peer, "identity", ""),
		       json_object_get(peer, "ca") ? " (signed)" : "");
	return EXIT_STATUS_OK;
}

static int show_self(struct invocation *invocation)
{
	const struct control_request request = { .command = CONTROL_STATUS };
	json_auto_t *answer = NULL;
	struct error err = { 0 };

	if (door_call(control_request_encode(&request), -1, PEER_CALL_MS, &answer, &err) < 0)
		return tell(&err);
	json_object_del(answer, "ok");
	if (invocation->options.json) {
		print_json(answer);
		return EXIT_STATUS_OK;
	}
	printf("%s, port %d\n%s\n\nElsewhere: utsusu peer add %s ADDRESS --fingerprint %s\n",
	       json_text(answer, "host", ""),
	       (int)json_integer_value(json_object_get(answer, "port")),
	       json_text(answer, "fingerprint", ""), json_text(answer, "host", ""),
	       json_text(answer, "fingerprint", ""));
	return EXIT_STATUS_OK;
}

/* As SSH does: what is seen is shown, and a person says whether it is right. */
static int ask_person(const struct control_request *request, const char *fingerprint,
		      struct error *err)
{
	char line[16] = "";

	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return error_set(
			err, -EACCES, EXIT_STATUS_USAGE,
			"%s: has the key %s; compare it with what utsusu peer show says there, "
			"then add --fingerprint %s",
			request->name, fingerprint, fingerprint);
	fprintf(stderr,
		"The host at %s has the key\n  %s\nOn that host, `utsusu peer show` must say the same. "
		"Does it (yes/no)? ",
		request->peer.address, fingerprint);
	if (fgets(line, sizeof(line), stdin) &&
	    (strcmp(line, "yes\n") == 0 || strcmp(line, "y\n") == 0))
		return 0;
	return error_set(err, -ECANCELED, EXIT_STATUS_FAILED, "%s: was not added", request->name);
}

static int differs(const struct control_request *request, const char *seen, struct error *err)
{
	return error_set(
		err, -EACCES, EXIT_STATUS_RESOURCE,
		"%s: the host at %s has the key %s, not the one given; see there what utsusu "
		"peer show says",
		request->name, request->peer.address, seen);
}

/* Sees who is there; a key that was given is believed even while nobody answers. */
static int learn_fingerprint(struct control_request *request, struct error *err)
{
	struct control_request probe = { .command = CONTROL_PROBE, .peer = request->peer };
	json_auto_t *answer = NULL;
	const char *seen;
	int r;

	probe.peer.fingerprint[0] = '\0';
	r = door_call(control_request_encode(&probe), -1, PEER_CALL_MS, &answer, err);
	if (r < 0 && request->peer.fingerprint[0] && r == -EREMOTEIO) {
		fprintf(stderr, "utsusu: %s; added all the same\n", err->message);
		*err = (struct error){ 0 };
		return 0;
	}
	if (r < 0)
		return r;
	seen = json_text(answer, "fingerprint", "");
	if (request->peer.fingerprint[0])
		return strcmp(seen, request->peer.fingerprint) == 0 ? 0
								    : differs(request, seen, err);
	r = ask_person(request, seen, err);
	snprintf(request->peer.fingerprint, sizeof(request->peer.fingerprint), "%s", seen);
	return r;
}

static int add(struct control_request *request, const struct command_options *options,
	       struct error *err)
{
	json_auto_t *answer = NULL;
	int r = options->ca ? 0 : learn_fingerprint(request, err);

	if (r == 0)
		r = door_call(control_request_encode(request), -1, PEER_CALL_MS, &answer, err);
	if (r < 0)
		return r;
	printf("%s is known. It must know this host too; there:\n"
	       "  utsusu peer add NAME ADDRESS --fingerprint %s\n",
	       request->name, json_text(answer, "fingerprint", ""));
	return 0;
}

static char *copy_of(const char *text)
{
	return text ? strdup(text) : NULL;
}

static int add_peer(struct invocation *invocation)
{
	const struct command_options *options = &invocation->options;
	struct control_request request = { .command = CONTROL_ADD };
	char **words = invocation->rest;
	struct error err = { 0 };
	int r = 0;

	if (!words[1] || !words[2] || words[3])
		return wrong_words("add NAME ADDRESS[:PORT]");
	if (!options->ca != !options->identity)
		return wrong_words("--ca FILE and --identity NAME together");
	if (!peer_name_valid(words[1]))
		r = error_set(&err, -EINVAL, EXIT_STATUS_USAGE,
			      "'%.80s' is no name of a host; use letters, digits, '.', '-' and '_'",
			      words[1]);
	snprintf(request.name, sizeof(request.name), "%s", words[1]);
	snprintf(request.peer.fingerprint, sizeof(request.peer.fingerprint), "%s",
		 options->fingerprint);
	request.peer.ca = copy_of(options->ca);
	request.peer.identity = copy_of(options->identity);
	if (r == 0)
		r = peer_parse_address(&request.peer, words[2], &err);
	if (r == 0)
		r = add(&request, options, &err);
	control_request_release(&request);
	return r < 0 ? tell(&err) : EXIT_STATUS_OK;
}

static int remove_peer(struct invocation *invocation)
{
	struct control_request request = { .command = CONTROL_REMOVE };
	json_auto_t *answer = NULL;
	struct error err = { 0 };

	if (!invocation->rest[1] || invocation->rest[2])
		return wrong_words("remove NAME");
	snprintf(request.name, sizeof(request.name), "%s", invocation->rest[1]);
	if (door_call(control_request_encode(&request), -1, PEER_CALL_MS, &answer, &err) < 0)
		return tell(&err);
	return EXIT_STATUS_OK;
}

static const struct {
	const char *name;
	int (*run)(struct invocation *invocation);
} actions[] = {
	{ "add", add_peer },
	{ "list", list_peers },
	{ "remove", remove_peer },
	{ "show", show_self },
};

int manage_peers(struct invocation *invocation)
{
	const char *name = invocation->rest ? invocation->rest[0] : NULL;

	for (size_t i = 0; name && i < ARRAY_SIZE(actions); i++)
		if (strcmp(actions[i].name, name) == 0)
			return actions[i].run(invocation);
	return wrong_words("add, list, remove or show");
}
