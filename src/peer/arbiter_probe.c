/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/arbiter_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/launch.h"
#include "base/clock.h"
#include "base/fd.h"

#define PROGRAM "utsusu-arbiter"
#define PROBE_NS (15 * NSEC_PER_SEC)

static void become_probe(const char *program, int said)
{
	char *const argv[] = { (char *)PROGRAM, (char *)"--check", NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(said, STDERR_FILENO) < 0)
		_exit(EXIT_STATUS_FAILED);
	execv(program, argv);
	_exit(EXIT_STATUS_FAILED);
}

/* Its one line, without the program's name. */
static void hear(int fd, uint64_t due_ns, char *text, size_t size)
{
	static const char prefix[] = PROGRAM ": ";
	size_t len = 0;
	ssize_t n = 1;

	while (n > 0 && len < size - 1 && fd_wait_readable(fd, due_ns) >= 0) {
		n = read(fd, text + len, size - 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	text[len] = '\0';
	text[strcspn(text, "\n")] = '\0';
	if (strncmp(text, prefix, sizeof(prefix) - 1) == 0)
		memmove(text, text + sizeof(prefix) - 1, strlen(text) - sizeof(prefix) + 2);
}

/* What it said when it ended well is of no interest. */
static int finish(pid_t pid, int fd, struct error *err)
{
	char text[ERROR_MESSAGE_MAX];
	int status;

	hear(fd, clock_now(&clock_host) + PROBE_NS, text, sizeof(text));
	kill(pid, SIGKILL); /* nothing to one that has ended */
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	return error_set(err, -EHOSTUNREACH, EXIT_STATUS_HOST, "%s",
			 text[0] ? text : "arbiter: cannot be asked; see utsusu arbiter check");
}

int arbiter_probe(const struct lists *lists, struct error *err)
{
	char program[PATH_MAX];
	int said[2], r;
	pid_t pid;

	if (lists->arbiter.manual)
		return 0;
	if (!lists->arbiter.n_endpoints)
		return error_set(
			err, -ENOENT, EXIT_STATUS_HOST,
			"no arbiter is named in %.200s, and without one nobody can say who "
			"runs a protected VM: add \"arbiter\": docs/protecting.md",
			lists_path());
	r = launch_find_program(PROGRAM, program, sizeof(program));
	if (r == 0 && pipe2(said, O_CLOEXEC) < 0)
		r = -errno;
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED,
				 PROGRAM ": cannot be started: %s; install it beside utsusud",
				 strerror(-r));
	pid = fork();
	if (pid == 0)
		become_probe(program, said[1]);
	fd_close(said[1]);
	r = pid < 0 ? -EAGAIN : finish(pid, said[0], err);
	fd_close(said[0]);
	return r;
}
