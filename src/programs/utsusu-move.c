/* SPDX-License-Identifier: Apache-2.0 */

/*
 * utsusu-move --job-fd=N: one side of one move. Everything that it works with is in its job; before a peer's first byte it
 * has given up every right to open anything else.
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
#include "base/fd.h"
#include "host/sandbox.h"
#include "move/mover/destination.h"
#include "move/saved/save.h"
#include "move/mover/source.h"

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
	int kept[7 + MOVE_STREAMS_MAX + LIMIT_DISKS] = {
		job->vm_fd,	  job->ram_fd,	job->mark_fd, job->own_mark_fd,
		job->progress_fd, job->file_fd, job->lock_fd,
	};
	size_t n = 7;

	for (uint32_t i = 0; i < job->n_streams; i++)
		kept[n++] = job->streams[i];
	for (uint32_t i = 0; i < job->n_disks; i++)
		kept[n++] = job->disks[i].fd;
	fd_close_others(kept, n);
}

/* Which of RAM is populated, or filling it: no mover does both. */
static const unsigned int features[] = {
	[MOVE_SOURCE] = SANDBOX_SCANS,
	[MOVE_DESTINATION] = SANDBOX_FILLS,
	[MOVE_SAVE] = SANDBOX_SCANS,
	[MOVE_RESTORE] = SANDBOX_FILLS,
};

static int confine(enum move_role role, struct error *err)
{
	unsigned int missing;
	int r = sandbox_enter_process(&missing, err);

	if (r == 0)
		r = sandbox_enter_thread(SANDBOX_MOVER, features[role]);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST, "sandbox: %s; see utsusu doctor",
				 strerror(-r))
		     : 0;
}

static int prepare(int job_fd, struct move_job *job, struct move_link **ret_link, struct error *err)
{
	int r = move_job_read(job_fd, job, err);

	fd_close(job_fd);
	if (r < 0)
		return r;
	close_the_rest(job);
	r = move_link_new(TAKE_FD(job->vm_fd), job->name, ret_link);
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

static enum move_end (*const roles[])(const struct mover_settings *settings,
				      struct move_numbers *ret_numbers, struct error *err) = {
	[MOVE_SOURCE] = move_source,
	[MOVE_DESTINATION] = move_destination,
	[MOVE_SAVE] = move_save,
	[MOVE_RESTORE] = move_restore,
};

/* Where nobody reads the progress: beside what the daemon has to say. */
static void tell_passed(void *ctx _unused_, const char *name)
{
	fprintf(stderr, "utsusu-move: failpoint %s\n", name);
}

static int move(struct move_job *job, struct move_link *link)
{
	const struct mover_settings settings = {
		.job = job,
		.link = link,
		.clock = &clock_host,
		.peer_ms = job->patience_ms,
		.passed = job->progress_fd < 0 ? tell_passed : NULL,
	};
	struct move_numbers numbers;
	struct error err = { 0 };
	enum move_end end = roles[job->role](&settings, &numbers, &err);

	if (end == MOVE_END_RAN)
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
	struct move_job job = { .vm_fd = -1,
				.ram_fd = -1,
				.mark_fd = -1,
				.own_mark_fd = -1,
				.file_fd = -1,
				.lock_fd = -1,
				.journal_fd = -1,
				.progress_fd = -1 };
	struct move_link *link = NULL;
	struct error err = { 0 };
	int job_fd, r;

	if (argc == 2 && strcmp(argv[1], "--failpoints") == 0)
		return list_failpoints();
	if (argc != 2 || strncmp(argv[1], option, sizeof(option) - 1) != 0 ||
	    !take_number(argv[1] + sizeof(option) - 1, &job_fd))
		return usage();
	sandbox_before_threads();
	signal(SIGPIPE, SIG_IGN);
	r = prepare(job_fd, &job, &link, &err) < 0 ? fail(&job, &err) : move(&job, link);
	if (link)
		link->ops->free(link);
	move_job_release(&job);
	return r;
}
