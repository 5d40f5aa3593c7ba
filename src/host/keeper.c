/* SPDX-License-Identifier: Apache-2.0 */
#include "host/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/sandbox.h"

int keeper_open_userfaultfd(void)
{
	_cleanup_(fd_closep) int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);

	if (device >= 0)
		return ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

/* Signals that ask for an end: the VM's process decides what they mean (power button, then force). */
static const int passed_on[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (size_t i = 0; i < ARRAY_SIZE(passed_on); i++)
		sigaddset(&set, passed_on[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void unblock_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
}

static bool same_user(int client)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(client, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
	       (cred.uid == geteuid() || cred.uid == 0);
}

/* One client, one request, one answer; a client that says nothing is waited for 100 ms. */
static void serve(const struct keeper *keeper, int listener)
{
	_cleanup_(fd_closep) int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct pollfd wait = { .fd = client, .events = POLLIN };
	struct keeper_request request;
	size_t len, n_fds;
	int answer = 0, fd = -1;

	if (client < 0 || !same_user(client) || poll(&wait, 1, 100) != 1)
		return;
	if (fd_receive(client, &request, sizeof(request), &len, NULL, 0, &n_fds) < 0 ||
	    len != sizeof(request) || request.descriptor >= KEEPER_DESCRIPTORS)
		answer = -EINVAL;
	else
		fd = keeper->descriptors[request.descriptor];
	if (answer == 0 && fd < 0)
		answer = -ENOENT;
	/* A client that left before its answer has nothing to be told. */
	(void)!fd_send(client, &answer, sizeof(answer), &fd, answer == 0);
}

static int open_listener(const struct keeper *keeper)
{
	int fd;

	return runtime_listen(&keeper->runtime, RUNTIME_KEEPER, &fd) < 0 ? -1 : fd;
}

/* Passes on what asks for an end; true when the child may have ended. */
static bool take_signal(int signals, pid_t child)
{
	struct signalfd_siginfo info;

	if (read(signals, &info, sizeof(info)) != sizeof(info))
		return false;
	if (info.ssi_signo == SIGCHLD)
		return true;
	/* What the terminal sends (Ctrl-C) reaches the child, in the same group, without us. */
	if (info.ssi_code != SI_KERNEL)
		kill(child, (int)info.ssi_signo);
	return false;
}

static int wait_for_end(const struct keeper *keeper, int signals, pid_t child)
{
	_cleanup_(fd_closep) int listener = open_listener(keeper);
	struct pollfd fds[] = {
		{ .fd = signals, .events = POLLIN },
		{ .fd = listener, .events = POLLIN },
	};
	int status;

	if (sandbox_enter_thread(SANDBOX_KEEPER, 0) < 0)
		return -1;
	for (;;) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[1].revents)
			serve(keeper, listener);
		if (fds[0].revents && take_signal(signals, child) &&
		    waitpid(child, &status, WNOHANG) == child)
			return status;
	}
}

static int tell_end(const struct keeper *keeper, int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		dprintf(STDERR_FILENO,
			"utsusu: VM %s was ended by its sandbox: it made a forbidden system call\n",
			keeper->runtime.name);
	else if (WIFSIGNALED(status))
		dprintf(STDERR_FILENO, "utsusu: VM %s was ended by signal %d\n",
			keeper->runtime.name, WTERMSIG(status));
	return EXIT_STATUS_FAILED;
}

static void __attribute__((noreturn)) keep(struct keeper *keeper, int signals, pid_t child)
{
	struct termios settings;
	bool has_terminal = keeper->terminal >= 0 && tcgetattr(keeper->terminal, &settings) == 0;
	int status;

	fd_close(keeper->not_ours);
	prctl(PR_SET_NAME, "utsusu-keeper");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	status = wait_for_end(keeper, signals, child);
	if (has_terminal)
		tcsetattr(keeper->terminal, TCSADRAIN, &settings);
	/* Told before the name is given back: what a detached VM has to say goes to its log. */
	status = tell_end(keeper, status);
	if (status == EXIT_STATUS_OK)
		runtime_release(&keeper->runtime);
	else
		runtime_leave(&keeper->runtime);
	_exit(status);
}

int keeper_split(struct keeper *keeper)
{
	_cleanup_(fd_closep) int signals = open_signals();
	pid_t child;

	if (signals < 0)
		return -errno;
	child = fork();
	if (child < 0)
		return -errno;
	if (child > 0)
		keep(keeper, TAKE_FD(signals), child);
	unblock_signals();
	return 0;
}
