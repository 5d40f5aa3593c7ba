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
#include "base/signals.h"
#include "host/sandbox.h"
#include "host/succession.h"

#define ANSWER_SECONDS 5

int keeper_open_userfaultfd(void)
{
	return open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
}

/* Of the VM's process; and what asks for an end, of which that process decides the meaning (power button, then force). */
static const int heard[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT };

static void unblock_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
}

/* A keeper at work. */
struct keeping {
	const struct keeper *keeper;
	int listener, requests;
	uid_t owner; /* who may ask, besides root */
	struct succession *from,
		*to; /* whether the name is ours yet; whether it is still. NULL: no such question */
};

/* Nothing of the VM is ours before it was passed to us. */
static bool is_ours_yet(const struct keeping *keeping)
{
	return !keeping->from || succession_read(keeping->from) == SUCCESSION_PASSED;
}

/* Decided here, if nowhere else: from now on the name is ours to give back, or another's. */
static bool is_ours_still(const struct keeping *keeping)
{
	return !keeping->to || succession_decide(keeping->to, SUCCESSION_KEPT) != SUCCESSION_PASSED;
}

static void answer_with(int client, int answer, const int *fds, size_t n_fds)
{
	/* A client that left before its answer has nothing to be told. */
	(void)!fd_send(client, &answer, sizeof(answer), fds, n_fds);
}

static void give_one(const struct keeping *keeping, int client, uint32_t which)
{
	int fd = which < KEEPER_DESCRIPTORS ? keeping->keeper->descriptors[which] : -1;
	int answer = which >= KEEPER_DESCRIPTORS ? -EINVAL : fd < 0 ? -ENOENT : 0;

	answer_with(client, answer, &fd, answer == 0);
}

/* The file of requests is there for as long as the store is. */
static void give_all(struct keeping *keeping, int client, int succession)
{
	const struct keeper *keeper = keeping->keeper;
	const int fds[KEEPER_LEGACIES] = {
		[KEEPER_LEGACY_ROOT] = keeper->runtime.root_fd,
		[KEEPER_LEGACY_DIR] = keeper->runtime.dir_fd,
		[KEEPER_LEGACY_LOCK] = keeper->runtime.lock_fd,
		[KEEPER_LEGACY_RAM] = keeper->descriptors[KEEPER_RAM],
		[KEEPER_LEGACY_STORE] = keeper->descriptors[KEEPER_STORE],
		[KEEPER_LEGACY_LISTENER] = keeping->listener,
		[KEEPER_LEGACY_REQUESTS] = keeping->requests,
	};
	struct succession *to = NULL;
	int answer = is_ours_yet(keeping) && is_ours_still(keeping) ? 0 : -EBUSY;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] < 0)
			answer = -ENOENT;
	if (answer == 0)
		answer = succession_map(succession, &to);
	if (answer == 0) {
		succession_unmap(keeping->to);
		keeping->to = to;
	}
	answer_with(client, answer, fds, answer == 0 ? ARRAY_SIZE(fds) : 0);
}

/* One client, one request, one answer; a client that says nothing is waited for 100 ms. */
static void serve(struct keeping *keeping)
{
	_cleanup_(fd_closep) int client = accept4(keeping->listener, NULL, NULL, SOCK_CLOEXEC);
	_cleanup_(fd_closep) int attached = -1;
	struct pollfd wait = { .fd = client, .events = POLLIN };
	struct keeper_request request;
	size_t len, n_fds = 0;

	if (client < 0 || !fd_peer_is(client, keeping->owner) || poll(&wait, 1, 100) != 1)
		return;
	if (fd_receive(client, &request, sizeof(request), &len, &attached, 1, &n_fds) < 0 ||
	    len != sizeof(request))
		answer_with(client, -EINVAL, NULL, 0);
	else if (request.descriptor == KEEPER_HAND_OVER)
		give_all(keeping, client, attached);
	else
		give_one(keeping, client, request.descriptor);
}

/* Room for the last requests, opened before the sandbox closes. */
static int open_requests(const struct keeper *keeper)
{
	if (keeper->requests >= 0 || keeper->descriptors[KEEPER_STORE] < 0)
		return keeper->requests;
	return openat(keeper->runtime.dir_fd, RUNTIME_REQUESTS,
		      O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

static int copy_range(int from, int to, off_t begin, off_t end)
{
	char buffer[16384];

	while (begin < end) {
		size_t len = MIN((size_t)(end - begin), sizeof(buffer));
		int r = fd_read_at(from, buffer, len, (uint64_t)begin);

		if (r == 0)
			r = fd_write_at(to, buffer, len, (uint64_t)begin);
		if (r < 0)
			return r;
		begin += (off_t)len;
	}
	return 0;
}

/* A VM that was watched died: what its store holds becomes a file, holes stay holes. Where there is no room for all, the
 * readers of what is there manage. */
static void leave_requests(const struct keeper *keeper, int file)
{
	int store = keeper->descriptors[KEEPER_STORE];
	off_t begin = 0, end;

	if (file < 0 || lseek(store, (off_t)keeper->store_records, SEEK_DATA) < 0)
		return;
	while ((begin = lseek(store, begin, SEEK_DATA)) >= 0) {
		end = lseek(store, begin, SEEK_HOLE);
		if (end <= begin || copy_range(store, file, begin, end) < 0)
			return;
		begin = end;
	}
}

static int open_listener(const struct keeper *keeper)
{
	int fd;

	if (keeper->listener >= 0)
		return keeper->listener;
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

/* Before the sandbox closes. Without its word a new version's keeper would not know whose the name is. */
static int prepare(struct keeping *keeping, const struct keeper *keeper)
{
	*keeping = (struct keeping){
		.keeper = keeper,
		.listener = open_listener(keeper),
		.requests = open_requests(keeper),
		.owner = geteuid(), /* asked now: the filter has no such call */
	};
	return keeper->succession < 0 ? 0 : succession_map(keeper->succession, &keeping->from);
}

static int wait_for_end(struct keeping *keeping, int signals, pid_t child)
{
	const struct keeper *keeper = keeping->keeper;
	struct pollfd fds[] = {
		{ .fd = signals, .events = POLLIN },
		{ .fd = keeping->listener, .events = POLLIN },
	};
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
			serve(keeping);
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
		keeper->descriptors[KEEPER_STORE],
		keeper->succession,
		keeper->listener,
		keeper->requests,
	};

	fd_close_others(kept, ARRAY_SIZE(kept));
}

static void __attribute__((noreturn))
keep(struct keeper *keeper, const struct stdio *stdio, int signals, pid_t child)
{
	struct keeping keeping;
	bool ours;
	int status;

	close_the_rest(keeper, signals);
	prctl(PR_SET_NAME, "utsusu-keeper");
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prepare(&keeping, keeper) < 0)
		kill(child, SIGKILL);
	status = wait_for_end(&keeping, signals, child);
	ours = is_ours_yet(&keeping) && is_ours_still(&keeping);
	if (ours && (!WIFEXITED(status) || WEXITSTATUS(status) != EXIT_STATUS_OK))
		leave_requests(keeper, keeping.requests);
	stdio_give_back(stdio, keeper->terminal);
	/* Told before the name is given back: what a detached VM has to say goes to its log. */
	status = tell_end(keeper, status);
	keeper->runtime.borrowed = !ours;
	if (status == EXIT_STATUS_OK)
		runtime_release(&keeper->runtime);
	else
		runtime_leave(&keeper->runtime);
	_exit(status);
}

/* One request, and the `n` descriptors that answer it. */
static int ask(int sock, uint32_t what, const int *attached, int *ret_fds, size_t n)
{
	const struct keeper_request request = { .descriptor = what };
	int answer = 0, fds[KEEPER_LEGACIES];
	size_t len, n_fds = 0;
	int r = fd_send(sock, &request, sizeof(request), attached, attached != NULL);

	if (r == 0)
		r = fd_receive(sock, &answer, sizeof(answer), &len, fds, ARRAY_SIZE(fds), &n_fds);
	if (r < 0)
		return r;
	if (len == sizeof(answer) && n_fds == (answer == 0 ? n : 0)) {
		memcpy(ret_fds, fds, n_fds * sizeof(int));
		return MIN(answer, 0);
	}
	while (n_fds)
		fd_close(fds[--n_fds]);
	return -EPROTO;
}

static int ask_keeper(const char *name, uint32_t what, const int *attached, int *ret_fds, size_t n,
		      struct error *err)
{
	struct timeval limit = { .tv_sec = ANSWER_SECONDS };
	_cleanup_(fd_closep) int sock = -1;
	int r = runtime_connect(name, RUNTIME_KEEPER, &sock);

	if (r == 0) {
		setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
		r = ask(sock, what, attached, ret_fds, n);
	}
	if (r == -ENOENT && sock < 0)
		return error_set(err, r, EXIT_STATUS_NOT_FOUND,
				 "%s: there is no such VM; utsusu list shows those there are",
				 name);
	if (r < 0)
		return error_set(
			err, r, EXIT_STATUS_FAILED,
			"%s: its keeper does not give what was asked for (%s); see that the "
			"VM runs and is of this version of utsusu",
			name, strerror(-r));
	return 0;
}

int keeper_fetch(const char *name, enum keeper_descriptor which, int *ret_fd, struct error *err)
{
	return ask_keeper(name, which, NULL, ret_fd, 1, err);
}

int keeper_hand_over(const char *name, int succession, int ret_fds[KEEPER_LEGACIES],
		     struct error *err)
{
	return ask_keeper(name, KEEPER_HAND_OVER, &succession, ret_fds, KEEPER_LEGACIES, err);
}

int keeper_split(struct keeper *keeper)
{
	_cleanup_(fd_closep) int signals = signals_open(heard, ARRAY_SIZE(heard), NULL);
	struct stdio stdio;
	pid_t child;

	if (signals < 0)
		return signals;
	stdio_remember(&stdio, keeper->terminal);
	child = fork();
	if (child < 0)
		return -errno;
	if (child > 0)
		keep(keeper, &stdio, TAKE_FD(signals), child);
	unblock_signals();
	return 0;
}
