/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu restore: a saved VM runs again; with --clone another one of its kind does. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/check.h"
#include "api/client.h"
#include "api/config.h"
#include "api/launch.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "host/host_id.h"
#include "host/runtime.h"
#include "host/state_dir.h"
#include "move/saved/saved.h"
#include "peer/arrivals.h"
#include "peer/copies.h"
#include "peer/mover.h"
#include "programs/utsusu.h"
#include "programs/utsusu_progress.h"

#define SETTLE_TRIES 200
#define SETTLE_NAP_NS (50 * NSEC_PER_MSEC)

DEFINE_CLEANUP(struct api_connection, api_connection_free, connectionp)

struct restoring {
	const struct command_options *options;
	struct vm_config *config;
	struct saved saved;
	char by[MARK_PEER_MAX];
	int fd;
};

static int open_saved(struct restoring *restoring, struct error *err)
{
	const struct command_options *options = restoring->options;
	struct error why = { 0 };
	int r;

	restoring->fd = open(options->file,
			     (options->clone ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY);
	if (restoring->fd < 0)
		return error_set(
			err, -errno, EXIT_STATUS_NOT_FOUND,
			"%s: cannot be opened: %s; a restore writes into it that it is used, "
			"--clone only reads",
			options->file, strerror(errno));
	r = saved_open(restoring->fd, &restoring->saved, &why);
	if (r == 0 && !options->clone && restoring->saved.used.used)
		r = saved_refuse_used(&restoring->saved.used, &why);
	return r < 0 ? error_set(err, r, why.status ? why.status : EXIT_STATUS_FAILED, "%s: %s",
				 options->file, why.message)
		     : 0;
}

static int name_it(struct restoring *restoring, struct error *err)
{
	const struct command_options *options = restoring->options;
	struct vm_config *config = restoring->config;
	const char *name = options->name[0] ? options->name : restoring->saved.head.name;
	int r;

	if (options->clone && !options->name[0])
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "--clone: makes another VM; give its NAME after the file");
	snprintf(config->name, sizeof(config->name), "%s", name);
	r = options->clone ? uuid_make(config->uuid) : 0;
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST, "uuid: %s", strerror(-r)) : 0;
}

static int configure(struct restoring *restoring, struct error *err)
{
	_cleanup_(freep) struct problems *problems = calloc(1, sizeof(*problems));
	const char *text = restoring->saved.head.config;
	int r;

	if (!problems)
		return -ENOMEM;
	config_decode(restoring->config, text, strlen(text), restoring->options->file, problems);
	r = name_it(restoring, err);
	if (r < 0)
		return r;
	vm_config_complete(restoring->config);
	vm_config_check(restoring->config, problems);
	if (!problems->count)
		check_host(restoring->config, problems);
	if (problems->count)
		*err = problems->list[0];
	else if (!restoring->options->clone)
		r = arrivals_check_start(restoring->config->name, restoring->saved.given.token,
					 err);
	if (!problems->count && r == 0)
		r = copies_check_start(restoring->config, err);
	return problems->count ? -EINVAL : r;
}

/* For whoever finds the mark. */
static void describe_us(struct restoring *restoring)
{
	char host[65] = "?";

	(void)gethostname(host, sizeof(host) - 1);
	snprintf(restoring->by, sizeof(restoring->by), "user %u on %.64s as %.64s",
		 (unsigned int)getuid(), host, restoring->config->name);
	for (char *p = restoring->by; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
}

static int fill_job(struct restoring *restoring, struct move_job *job, struct error *err)
{
	_cleanup_(fd_closep) int state_fd = -1;
	int r = state_dir_open(&state_fd, err);

	if (r == 0)
		r = mover_open_vm(state_fd, restoring->config->name, job, err);
	if (r < 0)
		return r;
	memcpy(job->token, restoring->saved.given.token, sizeof(job->token));
	job->generation = restoring->saved.head.generation;
	job->clone = restoring->options->clone;
	job->load_first = restoring->options->load_first;
	host_id_read(job->host);
	memcpy(job->peer, restoring->by, sizeof(job->peer));
	job->file_fd = dup(restoring->fd);
	return job->file_fd < 0 ? -errno : 0;
}

/* ---- what a mover that died left ---- */

/* 1 it runs, 0 its process is gone, -EAGAIN neither yet. Its mover is dead: a VM that waits for one is told that none comes, which it
 * takes for true once it has heard that one to its end, and only if it has not run. */
static int ask_vm(const struct restoring *restoring)
{
	_cleanup_(connectionp) struct api_connection *connection = NULL;
	json_auto_t *facts = NULL, *ended = NULL;
	struct error unheard = { 0 };
	const char *stage;

	if (api_connect(restoring->config->name, &connection, &unheard) < 0)
		return runtime_alive(restoring->config->name) != 0 ? -EAGAIN : 0;
	if (api_call(connection, json_pack("{s:s}", "command", "move-facts"), &facts, &unheard) < 0)
		return -EAGAIN;
	stage = json_string_value(json_object_get(facts, "stage"));
	/* One whose memory was still to come ends as soon as it sees that nobody brings it. */
	if (stage && strcmp(stage, "arriving") != 0)
		return json_integer_value(json_object_get(facts, "lacks")) > 0 ? -EAGAIN : 1;
	(void)!api_call(connection, json_pack("{s:s}", "command", "arrive-abandon"), &ended,
			&unheard);
	return -EAGAIN;
}

/* The mover had told that it lets the VM run: what came of that nobody can say for sure. */
static int tell_gone(const struct restoring *restoring, const struct mover_run *run,
		     struct error *err)
{
	return error_set(
		err, -EIO, EXIT_STATUS_FAILED,
		"%s: %s, and was ended, as utsusu-move died before all its memory was there; %s",
		run->name, run->ran ? "ran" : "may have run",
		restoring->options->clone ? "the file is as before"
					  : "the file stays marked as used");
}

/* A VM that has not run ends when its mover does; then the file is as before. */
static int settle(struct restoring *restoring, const struct mover_run *run, struct error *err)
{
	const struct timespec nap = { .tv_nsec = SETTLE_NAP_NS };
	struct saved saved;
	int r = -EAGAIN;

	for (int i = 0; i < SETTLE_TRIES && r == -EAGAIN; i++) {
		if (i)
			nanosleep(&nap, NULL);
		r = ask_vm(restoring);
	}
	if (r == 1)
		return 0;
	if (r < 0)
		return error_set(
			err, -EINPROGRESS, EXIT_STATUS_FAILED,
			"%s: its process does not say whether it runs; the file stays marked as "
			"used: see utsusu list",
			restoring->config->name);
	if (!run->end && strcmp(run->phase, "run") == 0)
		return tell_gone(restoring, run, err);
	if (!restoring->options->clone && saved_open(restoring->fd, &saved, NULL) == 0) {
		if (saved.used.used)
			(void)!saved_unuse(restoring->fd, restoring->by, saved.used.wall_ns);
		saved_release(&saved);
	}
	mover_run_error(run, err);
	return err->code;
}

static void show_progress(unsigned int seconds)
{
	if (seconds == 2 || seconds % 10 == 0)
		fprintf(stderr, "utsusu: waiting for the VM's process: %u s\n", seconds);
}

static int load(struct restoring *restoring, struct mover_run *run, struct error *err)
{
	struct move_job job;
	int r;

	move_job_init(&job, MOVE_RESTORE);
	r = fill_job(restoring, &job, err);
	if (r < 0)
		move_job_release(&job);
	else
		r = mover_run(run, &job, err);
	if (r < 0)
		(void)error_set(err, r, EXIT_STATUS_FAILED, "%s: cannot be loaded: %s", run->name,
				strerror(-r));
	if (run->detached || strcmp(mover_run_end(run), "ran") == 0)
		return 0;
	/* It has seen the end of the VM itself. */
	if (!run->ran || !run->end)
		return settle(restoring, run, err);
	mover_run_wait_gone(run);
	mover_run_error(run, err);
	return err->code;
}

/* It runs: the note that it is in this file (utsusu save) has no more to say. */
static void forget_saved(const struct restoring *restoring)
{
	struct marks *marks = NULL;
	struct error unheard = { 0 };

	if (restoring->options->clone || marks_open(&marks, &unheard) < 0)
		return;
	(void)!marks_settle_given(marks, restoring->saved.head.name, restoring->saved.given.token,
				  MARK_NEVER);
	marks_close(marks);
}

static int restore(struct restoring *restoring, struct mover_run *run, struct error *err)
{
	struct runtime_vm vm;
	int r = open_saved(restoring, err);

	if (r == 0)
		r = configure(restoring, err);
	if (r == 0)
		r = runtime_claim(restoring->config->name, &vm, err);
	if (r < 0)
		return r;
	describe_us(restoring);
	run->name = restoring->config->name;
	r = launch_detached(restoring->config, &vm, true, show_progress, err);
	if (r == 0)
		r = load(restoring, run, err);
	if (r == 0)
		forget_saved(restoring);
	return r;
}

/* As its user had paused it when it was saved. */
static bool is_paused(const char *name)
{
	_cleanup_(connectionp) struct api_connection *connection = NULL;
	json_auto_t *status = NULL;
	struct error unheard = { 0 };
	const char *state = NULL;

	if (api_connect(name, &connection, &unheard) == 0 &&
	    api_call(connection, json_pack("{s:s}", "command", "status"), &status, &unheard) == 0)
		state = json_string_value(json_object_get(status, "state"));
	return state && strcmp(state, "paused") == 0;
}

static void tell_runs(const struct mover_run *run, uint64_t ms)
{
	const struct restoring *restoring = run->ctx;

	printf("%s %s: from %s, %" PRIu64 ".%" PRIu64 " s\n", run->name,
	       is_paused(run->name) ? "is paused, as it was saved" : "runs",
	       restoring->options->file, ms / 1000, ms % 1000 / 100);
	fflush(stdout);
}

static void on_ran(struct mover_run *run, uint64_t run_ms, uint64_t left _unused_)
{
	if (!run->json)
		tell_runs(run, run_ms);
}

static void tell_end(const struct mover_run *run)
{
	uint64_t ms = mover_run_number(run, "total_ms");

	if (!run->ran)
		tell_runs(run, ms);
	else if (run->detached)
		printf("%s runs on while the rest of its memory is loaded\n", run->name);
	else
		printf("%s: all of its memory is loaded: %" PRIu64 " MiB, %" PRIu64 ".%" PRIu64
		       " s\n",
		       run->name, mover_run_number(run, "bytes") / MIB(1), ms / 1000,
		       ms % 1000 / 100);
}

int restore_vm(struct invocation *invocation)
{
	const struct command_options *options = &invocation->options;
	struct restoring restoring = { .options = options, .config = invocation->config, .fd = -1 };
	struct mover_run run = { .json = options->json, .on_ran = on_ran, .ctx = &restoring };
	struct error err = { 0 };
	int r = restore(&restoring, &run, &err);

	if (r == 0 && !options->json)
		tell_end(&run);
	json_decref(run.end);
	saved_release(&restoring.saved);
	fd_close(restoring.fd);
	return r < 0 ? tell(&err) : EXIT_STATUS_OK;
}
