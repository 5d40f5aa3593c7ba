/* SPDX-License-Identifier: Apache-2.0 */

/*
 * utsusu-move --job-fd=N: one side of one move, or the guard beside one side of a protected VM. Everything that it works with is in its job; before
 * a peer's first byte it has given up every right to open anything else.
 *
 * utsusu-move --failpoints lists the places of base/failpoint.h, for suites.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "api/move_link.h"
#include "api/protect_link.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "host/runtime.h"
#include "host/sandbox.h"
#include "move/mover/destination.h"
#include "move/saved/save.h"
#include "move/mover/source.h"
#include "protect/guard/backup.h"
#include "protect/guard/owner.h"

static int usage(void)
{
	fprintf(stderr, "utsusu-move: is started by utsusud; see utsusu move --help\n");
	return EXIT_STATUS_USAGE;
}

static int list_failpoints(void)
{
	for (int i = 0; i < FAILPOINTS_N; i++)
		puts(failpoint_text((enum failpoint_name)i));
	return fflush(stdout) == EOF ? EXIT_STATUS_FAILED : EXIT_STATUS_OK;
}

/* What the daemon left open by mistake is not within a peer's reach. */
static void close_the_rest(const struct move_job *job)
{
	int kept[8 + MOVE_STREAMS_MAX + LIMIT_DISKS] = {
		job->vm_fd,	  job->ram_fd,	job->mark_fd, job->own_mark_fd,
		job->progress_fd, job->file_fd, job->lock_fd, job->journal_fd,
	};
	size_t n = 8;

	for (uint32_t i = 0; i < job->n_streams; i++)
		kept[n++] = job->streams[i];
	for (uint32_t i = 0; i < job->n_disks; i++)
		kept[n++] = job->disks[i].fd;
	fd_close_others(kept, n);
}

/* What a role is done by, and what it may ask the kernel for: which of RAM is populated, or filling it; no mover does both. */
static const struct role {
	unsigned int features;
	enum move_end (*move)(const struct mover_settings *settings,
			      struct move_numbers *ret_numbers, struct error *err);
	enum move_end (*guard)(const struct guard_settings *settings, struct error *err);
} roles[] = {
	[MOVE_SOURCE] = { SANDBOX_SCANS, .move = move_source },
	[MOVE_DESTINATION] = { SANDBOX_FILLS, .move = move_destination },
	[MOVE_SAVE] = { SANDBOX_SCANS, .move = move_save },
	[MOVE_RESTORE] = { SANDBOX_FILLS, .move = move_restore },
	[MOVE_OWNER] = { SANDBOX_SCANS, .guard = protect_owner },
	[MOVE_BACKUP] = { 0, .guard = protect_backup },
};

/* Whoever the job says it is to be, and its link to the VM: one of the two. */
struct program {
	struct move_job job;
	struct move_link *mover;
	struct protect_link *guard;
};

static int confine(enum move_role role, struct error *err)
{
	unsigned int missing;
	int r = sandbox_enter_process(&missing, err);

	if (r == 0)
		r = sandbox_enter_thread(SANDBOX_MOVER, roles[role].features);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST, "sandbox: %s; see utsusu doctor",
				 strerror(-r))
		     : 0;
}

/* What an owner's backup acknowledges comes to the VM by a connection of its own. */
static int link_guard(struct program *program)
{
	struct move_job *job = &program->job;
	_cleanup_(fd_closep) int acks = -1;
	int r = job->role == MOVE_OWNER ? runtime_connect(job->name, RUNTIME_SOCKET, &acks) : 0;

	return r < 0 ? r
		     : protect_link_new(TAKE_FD(job->vm_fd), TAKE_FD(acks), job->name,
					&program->guard);
}

static int prepare(int job_fd, struct program *program, struct error *err)
{
	struct move_job *job = &program->job;
	int r = move_job_read(job_fd, job, err);

	fd_close(job_fd);
	if (r < 0)
		return r;
	close_the_rest(job);
	r = roles[job->role].guard ? link_guard(program)
				   : move_link_new(TAKE_FD(job->vm_fd), job->name, &program->mover);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "%s: cannot be reached: %s", job->name,
				 strerror(-r));
	return confine(job->role, err);
}

static int fail(const struct move_job *job, const struct error *err)
{
	struct progress progress;

	progress_init(&progress, job->progress_fd, &clock_host);
	progress_end(&progress, MOVE_END_FAILED, &(struct move_numbers){ 0 }, err);
	fprintf(stderr, "utsusu-move: %s\n", err->message);
	return err->status;
}

/* Where nobody reads the progress: beside what the daemon has to say. */
static void tell_passed(void *ctx _unused_, const char *name)
{
	fprintf(stderr, "utsusu-move: failpoint %s\n", name);
}

static enum move_end move(struct program *program, struct error *err)
{
	struct move_job *job = &program->job;
	const struct mover_settings settings = {
		.job = job,
		.link = program->mover,
		.clock = &clock_host,
		.peer_ms = job->patience_ms,
		.passed = job->progress_fd < 0 ? tell_passed : NULL,
	};
	struct move_numbers numbers;

	return roles[job->role].move(&settings, &numbers, err);
}

static enum move_end guard(struct program *program, struct error *err)
{
	const struct guard_settings settings = {
		.job = &program->job,
		.link = program->guard,
		.clock = &clock_host,
	};

	return roles[program->job.role].guard(&settings, err);
}

static int work(struct program *program)
{
	struct error err = { 0 };
	enum move_end end = (program->guard ? guard : move)(program, &err);

	if (end == MOVE_END_RAN || end == MOVE_END_OFF)
		return EXIT_STATUS_OK;
	fprintf(stderr, "utsusu-move: %s\n", err.message);
	return err.status;
}

static bool take_number(const char *text, int *ret_number)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || number > 65535)
		return false;
	*ret_number = (int)number;
	return true;
}

int main(int argc, char **argv)
{
	static const char option[] = "--job-fd=";
	struct program program = { .mover = NULL };
	struct error err = { 0 };
	int job_fd, r;

	if (argc == 2 && strcmp(argv[1], "--failpoints") == 0)
		return list_failpoints();
	if (argc != 2 || strncmp(argv[1], option, sizeof(option) - 1) != 0 ||
	    !take_number(argv[1] + sizeof(option) - 1, &job_fd))
		return usage();
	sandbox_before_threads();
	signal(SIGPIPE, SIG_IGN);
	move_job_init(&program.job, MOVE_SOURCE);
	r = prepare(job_fd, &program, &err) < 0 ? fail(&program.job, &err) : work(&program);
	if (program.mover)
		program.mover->ops->free(program.mover);
	if (program.guard)
		program.guard->ops->free(program.guard);
	move_job_release(&program.job);
	return r;
}
