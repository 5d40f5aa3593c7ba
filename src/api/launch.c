/* SPDX-License-Identifier: Apache-2.0 */
#include "api/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/args.h"
#include "api/config.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/signals.h"

#define PROGRAM "utsusu-vm"
#define START_SECONDS 120 /* reserving much memory takes time; longer than this is a hang */
#define READY_MAX 2048	  /* bytes of the first word */

/* The arguments: the name (so that ps shows it), and the descriptors' numbers. */
struct launch_args {
	int config, root, dir, lock, ready, heir;
	bool incoming;
	char name[LIMIT_NAME];
};

#define FD_ROW(member, key_, flags_)                                                               \
	{                                                                                          \
		.key = key_, .type = SCHEMA_FD, .flags = flags_,                                   \
		.offset = offsetof(struct launch_args, member), .min = 3, .max = INT_MAX,          \
		.value = "FD", .help = "a descriptor; start VMs with utsusu run"                   \
	}

static const struct schema_row launch_rows[] = {
	FD_ROW(config, "config-fd", SCHEMA_REQUIRED),
	FD_ROW(root, "root-fd", SCHEMA_REQUIRED),
	FD_ROW(dir, "dir-fd", SCHEMA_REQUIRED),
	FD_ROW(lock, "lock-fd", SCHEMA_REQUIRED),
	FD_ROW(ready, "ready-fd", 0),
	FD_ROW(heir, "heir-fd", 0),
	{ .key = "incoming",
	  .type = SCHEMA_BOOL,
	  .offset = offsetof(struct launch_args, incoming),
	  .value = "on",
	  .help = "the VM comes by a move; moves are made with utsusu move" },
	{ .key = "name",
	  .type = SCHEMA_CHARS,
	  .flags = SCHEMA_POSITIONAL | SCHEMA_REQUIRED,
	  .offset = offsetof(struct launch_args, name),
	  .min = 1,
	  .max = LIMIT_NAME - 1,
	  .value = "NAME",
	  .help = "the VM's name; start VMs with utsusu run" },
};

static const struct schema launch_schema = { launch_rows, ARRAY_SIZE(launch_rows),
					     sizeof(struct launch_args) };

static int keep_from_children(int fd)
{
	return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

static int decode_args(char **argv, struct launch_args *ret_args, struct error *err)
{
	struct args_target target = { .schema = &launch_schema, .object = ret_args };
	struct args args = { .targets = &target, .n_targets = 1, .command = "run" };
	struct problems problems = { 0 };

	schema_init(&launch_schema, ret_args);
	ret_args->ready = ret_args->heir = -1;
	if (args_decode(&args, argv, &problems)) {
		*err = problems.list[0];
		return err->code;
	}
	return 0;
}

static int keep_all_from_children(const struct launch_args *args, struct error *err)
{
	const int fds[] = {
		args->config, args->root, args->dir, args->lock, args->ready, args->heir
	};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0 && keep_from_children(fds[i]) < 0)
			return error_set(err, -EBADF, EXIT_STATUS_USAGE,
					 "--%s: %d is not open; start VMs with utsusu run",
					 launch_rows[i].key, fds[i]);
	return 0;
}

static int take_config(struct launch *launch, int fd, struct error *err)
{
	int r = config_from_fd(fd, &launch->config, err);

	fd_close(fd);
	if (r == 0 && strcmp(launch->config.name, launch->vm.name) != 0)
		r = error_set(err, -EINVAL, EXIT_STATUS_USAGE,
			      "name: is not the one that was claimed; start VMs with utsusu run");
	return r;
}

int launch_receive(char **argv, struct launch *ret_launch, struct error *err)
{
	struct launch_args args;
	int r = decode_args(argv, &args, err);

	if (r == 0)
		r = keep_all_from_children(&args, err);
	if (r < 0)
		return r;
	ret_launch->vm = (struct runtime_vm){
		.root_fd = args.root,
		.dir_fd = args.dir,
		.lock_fd = args.lock,
		.borrowed = args.heir >= 0,
	};
	memcpy(ret_launch->vm.name, args.name, LIMIT_NAME);
	ret_launch->ready_fd = args.ready;
	ret_launch->heir_fd = args.heir;
	ret_launch->detached = args.ready >= 0;
	ret_launch->incoming = args.incoming;
	r = take_config(ret_launch, args.config, err);
	if (r < 0) {
		launch_report(ret_launch, err);
		launch_release(ret_launch);
	}
	return r;
}

void launch_release(struct launch *launch)
{
	fd_close(TAKE_FD(launch->ready_fd));
	fd_close(TAKE_FD(launch->heir_fd));
	runtime_release(&launch->vm);
	vm_config_release(&launch->config);
}

bool launch_report(struct launch *launch, const struct error *err)
{
	_cleanup_(fd_closep) int fd = TAKE_FD(launch->ready_fd);
	char text[READY_MAX];
	int len;

	if (fd < 0)
		return false;
	len = snprintf(text, sizeof(text), "%d %s", err ? (int)err->status : 0,
		       err ? err->message : "");
	/* Who waited may have gone; the VM does not depend on it. */
	return fd_write_all(fd, text, (size_t)len) == 0;
}

int launch_find_program(const char *name, char *ret_path, size_t size)
{
	char self[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (len > 0) {
		self[len] = '\0';
		slash = strrchr(self, '/');
		if (slash &&
		    snprintf(ret_path, size, "%.*s/%s", (int)(slash - self), self, name) <
			    (int)size &&
		    access(ret_path, X_OK) == 0)
			return 0;
	}
	snprintf(ret_path, size, "%s/%s", UTSUSU_LIBEXECDIR, name);
	return access(ret_path, X_OK) < 0 ? -errno : 0;
}

static int leave_open(int fd)
{
	return fcntl(fd, F_SETFD, 0) < 0 ? -errno : 0;
}

/* How a process of a VM is started. */
struct start {
	const struct vm_config *config;
	struct runtime_vm *vm;
	const char *program;   /* NULL: to be found */
	int ready_fd, heir_fd; /* -1: none */
	bool incoming;
};

/* The exec itself; returns only on failure. */
static int become_program(const struct start *start)
{
	const struct runtime_vm *vm = start->vm;
	char found[PATH_MAX], text[6][32];
	const char *program = start->program ? start->program : found;
	char *argv[10] = { (char *)PROGRAM, (char *)vm->name, text[0], text[1], text[2], text[3] };
	char **more = argv + 6;
	int config_fd, r = start->program ? 0 : launch_find_program(PROGRAM, found, sizeof(found));

	if (r == 0)
		r = config_to_fd(start->config, &config_fd);
	if (r < 0)
		return r;
	if (leave_open(vm->root_fd) < 0 || leave_open(vm->dir_fd) < 0 ||
	    leave_open(vm->lock_fd) < 0 ||
	    (start->ready_fd >= 0 && leave_open(start->ready_fd) < 0) ||
	    (start->heir_fd >= 0 && leave_open(start->heir_fd) < 0))
		return -errno;
	snprintf(text[0], sizeof(text[0]), "--config-fd=%d", config_fd);
	snprintf(text[1], sizeof(text[1]), "--root-fd=%d", vm->root_fd);
	snprintf(text[2], sizeof(text[2]), "--dir-fd=%d", vm->dir_fd);
	snprintf(text[3], sizeof(text[3]), "--lock-fd=%d", vm->lock_fd);
	snprintf(text[4], sizeof(text[4]), "--ready-fd=%d", start->ready_fd);
	snprintf(text[5], sizeof(text[5]), "--heir-fd=%d", start->heir_fd);
	if (start->ready_fd >= 0)
		*more++ = text[4];
	if (start->heir_fd >= 0)
		*more++ = text[5];
	if (start->incoming)
		*more = (char *)"--incoming";
	execv(program, argv);
	return -errno;
}

static int exec_error(int code, struct error *err)
{
	return error_set(
		err, code, EXIT_STATUS_FAILED,
		PROGRAM
		": cannot be started: %s; install it beside utsusu or in " UTSUSU_LIBEXECDIR,
		strerror(-code));
}

int launch_exec(const struct vm_config *config, struct runtime_vm *vm, struct error *err)
{
	const struct start start = { config, vm, .ready_fd = -1, .heir_fd = -1 };
	int r = become_program(&start);

	runtime_release(vm);
	return exec_error(r, err);
}

/* The child: a session of its own, so that no terminal's signals reach it, and its output in the
 * log. */
static void run_child(const struct start *start, int log_fd)
{
	struct launch launch = { .ready_fd = start->ready_fd, .heir_fd = -1 };
	struct error err = { 0 };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	if (null >= 0 && dup2(null, 0) >= 0 && dup2(log_fd, 1) >= 0 && dup2(log_fd, 2) >= 0)
		exec_error(become_program(start), &err);
	else
		exec_error(-errno, &err);
	launch_report(&launch, &err);
	_exit(err.status);
}

/* Reads the first word until the pipe closes: bytes read, -ETIMEDOUT, or -EINTR when a signal asks us to
 * end. */
static int read_ready(int fd, int signals, char *text, size_t size,
		      void (*progress)(unsigned int seconds))
{
	size_t used = 0;

	for (unsigned int seconds = 0; seconds < START_SECONDS;) {
		struct pollfd fds[] = {
			{ .fd = fd, .events = POLLIN },
			{ .fd = signals, .events = POLLIN },
		};
		struct signalfd_siginfo info;
		ssize_t n;

		if (poll(fds, ARRAY_SIZE(fds), 1000) == 0) {
			seconds++;
			if (progress)
				progress(seconds);
			continue;
		}
		/* Taken, or it would still end us once it is let through again. */
		if (fds[1].revents && read(signals, &info, sizeof(info)) == sizeof(info))
			return -EINTR;
		if (!fds[0].revents)
			continue;
		n = read(fd, text + used, size - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			text[used] = '\0';
			return (int)used;
		}
		used += (size_t)n;
	}
	return -ETIMEDOUT;
}

static int judge_ready(const char *name, char *text, int len, int log_fd, struct error *err)
{
	char line[256];
	char *message;
	long status;

	if (len == -ETIMEDOUT)
		return error_set(
			err, len, EXIT_STATUS_FAILED,
			"%s: has not started within %d s; try again without --detach to see why",
			name, START_SECONDS);
	if (len < 0)
		return error_set(
			err, len, EXIT_STATUS_FAILED,
			"%s: interrupted before the guest ran; it is ended, start it again", name);
	status = strtol(text, &message, 10);
	if (message != text && status == 0)
		return 0;
	if (message != text && status >= EXIT_STATUS_FAILED && status <= EXIT_STATUS_GUEST)
		return error_set(err, -ECHILD, (enum exit_status)status, "%s", message + 1);
	runtime_last_words(log_fd, line, sizeof(line));
	return error_set(
		err, -ECHILD, EXIT_STATUS_FAILED,
		"%s: its process ended before the guest ran%s%s; try again without --detach", name,
		line[0] ? ": " : "", line);
}

static int start_child(struct start *start, int log_fd, const sigset_t *mask, int *ret_ready_fd,
		       pid_t *ret_pid)
{
	int ready[2];
	pid_t pid = -1;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -errno;
	start->ready_fd = ready[1];
	pid = fork();
	if (pid == 0) {
		sigprocmask(SIG_SETMASK, mask, NULL);
		run_child(start, log_fd);
	}
	fd_close(ready[1]);
	if (pid < 0) {
		fd_close(ready[0]);
		return -EAGAIN;
	}
	*ret_ready_fd = ready[0];
	*ret_pid = pid;
	return 0;
}

/* The child and what it forked: it leads a session. It is not waited for before, so its number is its own. */
static void end_child(pid_t pid)
{
	if (kill(-pid, SIGKILL) < 0)
		kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* `ret_process` may be NULL. */
static int start_and_wait(struct start *start, void (*progress)(unsigned int seconds),
			  int *ret_process, struct error *err)
{
	_cleanup_(fd_closep) int log_fd = openat(start->vm->dir_fd, RUNTIME_LOG,
						 O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	_cleanup_(fd_closep) int ready_fd = -1;
	_cleanup_(fd_closep) int signals = -1;
	char text[READY_MAX];
	pid_t pid = -1;
	sigset_t mask;
	int r = log_fd < 0 ? -errno : 0;

	/* Not ended by a signal at once: nothing half-started stays behind. */
	signals = signals_open_ending(&mask);
	if (r == 0)
		r = start_child(start, log_fd, &mask, &ready_fd, &pid);
	if (r < 0) {
		sigprocmask(SIG_SETMASK, &mask, NULL);
		return exec_error(r, err);
	}
	r = read_ready(ready_fd, signals, text, sizeof(text), progress);
	r = judge_ready(start->config->name, text, r, log_fd, err);
	if (r == 0 && ret_process) {
		*ret_process = (int)syscall(SYS_pidfd_open, pid, 0);
		if (*ret_process < 0)
			r = exec_error(-errno, err);
	}
	if (r < 0)
		end_child(pid);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	return r;
}

int launch_detached(const struct vm_config *config, struct runtime_vm *vm, bool incoming,
		    void (*progress)(unsigned int seconds), struct error *err)
{
	struct start start = { config, vm, .heir_fd = -1, .incoming = incoming };
	int r = start_and_wait(&start, progress, NULL, err);

	if (r < 0)
		runtime_release(vm);
	else
		runtime_forget(vm);
	return r;
}

int launch_heir(const struct vm_config *config, struct runtime_vm *vm, const char *program,
		int heir_fd, int *ret_process, struct error *err)
{
	struct start start = { config, vm, .program = program, .heir_fd = heir_fd,
			       .incoming = true };

	return start_and_wait(&start, NULL, ret_process, err);
}
