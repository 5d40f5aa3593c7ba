/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu upgrade: a running VM goes on in a new version of the program. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/client.h"
#include "api/config.h"
#include "api/launch.h"
#include "api/move_link.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "host/handed.h"
#include "host/keeper.h"
#include "host/runtime.h"
#include "move/upgrade.h"
#include "peer/mover.h"
#include "programs/utsusu.h"

DEFINE_CLEANUP(struct api_connection, api_connection_free, connectionp)

struct upgrading {
	const struct command_options *options;
	struct vm_config *config;
	bool drawn;
};

/* ---- the new process ---- */

static int send_all(int sock, const int legacies[KEEPER_LEGACIES], int succession_fd, int link_fd)
{
	const struct {
		enum handed_kind kind;
		int fd;
	} things[] = {
		{ HANDED_RAM, legacies[KEEPER_LEGACY_RAM] },
		{ HANDED_STORE, legacies[KEEPER_LEGACY_STORE] },
		{ HANDED_KEEPER, legacies[KEEPER_LEGACY_LISTENER] },
		{ HANDED_REQUESTS, legacies[KEEPER_LEGACY_REQUESTS] },
		{ HANDED_SUCCESSION, succession_fd },
		{ HANDED_LINK, link_fd },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(things); i++)
		r = handed_send(sock, things[i].kind, 0, &things[i].fd, 1, 0, NULL);
	return r < 0 ? r : handed_send(sock, HANDED_END, 0, NULL, 0, 0, NULL);
}

/* The same VM, as the process that runs it describes it. */
static int configure(struct upgrading *upgrading, const struct move_facts *facts, struct error *err)
{
	_cleanup_(freep) struct problems *problems = calloc(1, sizeof(*problems));

	if (!problems)
		return -ENOMEM;
	config_decode(upgrading->config, facts->config, strlen(facts->config), facts->name,
		      problems);
	if (!problems->count)
		return 0;
	*err = problems->list[0];
	return err->code;
}

static int start(struct upgrading *upgrading, const int legacies[KEEPER_LEGACIES], int heir_fd,
		 int *ret_process, struct error *err)
{
	struct runtime_vm vm = {
		.borrowed = true,
		.root_fd = legacies[KEEPER_LEGACY_ROOT],
		.dir_fd = legacies[KEEPER_LEGACY_DIR],
		.lock_fd = legacies[KEEPER_LEGACY_LOCK],
	};
	struct error why = { 0 };
	int r;

	memcpy(vm.name, upgrading->config->name, sizeof(vm.name));
	r = launch_heir(upgrading->config, &vm, upgrading->options->to, heir_fd, ret_process, &why);
	if (r == -EINTR)
		return error_set(err, r, EXIT_STATUS_FAILED,
				 "%s: interrupted; it goes on as before", vm.name);
	return r < 0 ? error_set(err, r, why.status, "%s", why.message) : 0;
}

/* Its own connection: the VM's socket is still the old process's. */
static int launch(void *ctx, const struct move_facts *facts, int succession_fd, int heir[2],
		  struct move_link **ret_link, struct error *err)
{
	struct upgrading *upgrading = ctx;
	int legacies[KEEPER_LEGACIES], ends[2], process = -1;
	int r = configure(upgrading, facts, err);

	if (r == 0)
		r = keeper_hand_over(facts->name, succession_fd, legacies, err);
	if (r < 0)
		return r;
	r = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ? -errno : 0;
	if (r == 0) {
		r = send_all(heir[0], legacies, succession_fd, ends[1]);
		fd_close(ends[1]);
		if (r == 0)
			r = start(upgrading, legacies, heir[1], &process, err);
		if (r == 0)
			r = move_link_new_to(ends[0], process, facts->name, ret_link);
		else
			fd_close(ends[0]);
	}
	for (size_t i = 0; i < KEEPER_LEGACIES; i++)
		fd_close(legacies[i]);
	return r;
}

/* ---- what is told ---- */

static void clear_line(struct upgrading *upgrading)
{
	if (upgrading->drawn)
		fputs("\r\x1b[K", stderr);
	upgrading->drawn = false;
}

static void show_phase(void *ctx, enum handover_phase phase)
{
	struct upgrading *upgrading = ctx;

	if (upgrading->options->json && !upgrading->options->check) {
		printf("{\"phase\":\"%s\"}\n", handover_phase_name(phase));
		fflush(stdout);
	} else if (!upgrading->options->json && isatty(STDERR_FILENO)) {
		fprintf(stderr, "\r\x1b[K%s: %s", upgrading->options->name,
			handover_phase_name(phase));
		upgrading->drawn = true;
	}
}

static void print_json(json_t *line)
{
	_cleanup_(freep) char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;

	json_decref(line);
	if (text)
		puts(text);
}

static json_t *error_json(const struct error *err)
{
	return json_pack("{s:s, s:i}", "message", err->message, "status", (int)err->status);
}

static int print_check_json(const struct problems *problems, const struct upgrade_numbers *numbers,
			    int r, const struct error *err)
{
	json_t *list = json_array();

	for (size_t i = 0; i < problems->count; i++)
		json_array_append_new(list, error_json(&problems->list[i]));
	if (r < 0 && !problems->count)
		json_array_append_new(list, error_json(err));
	print_json(json_pack("{s:b, s:o, s:s, s:s}", "ok", r == 0, "problems", list, "from",
			     numbers->from, "to", numbers->to));
	return r < 0 ? (int)err->status : EXIT_STATUS_OK;
}

static int tell_check(const struct upgrading *upgrading, const struct problems *problems,
		      const struct upgrade_numbers *numbers, int r, const struct error *err)
{
	if (upgrading->options->json)
		return print_check_json(problems, numbers, r, err);
	for (size_t i = 0; i < problems->count; i++)
		tell(&problems->list[i]);
	if (r < 0)
		return problems->count ? (int)problems->list[0].status : tell(err);
	printf("%s: can be upgraded from version %s to %s\n", upgrading->options->name,
	       numbers->from, numbers->to);
	return EXIT_STATUS_OK;
}

static int tell_failure(const struct upgrading *upgrading, const struct error *err)
{
	if (upgrading->options->json)
		print_json(json_pack("{s:s, s:s, s:i}", "end", "failed", "message", err->message,
				     "status", (int)err->status));
	return tell(err);
}

static int tell_end(const struct upgrading *upgrading, const struct upgrade_numbers *numbers)
{
	const uint64_t ms = numbers->total_ns / NSEC_PER_MSEC, us = numbers->down_ns / 1000;

	if (upgrading->options->json)
		print_json(json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:s}", "end", "ran",
				     "total_ms", (json_int_t)ms, "down_ms", (json_int_t)(us / 1000),
				     "down_us", (json_int_t)us, "state_bytes",
				     (json_int_t)numbers->state_bytes, "from", numbers->from, "to",
				     numbers->to));
	else
		printf("%s runs in version %s (before: %s): %" PRIu64 ".%" PRIu64
		       " s in all, %" PRIu64 ".%" PRIu64 " ms standing still\n",
		       upgrading->options->name, numbers->to, numbers->from, ms / 1000,
		       ms % 1000 / 100, us / 1000, us % 1000 / 100);
	return EXIT_STATUS_OK;
}

/* ---- the command ---- */

/* Asked as any client first, for its words where there is no such VM. */
static int open_link(const char *name, struct move_link **ret_link, struct error *err)
{
	_cleanup_(connectionp) struct api_connection *connection = NULL;
	int fd, r = api_connect(name, &connection, err);

	if (r < 0)
		return r;
	r = runtime_connect(name, RUNTIME_SOCKET, &fd);
	if (r == 0)
		r = move_link_new(fd, name, ret_link);
	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED, "%s: cannot be reached: %s", name,
				 strerror(-r))
		     : 0;
}

static int judge_program(const struct command_options *options, struct error *err)
{
	if (!options->to || access(options->to, X_OK) == 0)
		return 0;
	return error_set(err, -errno, EXIT_STATUS_USAGE,
			 "--to: %s: %s; give the path of the new version's utsusu-vm", options->to,
			 strerror(errno));
}

static int upgrade(struct upgrading *upgrading, struct problems *problems)
{
	const struct command_options *options = upgrading->options;
	struct upgrade_settings settings = {
		.launch = launch,
		.phase = show_phase,
		.ctx = upgrading,
		.clock = &clock_host,
		.check = options->check,
	};
	struct upgrade_numbers numbers = { 0 };
	char failpoint[FAILPOINT_TEXT_MAX] = "", warning[UPGRADE_WARNING] = "";
	struct error err = { 0 };
	int r = judge_program(options, &err);

	if (r == 0)
		r = open_link(options->name, &settings.old, &err);
	if (r < 0)
		return options->check && options->json
			       ? print_check_json(problems, &numbers, r, &err)
			       : tell_failure(upgrading, &err);
	mover_failpoint(failpoint);
	settings.failpoint = failpoint;
	r = move_upgrade(&settings, problems, &numbers, warning, &err);
	settings.old->ops->free(settings.old);
	clear_line(upgrading);
	if (warning[0])
		fprintf(stderr, "utsusu: %s: %s\n", options->name, warning);
	if (options->check)
		return tell_check(upgrading, problems, &numbers, r, &err);
	return r < 0 ? tell_failure(upgrading, &err) : tell_end(upgrading, &numbers);
}

int upgrade_vm(struct invocation *invocation)
{
	struct upgrading upgrading = { .options = &invocation->options,
				       .config = invocation->config };

	return upgrade(&upgrading, invocation->problems);
}
