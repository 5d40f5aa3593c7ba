/* SPDX-License-Identifier: Apache-2.0 */
/* utsusu save: a running VM into a file, which then is the VM. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/client.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"
#include "host/host_id.h"
#include "host/runtime.h"
#include "host/state_dir.h"
#include "move/saved/saved.h"
#include "peer/arrivals.h"
#include "peer/mover.h"
#include "programs/utsusu.h"
#include "programs/utsusu_progress.h"

#define SETTLE_TRIES 200
#define SETTLE_NAP_NS (50 * NSEC_PER_MSEC)

DEFINE_CLEANUP(struct api_connection, api_connection_free, connectionp)

struct saving {
	const struct command_options *options;
	const char *base; /* of FILE in its folder */
	char new[NAME_MAX + 1];
	int folder_fd, fd;
	uint8_t token[MOVE_TOKEN_BYTES];
	char uuid[UUID_TEXT];
};

static int refuse_existing(const struct saving *saving, struct error *err)
{
	return error_set(err, -EEXIST, EXIT_STATUS_USAGE,
			 "%s: is there already; give another FILE, or --force to replace it",
			 saving->options->file);
}

static int cannot_make(const struct saving *saving, int r, struct error *err)
{
	return error_set(err, r, EXIT_STATUS_USAGE, "%s: cannot be made: %s; give another FILE",
			 saving->options->file, strerror(-r));
}

static int open_folder(struct saving *saving, struct error *err)
{
	_cleanup_(freep) char *path = strdup(saving->options->file);
	char *slash = path ? strrchr(path, '/') : NULL;

	if (!path)
		return -ENOMEM;
	saving->base = strrchr(saving->options->file, '/');
	saving->base = saving->base ? saving->base + 1 : saving->options->file;
	if (slash)
		slash[slash == path] = '\0';
	saving->folder_fd = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (saving->folder_fd < 0 || !saving->base[0])
		return cannot_make(saving, saving->base[0] ? -errno : -EISDIR, err);
	if (!saving->options->force &&
	    faccessat(saving->folder_fd, saving->base, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return refuse_existing(saving, err);
	return 0;
}

static int open_new(struct saving *saving, struct error *err)
{
	int len = snprintf(saving->new, sizeof(saving->new), ".%s.%d", saving->base, (int)getpid());

	if (len >= (int)sizeof(saving->new))
		return cannot_make(saving, -ENAMETOOLONG, err);
	saving->fd = openat(saving->folder_fd, saving->new,
			    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	return saving->fd < 0 ? cannot_make(saving, -errno, err) : 0;
}

static void remove_new(struct saving *saving)
{
	if (saving->fd >= 0)
		unlinkat(saving->folder_fd, saving->new, 0);
}

/* FILE is the whole VM, or is not there. */
static int put_in_place(struct saving *saving, struct error *err)
{
	int r = renameat2(saving->folder_fd, saving->new, saving->folder_fd, saving->base,
			  saving->options->force ? 0 : RENAME_NOREPLACE) < 0
			? -errno
			: 0;

	if (r == 0 && fsync(saving->folder_fd) < 0)
		r = -errno;
	return r < 0 ? error_set(
			       err, r, EXIT_STATUS_FAILED,
			       "%s: is saved, but as %s in the same folder, which cannot be renamed: "
			       "%s; restore it from there",
			       saving->options->file, saving->new, strerror(-r))
		     : 0;
}

/* ---- the note on this host that the VM is in a file ---- */

/* What it is called to people, as far as there is room; printable. */
static void name_file(const struct saving *saving, char ret_text[MARK_PEER_MAX])
{
	char path[PATH_MAX];

	if (!realpath(saving->options->file, path))
		snprintf(path, sizeof(path), "%s", saving->options->file);
	snprintf(ret_text, MARK_PEER_MAX, MARK_FILE_PREFIX "%.200s", path);
	for (char *at = ret_text; *at; at++)
		if ((uint8_t)*at < ' ' || *at == 0x7f)
			*at = '?';
}

static int write_note(struct saving *saving, struct marks *marks, int state_fd, struct error *err)
{
	struct mark_given given = { .wall_ns = clock_wall(&clock_host), .result = MARK_RAN };
	_cleanup_(fd_closep) int fd = -1;
	int r = arrivals_known(state_fd, marks, saving->options->name, saving->uuid,
			       &given.generation);

	snprintf(given.name, sizeof(given.name), "%s", saving->options->name);
	memcpy(given.uuid, saving->uuid, sizeof(given.uuid));
	memcpy(given.token, saving->token, sizeof(given.token));
	name_file(saving, given.peer);
	if (r == 0) {
		fd = marks_prepare_given(marks, given.name, err);
		r = fd < 0 ? fd : mark_give(fd, &given);
	}
	return r;
}

/* Before the VM is given to the file, so that none is started from its disks whatever breaks then. */
static int note(struct saving *saving, struct error *err)
{
	_cleanup_(fd_closep) int state_fd = -1;
	struct marks *marks = NULL;
	int r = state_dir_open(&state_fd, err);

	if (r == 0)
		r = marks_open(&marks, err);
	if (r == 0)
		r = write_note(saving, marks, state_fd, err);
	marks_close(marks);
	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST,
				 "%s: that it is saved cannot be noted: %s; see that the state "
				 "directory can be written",
				 saving->options->name, strerror(-r))
		     : 0;
}

static void take_note_back(const struct saving *saving)
{
	struct marks *marks = NULL;
	struct error unheard = { 0 };

	if (marks_open(&marks, &unheard) < 0)
		return;
	(void)!marks_settle_given(marks, saving->options->name, saving->token, MARK_NEVER);
	marks_close(marks);
}

/* ---- what a mover that died left ---- */

static bool is_given(const struct saving *saving)
{
	char text[MARK_GIVEN_BYTES];
	struct mark_given given;

	return fd_read_at(saving->fd, text, sizeof(text), 0) == 0 &&
	       mark_given_decode(text, sizeof(text), &given) == 0 && given.result != MARK_NEVER;
}

enum standing { STANDS_UNKNOWN, STANDS_RUNS, STANDS_GONE };

/* Whoever asks first is heard last: a VM that was just being given may not know yet that its mover went. */
static enum standing ask_vm(const struct saving *saving)
{
	_cleanup_(connectionp) struct api_connection *connection = NULL;
	json_auto_t *never = NULL, *facts = NULL;
	char token[2 * MOVE_TOKEN_BYTES + 1];
	struct error unheard = { 0 };
	const char *stage;

	hex_encode(saving->token, sizeof(saving->token), token);
	if (api_connect(saving->options->name, &connection, &unheard) < 0)
		return runtime_alive(saving->options->name) != 0 ? STANDS_UNKNOWN : STANDS_GONE;
	if (api_call(connection, json_pack("{s:s, s:s}", "command", "move-never", "token", token),
		     &never, &unheard) == 0)
		return STANDS_RUNS;
	unheard = (struct error){ 0 };
	if (api_call(connection, json_pack("{s:s}", "command", "move-facts"), &facts, &unheard) < 0)
		return STANDS_UNKNOWN;
	stage = json_string_value(json_object_get(facts, "stage"));
	if (!stage)
		return STANDS_UNKNOWN;
	/* One that came here by a move or out of a file "ran"; so did one that was given to this file. */
	return strcmp(stage, "idle") == 0 || (strcmp(stage, "ran") == 0 && !is_given(saving))
		       ? STANDS_RUNS
		       : STANDS_UNKNOWN;
}

/* Nobody but the VM's process can say: the VM runs on, or it is gone and the file's mark tells whether into it. */
static int settle(struct saving *saving, const struct mover_run *run, struct error *err)
{
	const struct timespec nap = { .tv_nsec = SETTLE_NAP_NS };
	enum standing standing = STANDS_UNKNOWN;

	for (int i = 0; i < SETTLE_TRIES && standing == STANDS_UNKNOWN; i++) {
		if (i)
			nanosleep(&nap, NULL);
		standing = ask_vm(saving);
	}
	if (standing == STANDS_GONE && is_given(saving))
		return put_in_place(saving, err);
	if (standing == STANDS_UNKNOWN)
		return error_set(
			err, -EINPROGRESS, EXIT_STATUS_FAILED,
			"%s: its process does not say whether it was saved; %s beside the file "
			"is kept: end the VM, then restore that",
			saving->options->name, saving->new);
	remove_new(saving);
	take_note_back(saving);
	mover_run_error(run, err);
	return err->code;
}

/* ---- the mover ---- */

static int open_mark(const struct saving *saving)
{
	return openat(saving->folder_fd, saving->new, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
}

static int fill_job(struct saving *saving, struct move_job *job, struct error *err)
{
	_cleanup_(fd_closep) int state_fd = -1;
	int r = state_dir_open(&state_fd, err);

	if (r == 0)
		r = mover_open_vm(state_fd, saving->options->name, job, err);
	if (r < 0)
		return r;
	if (getrandom(saving->token, sizeof(saving->token), 0) != sizeof(saving->token))
		return error_set(err, -EIO, EXIT_STATUS_HOST, "this host has no random numbers");
	memcpy(job->token, saving->token, sizeof(job->token));
	job->generation = 1;
	host_id_read(job->host);
	snprintf(job->peer, sizeof(job->peer), "a file");
	job->file_fd = dup(saving->fd);
	job->mark_fd = open_mark(saving);
	return job->file_fd < 0 || job->mark_fd < 0 ? cannot_make(saving, -errno, err) : 0;
}

static int find_vm(struct saving *saving, struct error *err)
{
	_cleanup_(connectionp) struct api_connection *connection = NULL;
	json_auto_t *facts = NULL;
	const char *uuid;
	int r = api_connect(saving->options->name, &connection, err);

	if (r == 0)
		r = api_call(connection, json_pack("{s:s}", "command", "move-facts"), &facts, err);
	uuid = json_string_value(json_object_get(facts, "uuid"));
	snprintf(saving->uuid, sizeof(saving->uuid), "%s", uuid ? uuid : "");
	return r;
}

static int save(struct saving *saving, struct mover_run *run, struct error *err)
{
	struct move_job job;
	int r = find_vm(saving, err);

	move_job_init(&job, MOVE_SAVE);
	if (r == 0)
		r = open_folder(saving, err);
	if (r == 0)
		r = open_new(saving, err);
	if (r == 0)
		r = fill_job(saving, &job, err);
	if (r == 0)
		r = note(saving, err);
	if (r == 0)
		r = mover_run(run, &job, err);
	else
		move_job_release(&job);
	if (r < 0) {
		remove_new(saving);
		take_note_back(saving);
		return r;
	}
	if (strcmp(mover_run_end(run), "ran") == 0) {
		r = put_in_place(saving, err);
		mover_run_wait_gone(run);
		return r;
	}
	return settle(saving, run, err);
}

int save_vm(struct invocation *invocation)
{
	const struct command_options *options = &invocation->options;
	struct saving saving = { .options = options, .folder_fd = -1, .fd = -1 };
	struct mover_run run = { .name = options->name, .json = options->json };
	struct error err = { 0 };
	int r = save(&saving, &run, &err);

	if (r == 0 && !options->json)
		printf("%s is saved in %s: %" PRIu64 " MiB, %" PRIu64 ".%" PRIu64 " s\n",
		       options->name, options->file, mover_run_number(&run, "wire_bytes") / MIB(1),
		       mover_run_number(&run, "total_ms") / 1000,
		       mover_run_number(&run, "total_ms") % 1000 / 100);
	json_decref(run.end);
	fd_close(saving.fd);
	fd_close(saving.folder_fd);
	return r < 0 ? tell(&err) : EXIT_STATUS_OK;
}
