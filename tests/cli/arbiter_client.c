/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An arbiter's client on a loop, for tests with a real etcd: arbiter-client STATE UUID CA[,CERTIFICATE,KEY] USER PASSWORD DEADLINE_MS
 * URL[,ADDRESS]... ("" for no CA, no user). Each line of standard input is a word of command, each line of standard output what was told, as JSON.
 *
 *   swap REVISION GENERATION OWNER     to solo, OWNER being a number    {"swapped":"won","revision":..,"generation":..,"owner":..}
 *   read, watch                        what stands there                {"stands":true,"revision":..,..} {"stands":false,"why":".."}
 */

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "arbiter/arbiter.h"
#include "base/buffer.h"
#include "base/fd.h"

struct client {
	struct loop *loop;
	struct loop_watch input;
	struct buffer lines;
	struct arbiter *arbiter;
};

static void say(json_t *json, const struct ownership_record *record, const char *why)
{
	char *text;

	if (record) {
		json_object_set_new(json, "revision", json_integer((json_int_t)record->revision));
		json_object_set_new(json, "generation",
				    json_integer((json_int_t)record->generation));
		json_object_set_new(json, "mode", json_string(ownership_mode_name(record->mode)));
		json_object_set_new(json, "owner", json_integer(record->owner.bytes[0]));
	}
	if (why)
		json_object_set_new(json, "why", json_string(why));
	text = json_dumps(json, JSON_COMPACT);
	puts(text);
	fflush(stdout);
	free(text);
	json_decref(json);
}

static void heard_swapped(void *ctx, const struct arbiter_swapped *swapped)
{
	json_t *json = json_pack("{s:s, s:b}", "swapped", arbiter_outcome_name(swapped->outcome),
				 "may_land", swapped->may_land);

	if (swapped->outcome == ARBITER_UNKNOWN)
		say(json, NULL, swapped->why.message);
	else
		say(json, &swapped->record, NULL);
}

static void heard_stands(void *ctx, const struct ownership_record *record, const struct error *err)
{
	say(json_pack("{s:b}", "stands", record != NULL), record, record ? NULL : err->message);
}

static void fail(const char *why, int r)
{
	say(json_pack("{s:i}", "failed", r), NULL, why);
}

static void obey(struct client *client, const char *line)
{
	struct ownership_record want = { .mode = OWNERSHIP_SOLO };
	unsigned int owner;
	int r = 0;

	if (sscanf(line, "swap %" SCNu64 " %" SCNu64 " %u", &want.revision, &want.generation,
		   &owner) == 3) {
		want.owner.bytes[0] = (uint8_t)owner;
		r = arbiter_swap(client->arbiter, &want);
	} else if (strcmp(line, "read") == 0) {
		r = arbiter_read(client->arbiter);
	} else if (strcmp(line, "watch") == 0) {
		arbiter_watch(client->arbiter);
	} else {
		fail("no such command", -1);
	}
	if (r < 0)
		fail(line, r);
}

static void heard_input(struct loop_watch *watch, uint32_t events)
{
	struct client *client = container_of(watch, struct client, input);
	char piece[512];
	const char *line;
	ssize_t n = read(watch->fd, piece, sizeof(piece));
	size_t len;

	if (n <= 0 || buffer_append(&client->lines, piece, (size_t)n) < 0) {
		loop_stop(client->loop);
		return;
	}
	while ((line = buffer_line(&client->lines, &len)) != NULL) {
		char text[256];

		snprintf(text, sizeof(text), "%.*s", (int)len, line);
		obey(client, text);
		buffer_consume(&client->lines, len + 1);
	}
}

static const char *or_none(const char *text)
{
	return text && text[0] ? text : NULL;
}

int main(int argc, char **argv)
{
	struct client client = { .loop = loop_new(&clock_host) };
	const struct arbiter_events events = { heard_swapped, heard_stands, &client };
	struct arbiter_endpoint endpoints[LIMIT_ARBITER_ENDPOINTS];
	struct arbiter_config config = { .endpoints = endpoints };
	struct error err = { 0 };
	int state_fd = argc > 7 ? open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (state_fd < 0 || !client.loop)
		return EXIT_STATUS_USAGE;
	signal(SIGPIPE, SIG_IGN);
	config.ca = or_none(strsep(&argv[3], ","));
	config.certificate = or_none(strsep(&argv[3], ","));
	config.key = or_none(argv[3]);
	config.user = or_none(argv[4]);
	config.password = config.user ? argv[5] : NULL;
	config.deadline_ms = (unsigned int)atoi(argv[6]);
	for (int i = 7; i < argc && config.n_endpoints < LIMIT_ARBITER_ENDPOINTS; i++) {
		char *comma = strchr(argv[i], ',');

		if (comma)
			*comma++ = '\0';
		endpoints[config.n_endpoints++] = (struct arbiter_endpoint){ argv[i], comma };
	}
	if (arbiter_open(client.loop, &config, state_fd, argv[2], &events, &client.arbiter, &err) <
	    0) {
		fail(err.message, err.code);
		return EXIT_STATUS_FAILED;
	}
	buffer_init(&client.lines, KIB(4));
	client.input = (struct loop_watch){ .fd = 0, .events = EPOLLIN, .ready = heard_input };
	if (loop_add(client.loop, &client.input) < 0 || loop_run(client.loop) < 0)
		return EXIT_STATUS_FAILED;
	arbiter_free(client.arbiter);
	buffer_release(&client.lines);
	loop_free(client.loop);
	fd_close(state_fd);
	return EXIT_STATUS_OK;
}
