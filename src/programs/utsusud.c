/* SPDX-License-Identifier: Apache-2.0 */
/*
 * utsusud: this host among others. Holds the host's key; tells who may ask for what; connects movers to each other. No page of
 * a guest passes through it, and no VM depends on it.
 *
 *   utsusud init      once: makes the host's key
 *   utsusud           serves, until SIGTERM
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/args.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "host/state_dir.h"
#include "peer/daemon.h"
#include "peer/identity.h"

struct options {
	bool help, anew;
	struct daemon_options daemon;
};

static const struct schema_row rows[] = {
	{ .key = "listen",
	  .type = SCHEMA_STRING,
	  .offset = offsetof(struct options, daemon.listen),
	  .min = 1,
	  .max = PEER_ADDRESS_MAX,
	  .value = "ADDRESS",
	  .help = "an address of this host; all of them when not given" },
	{ .key = "port",
	  .type = SCHEMA_UINT,
	  .offset = offsetof(struct options, daemon.port),
	  .min = 1,
	  .max = 65535,
	  .value = "PORT",
	  .fallback = "7878",
	  .help = "where other hosts find this one" },
	{ .key = "anew",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct options, anew),
	  .value = "on",
	  .help = "init: a new key in place of the one there is" },
	{ .key = "help",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct options, help),
	  .value = "on",
	  .help = "show this and do nothing" },
};

static const struct schema schema = { rows, ARRAY_SIZE(rows), sizeof(struct options), 0 };

static int show_help(void)
{
	puts("usage: utsusud init [--anew]\n       utsusud [--listen ADDRESS] [--port PORT]\n\n"
	     "Connects this host to others, for utsusu move. init makes its key; after that it serves.\n");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		printf("  --%-10s %-8s %s%s%s%s\n", rows[i].key,
		       rows[i].type == SCHEMA_BOOL ? "" : rows[i].value, rows[i].help,
		       rows[i].fallback ? " (default: " : "",
		       rows[i].fallback ? rows[i].fallback : "", rows[i].fallback ? ")" : "");
	return EXIT_STATUS_OK;
}

static int tell(const struct error *err)
{
	fprintf(stderr, "utsusud: %s\n", err->message);
	return err->status;
}

static int make_identity(const struct options *options)
{
	_cleanup_(fd_closep) int state_fd = -1;
	struct identity *identity;
	struct error err = { 0 };

	if (state_dir_open(&state_fd, &err) < 0 ||
	    identity_make(state_fd, options->anew, &err) < 0 ||
	    identity_load(state_fd, &identity, &err) < 0)
		return tell(&err);
	printf("%s\n", identity_fingerprint(identity));
	identity_free(identity);
	return EXIT_STATUS_OK;
}

static int serve(const struct options *options)
{
	const struct log log = { .fd = STDERR_FILENO,
				 .level = LOG_LEVEL_INFO,
				 .prefix = "utsusud" };
	struct error err = { 0 };

	/* Whoever goes while something is written to it is an error there, not the end. */
	signal(SIGPIPE, SIG_IGN);
	return daemon_run(&options->daemon, &log, &err) < 0 ? tell(&err) : EXIT_STATUS_OK;
}

static int run(const struct options *options, char **rest)
{
	struct error err = { 0 };

	if (options->help)
		return show_help();
	if (!rest[0])
		return serve(options);
	if (strcmp(rest[0], "init") == 0 && !rest[1])
		return make_identity(options);
	(void)error_set(&err, -EINVAL, EXIT_STATUS_USAGE,
			"'%.40s': is no command of utsusud; there is only init", rest[0]);
	return tell(&err);
}

int main(int argc _unused_, char **argv)
{
	struct options options;
	struct args_target target = { .schema = &schema, .object = &options };
	struct args args = {
		.targets = &target, .n_targets = 1, .command = "utsusud", .takes_rest = true
	};
	struct problems problems = { 0 };
	int status;

	schema_init(&schema, &options);
	if (args_decode(&args, argv + 1, &problems))
		status = tell(&problems.list[0]);
	else
		status = run(&options, args.rest);
	schema_release(&schema, &options);
	return status;
}
