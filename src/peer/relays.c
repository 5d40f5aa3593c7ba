/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/relays.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "api/launch.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "host/runtime.h"

#define PROGRAM "utsusu-arbiter"
#define PREFIX_LEN (sizeof(RELAY_PREFIX) - 1)
#define AGAIN_S 5 /* one that ends at once is not started more often */

static void become_relay(const char *program, const char *name)
{
	/* By its path: so a person sees which of two installed ones it is. */
	char *const argv[] = { (char *)program, (char *)"--vm", (char *)name, NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	sigset_t none;

	sigemptyset(&none); /* the daemon hears its own as a descriptor */
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	/* Standard error stays: the journal. */
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		_exit(EXIT_STATUS_FAILED);
	fd_close_others(NULL, 0);
	execv(program, argv);
	_exit(EXIT_STATUS_FAILED);
}

static int start(const char *name, struct error *err)
{
	char program[PATH_MAX];
	pid_t pid = -1;
	int r = launch_find_program(PROGRAM, program, sizeof(program));

	if (r == 0) {
		pid = fork();
		r = pid < 0 ? -errno : 0;
	}
	if (pid == 0)
		become_relay(program, name);
	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED,
				 PROGRAM ": cannot be started: %s; install it beside utsusud",
				 strerror(-r))
		     : 0;
}

int relay_begin(int folder_fd, const char *name, const struct relay_note *note, struct error *err)
{
	bool there;
	int r = relay_want(folder_fd, name, note, &there);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "%s: its relay's note: %s", name,
				 strerror(-r));
	/* Whoever is one too many finds the lock taken, and ends. */
	return there ? 0 : start(name, err);
}

static void tend(int folder_fd, const char *file, const struct log *log)
{
	_cleanup_(fd_closep) int fd = openat(folder_fd, file, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	const char *name = file + PREFIX_LEN;
	struct error err = { 0 };
	struct stat st;

	if (fd < 0 || !runtime_name_valid(name) || relay_is_there(fd) || fstat(fd, &st) < 0)
		return;
	if (runtime_alive(name) == 0) {
		unlinkat(folder_fd, file, 0);
		return;
	}
	if (time(NULL) - st.st_mtime < AGAIN_S)
		return;
	(void)futimens(fd, NULL);
	log_line(log, LOG_LEVEL_WARNING, "%s: has no relay to the arbiter; another is started",
		 name);
	if (start(name, &err) < 0)
		log_line(log, LOG_LEVEL_ERROR, "%s: %s", name, err.message);
}

void relay_tend(int folder_fd, const struct log *log)
{
	int copy = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	const struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (strncmp(entry->d_name, RELAY_PREFIX, PREFIX_LEN) == 0)
			tend(folder_fd, entry->d_name, log);
	if (dir)
		closedir(dir);
	else
		fd_close(copy);
}
