/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "net/passt.h"

#define PASST_SOCKET 3 /* its number in passt */
#define OUTPUT_MAX 2048
#define START_LIMIT_MS 10000

/* What passt inherits: its socket, a pipe for its complaints, and nothing else of ours. */
static int spawn(int sock, int complaints, pid_t *ret_pid)
{
	char mtu[16], number[16];
	char *const argv[] = { "passt", "--quiet", "--mtu", mtu, "--fd", number, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	int r;

	snprintf(mtu, sizeof(mtu), "%d", PASST_MTU);
	snprintf(number, sizeof(number), "%d", PASST_SOCKET);
	sigemptyset(&none);
	sigfillset(&all);
	r = posix_spawn_file_actions_init(&actions);
	if (r)
		return -r;
	r = posix_spawnattr_init(&attributes);
	if (r) {
		posix_spawn_file_actions_destroy(&actions);
		return -r;
	}
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	r = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDWR, 0);
	if (!r)
		r = posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDOUT_FILENO);
	if (!r)
		r = posix_spawn_file_actions_adddup2(&actions, complaints, STDERR_FILENO);
	if (!r)
		r = posix_spawn_file_actions_adddup2(&actions, sock, PASST_SOCKET);
	if (!r)
		r = posix_spawn_file_actions_addclosefrom_np(&actions, PASST_SOCKET + 1);
	if (!r)
		r = posix_spawnp(ret_pid, argv[0], &actions, &attributes, argv, environ);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* The line of passt's output that tells why; it also tells of a missing log and of its user. */
static const char *reason(char *output)
{
	const char *found = NULL;

	for (char *rest = output, *line; (line = strsep(&rest, "\n"));)
		if (*line && !strstr(line, "syslog") && !strstr(line, "Changing to"))
			found = found ? found : line;
	return found ? found : "it ended without a reason";
}

/* Reads until the end of passt's complaints; false when that takes too long. */
static bool read_complaints(int fd, char output[OUTPUT_MAX + 1])
{
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	size_t len = 0;
	ssize_t n = 1;

	while (n > 0 && len < OUTPUT_MAX) {
		int ready = poll(&wait, 1, START_LIMIT_MS);

		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			break;
		n = read(fd, output + len, OUTPUT_MAX - len);
		len += n > 0 ? (size_t)n : 0;
	}
	output[len] = '\0';
	return n == 0 || len == OUTPUT_MAX;
}

/* passt becomes a daemon once it serves: the process that we started then ends with 0. */
static int wait_ready(pid_t pid, int complaints, struct error *err)
{
	char output[OUTPUT_MAX + 1];
	bool in_time = read_complaints(complaints, output);
	int status;

	if (!in_time)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_set(err, -errno, EXIT_STATUS_FAILED, "net user: passt: %s",
					 strerror(errno));
	if (!in_time)
		return error_set(
			err, -ETIMEDOUT, EXIT_STATUS_HOST,
			"net user: passt did not start within %d s; try it by hand: passt -f",
			START_LIMIT_MS / 1000);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return error_set(err, -EIO, EXIT_STATUS_HOST,
			 "net user: passt cannot start: %s (it needs a host with a default route; "
			 "use --net tap=NAME otherwise)",
			 reason(output));
}

/* Moves a descriptor out of the way of those that dup2 makes in the child; -1 when there is no room. */
static int raise_fd(int fd)
{
	int raised = fcntl(fd, F_DUPFD_CLOEXEC, PASST_SOCKET + 1);

	fd_close(fd);
	return raised;
}

int passt_start(int *ret_fd, struct error *err)
{
	_cleanup_(fd_closep) int ours = -1, theirs = -1, complaints = -1, complain = -1;
	int pair[2], r;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return error_set(err, -errno, EXIT_STATUS_HOST, "net user: socket: %s",
				 strerror(errno));
	ours = pair[0];
	theirs = raise_fd(pair[1]);
	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_set(err, -errno, EXIT_STATUS_HOST, "net user: pipe: %s",
				 strerror(errno));
	complaints = pair[0];
	complain = raise_fd(pair[1]);
	if (theirs < 0 || complain < 0)
		return error_set(err, -EMFILE, EXIT_STATUS_HOST, "net user: %s", strerror(EMFILE));
	r = spawn(theirs, complain, &pid);
	if (r == -ENOENT)
		return error_set(
			err, r, EXIT_STATUS_HOST,
			"net user: passt is not installed: run 'apt install passt' as root, or use "
			"--net tap=NAME");
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "net user: passt: %s", strerror(-r));
	fd_close(TAKE_FD(complain));
	fd_close(TAKE_FD(theirs));
	r = wait_ready(pid, complaints, err);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(ours);
	return 0;
}
