/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/incoming.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/fd.h"
#include "host/runtime.h"
#include "host/state_dir.h"
#include "peer/process.h"
#include "peer/request.h"

#define PREFIX "vm-"
#define FILE_MAX 256
#define BURY_TRIES 150
#define BURY_STEP_NS (20 * NSEC_PER_MSEC)

struct process {
	char name[LIMIT_NAME];
	pid_t pid;
	uint64_t start; /* clock ticks after boot: with it a number that came again is told apart */
};

static void file_name(const char *token, char *ret_name, size_t size)
{
	snprintf(ret_name, size, PREFIX "%.*s", PEER_TOKEN_TEXT - 1, token);
}

int incoming_note(int folder_fd, const char *token, const char *name)
{
	_cleanup_(fd_closep) int fd = -1;
	char file[64], text[FILE_MAX];
	uint64_t start;
	pid_t pid;
	int r = runtime_connect(name, RUNTIME_SOCKET, &fd);

	if (r < 0)
		return r;
	r = process_at(fd, &pid, &start);
	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "%d %" PRIu64 " %s\n", (int)pid, start, name);
	file_name(token, file, sizeof(file));
	return state_dir_write(folder_fd, file, text, strlen(text), 0600);
}

static int read_process(int folder_fd, const char *file, struct process *ret_process)
{
	_cleanup_(freep) char *text = NULL;
	int pid;
	size_t len;
	int r = state_dir_read(folder_fd, file, FILE_MAX, &text, &len);

	if (r < 0)
		return r;
	if (sscanf(text, "%d %" SCNu64 " %63s", &pid, &ret_process->start, ret_process->name) !=
		    3 ||
	    pid <= 1)
		return -EBADMSG;
	ret_process->pid = pid;
	return 0;
}

/* A descriptor of the living process; -ESRCH: it has ended. The number is held by the descriptor before it is judged. */
static int open_process(int folder_fd, const char *file)
{
	_cleanup_(fd_closep) int fd = -1;
	struct pollfd end = { .events = POLLIN };
	struct process process;
	uint64_t start;
	int r = read_process(folder_fd, file, &process);

	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	fd = (int)syscall(SYS_pidfd_open, process.pid, 0);
	if (fd < 0)
		return -errno;
	r = process_start(process.pid, &start);
	if (r < 0)
		return r;
	end.fd = fd;
	if (start != process.start || poll(&end, 1, 0) != 0)
		return -ESRCH;
	return TAKE_FD(fd);
}

int incoming_lives(int folder_fd, const char *token)
{
	char file[64];
	int fd;

	file_name(token, file, sizeof(file));
	fd = open_process(folder_fd, file);
	fd_close(fd);
	if (fd >= 0)
		return 1;
	return fd == -ESRCH ? 0 : fd;
}

int incoming_end(int folder_fd, const char *token, unsigned int timeout_ms)
{
	struct pollfd end = { .events = POLLIN };
	char file[64];
	int r;

	file_name(token, file, sizeof(file));
	_cleanup_(fd_closep) int fd = open_process(folder_fd, file);

	if (fd < 0)
		return fd == -ESRCH ? 0 : fd;
	if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return -errno;
	end.fd = fd;
	do {
		r = poll(&end, 1, (int)timeout_ms);
	} while (r < 0 && errno == EINTR);
	return r == 1 ? 0 : -ETIMEDOUT;
}

/* A claim of a dead VM's name empties its folder; giving it back removes that. */
static int clear_name(const char *name)
{
	struct runtime_vm vm;
	int r;

	if (!runtime_is_dead(name))
		return runtime_alive(name) != 0 ? -EBUSY : 0;
	r = runtime_claim(name, &vm, NULL);
	if (r == 0)
		runtime_release(&vm);
	return r;
}

void incoming_drop(int folder_fd, const char *token)
{
	char file[64];

	file_name(token, file, sizeof(file));
	unlinkat(folder_fd, file, 0);
}

void incoming_bury(int folder_fd, const char *token)
{
	const struct timespec step = { .tv_nsec = BURY_STEP_NS };
	struct process process;
	char file[64];

	file_name(token, file, sizeof(file));
	if (read_process(folder_fd, file, &process) < 0)
		return;
	for (int i = 0; i < BURY_TRIES && clear_name(process.name) == -EBUSY; i++)
		nanosleep(&step, NULL);
	incoming_drop(folder_fd, token);
}

void incoming_forget(int folder_fd)
{
	int copy = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	struct process process;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		int fd;

		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0)
			continue;
		fd = open_process(folder_fd, entry->d_name);
		if (fd == -ESRCH && read_process(folder_fd, entry->d_name, &process) == 0 &&
		    clear_name(process.name) != -EBUSY)
			unlinkat(folder_fd, entry->d_name, 0);
		fd_close(fd);
	}
	if (dir)
		closedir(dir);
	else
		fd_close(copy);
}
