/* SPDX-License-Identifier: Apache-2.0 */
#include "host/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/sandbox.h"

int keeper_open_userfaultfd(void)
{
	return open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
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

/* One client, one request, one answer; a client that says nothing is waited for 100 ms. */
static void serve(const struct keeper *keeper, int listener, uid_t owner)
{
	_cleanup_(fd_closep) int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct pollfd wait = { .fd = client, .events = POLLIN };
	struct keeper_request request;
	size_t len, n_fds;
	int answer = 0, fd = -1;

	if (client < 0 || !fd_peer_is(client, owner) || poll(&wait, 1, 100) != 1)
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
	const uid_t owner = geteuid(); /* asked now: the filter has no such call */
	int status;

	(void)!sandbox_keep_to(keeper->runtime.dir_fd,
			       keeper->runtime.root_fd); /* an old kernel has no such thing */
	/* Without its filter the keeper does not keep: the name must not be given back under a living VM. */
	if (sandbox_enter_keeper(child) < 0) {
		dprintf(STDERR_FILENO, "utsusu: VM %s: the keeper cannot enter its sandbox\n",
			keeper->runtime.name);
		kill(child, SIGKILL);
	}
	for (;;) {
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[1].revents)
			serve(keeper, listener, owner);
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

/* What the VM's process changes of descriptors that are the caller's: O_NONBLOCK belongs to the open file, not to us,
 * and a shell that got its terminal back non-blocking would fail at its next read. */
struct stdio {
	int flags[2]; /* of standard input and output; -1: closed */
	bool has_terminal;
	struct termios settings;
};

static void stdio_remember(struct stdio *stdio, int terminal)
{
	for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++)
		stdio->flags[fd] = fcntl(fd, F_GETFL);
	stdio->has_terminal = terminal >= 0 && tcgetattr(terminal, &stdio->settings) == 0;
}

static void stdio_give_back(const struct stdio *stdio, int terminal)
{
	for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++)
		if (stdio->flags[fd] >= 0)
			(void)!fcntl(fd, F_SETFL, stdio->flags[fd]);
	if (stdio->has_terminal)
		tcsetattr(terminal, TCSADRAIN, &stdio->settings);
}

/* All but what it keeps: what the caller left open, a tap that came as a descriptor, who waits for the first word. */
static void close_the_rest(const struct keeper *keeper, int signals)
{
	const int kept[] = {
		signals,
		keeper->runtime.root_fd,
		keeper->runtime.dir_fd,
		keeper->runtime.lock_fd,
		keeper->descriptors[KEEPER_RAM],
		keeper->descriptors[KEEPER_USERFAULTFD],
	};

	fd_close_others(kept, ARRAY_SIZE(kept));
}

static void __attribute__((noreturn))
keep(struct keeper *keeper, const struct stdio *stdio, int signals, pid_t child)
{
	int status;

	close_the_rest(keeper, signals);
	prctl(PR_SET_NAME, "utsusu-keeper");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	status = wait_for_end(keeper, signals, child);
	stdio_give_back(stdio, keeper->terminal);
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
	struct stdio stdio;
	pid_t child;

	if (signals < 0)
		return -errno;
	stdio_remember(&stdio, keeper->terminal);
	child = fork();
	if (child < 0)
		return -errno;
	if (child > 0)
		keep(keeper, &stdio, TAKE_FD(signals), child);
	unblock_signals();
	return 0;
}
