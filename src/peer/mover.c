/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/mover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "api/launch.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "host/keeper.h"
#include "host/runtime.h"
#include "host/state_dir.h"

#define PROGRAM "utsusu-move"
#define FAILPOINT_FILE "failpoint"
#define PATIENCE_FILE "patience"
#define LOCK_TRIES 16
#define LOCK_PREFIX "move-"

void mover_key_context(const char *uuid, uint64_t generation, const char *token,
		       char ret_text[MOVER_KEY_CONTEXT])
{
	snprintf(ret_text, MOVER_KEY_CONTEXT, "%s:%" PRIu64 ":%s", uuid, generation, token);
}

/* The text of a file that a test left, without its line's end; "": there is none. */
static void read_wish(int state_fd, const char *file, size_t size, char *ret_text)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;

	ret_text[0] = '\0';
	if (state_dir_read(state_fd, file, size - 1, &text, &len) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	snprintf(ret_text, size, "%s", text);
}

static void read_wishes(int state_fd, struct move_job *job)
{
	char patience[16];

	read_wish(state_fd, FAILPOINT_FILE, sizeof(job->failpoint), job->failpoint);
	read_wish(state_fd, PATIENCE_FILE, sizeof(patience), patience);
	job->patience_ms = (uint32_t)strtoul(patience, NULL, 10);
}

void mover_failpoint(char ret_text[FAILPOINT_TEXT_MAX])
{
	_cleanup_(fd_closep) int state_fd = -1;

	ret_text[0] = '\0';
	if (state_dir_is_there() && state_dir_open(&state_fd, NULL) == 0)
		read_wish(state_fd, FAILPOINT_FILE, FAILPOINT_TEXT_MAX, ret_text);
}

int mover_open_vm(int state_fd, const char *name, struct move_job *job, struct error *err)
{
	int r = runtime_connect(name, RUNTIME_SOCKET, &job->vm_fd);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_NOT_FOUND,
				 "%s: its process cannot be reached: %s; see utsusu list", name,
				 strerror(-r));
	r = keeper_fetch(name, KEEPER_RAM, &job->ram_fd, err);
	if (r < 0)
		return r;
	snprintf(job->name, sizeof(job->name), "%s", name);
	read_wishes(state_fd, job);
	return 0;
}

static void become_mover(const char *program, int job_fd)
{
	char option[32];
	char *const argv[] = { (char *)PROGRAM, option, NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	snprintf(option, sizeof(option), "--job-fd=%d", job_fd);
	setsid();
	/* Standard error stays: the journal. */
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    fcntl(job_fd, F_SETFD, 0) < 0)
		_exit(EXIT_STATUS_FAILED);
	execv(program, argv);
	_exit(EXIT_STATUS_FAILED);
}

int mover_start(const struct move_job *job, pid_t *ret_pid, struct error *err)
{
	_cleanup_(fd_closep) int job_fd = -1;
	char program[PATH_MAX];
	pid_t pid = -1;
	int r = launch_find_program(PROGRAM, program, sizeof(program));

	if (r == 0)
		r = move_job_write(job, &job_fd);
	if (r == 0) {
		pid = fork();
		r = pid < 0 ? -errno : 0;
	}
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED,
				 PROGRAM ": cannot be started: %s; install it beside utsusud",
				 strerror(-r));
	if (pid == 0)
		become_mover(program, job_fd);
	*ret_pid = pid;
	return 0;
}

int mover_wait(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void lock_file(const char *name, char ret_file[LIMIT_NAME + 8])
{
	snprintf(ret_file, LIMIT_NAME + 8, LOCK_PREFIX "%.*s", LIMIT_NAME - 1, name);
}

/* -EAGAIN: whoever had it removed it just now. */
static int try_lock(int folder_fd, const char *file, int *ret_fd)
{
	_cleanup_(fd_closep) int fd = openat(folder_fd, file,
					     O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;
	int r = fd < 0 ? -errno : fd_lock(fd, F_WRLCK);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return -EAGAIN;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int mover_lock(int folder_fd, const char *name, int *ret_fd)
{
	char file[LIMIT_NAME + 8];
	int r = -EAGAIN;

	lock_file(name, file);
	for (int i = 0; i < LOCK_TRIES && r == -EAGAIN; i++)
		r = try_lock(folder_fd, file, ret_fd);
	return r;
}

/* Whoever has the lock may remove its file: those who wait for it see that it went. */
static void remove_free(int folder_fd, const char *file)
{
	_cleanup_(fd_closep) int fd = -1;

	if (try_lock(folder_fd, file, &fd) == 0)
		unlinkat(folder_fd, file, 0);
}

void mover_unlock(int folder_fd, const char *name, int fd)
{
	char file[LIMIT_NAME + 8];

	if (fd < 0)
		return;
	lock_file(name, file);
	fd_close(fd);
	remove_free(folder_fd, file);
}

bool mover_is_at_work(int folder_fd, const char *name)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	_cleanup_(fd_closep) int fd = -1;
	char file[LIMIT_NAME + 8];

	lock_file(name, file);
	fd = openat(folder_fd, file, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno != ENOENT;
	return fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type != F_UNLCK;
}

void mover_forget_locks(int folder_fd)
{
	int copy = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (strncmp(entry->d_name, LOCK_PREFIX, strlen(LOCK_PREFIX)) == 0)
			remove_free(folder_fd, entry->d_name);
	if (dir)
		closedir(dir);
	else
		fd_close(copy);
}
