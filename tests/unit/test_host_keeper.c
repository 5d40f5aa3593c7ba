/* SPDX-License-Identifier: Apache-2.0 */

/* The keeper, beside a child that stands for the VM's process and ends as each test tells it to. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/keeper.h"
#include "check.h"

struct rig {
	char directory[64];
	int report[2]; /* the child's bytes for the test */
};

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	snprintf(rig->directory, sizeof(rig->directory), "/tmp/utsusu-keeper-XXXXXX");
	assert_non_null(mkdtemp(rig->directory));
	setenv("UTSUSU_RUNTIME_DIR", rig->directory, 1);
	assert_int_equal(pipe2(rig->report, O_CLOEXEC), 0);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	close(rig->report[0]);
	close(rig->report[1]);
	assert_int_equal(rmdir(rig->directory), 0); /* nothing is left behind */
	free(rig);
	return 0;
}

/* Splits a process of its own; `act` is what the VM's process does. Returns the keeper. */
static pid_t start(struct rig *rig, void (*act)(struct rig *rig, const struct keeper *keeper))
{
	struct keeper keeper = { .descriptors = { -1, -1 }, .terminal = -1 };
	pid_t pid = fork();

	if (pid)
		return pid;
	if (runtime_claim("kept", &keeper.runtime, NULL) < 0 ||
	    (keeper.descriptors[KEEPER_RAM] = open("/dev/zero", O_RDONLY | O_CLOEXEC)) < 0 ||
	    keeper_split(&keeper) < 0)
		_exit(99);
	act(rig, &keeper);
	_exit(0);
}

static int end_of(pid_t keeper)
{
	int status;

	assert_int_equal(waitpid(keeper, &status, 0), keeper);
	return status;
}

static void exit_with_3(struct rig *rig _unused_, const struct keeper *keeper _unused_)
{
	_exit(3);
}

static void the_status_is_passed_on(void **state)
{
	assert_int_equal(end_of(start(*state, exit_with_3)), 3 << 8);
	assert_int_equal(runtime_alive("kept"), 0);
}

static void wait_and_report(struct rig *rig, const struct keeper *keeper _unused_)
{
	sigset_t set;
	int number;

	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
	(void)!write(rig->report[1], "r", 1);
	sigwait(&set, &number);
	_exit(number == SIGTERM ? 5 : 6);
}

static void await_child(struct rig *rig)
{
	char c;

	assert_int_equal(read(rig->report[0], &c, 1), 1);
}

static void signals_are_passed_on(void **state)
{
	pid_t keeper = start(*state, wait_and_report);

	await_child(*state);
	assert_int_equal(runtime_alive("kept"), 1);
	kill(keeper, SIGTERM);
	assert_int_equal(end_of(keeper), 5 << 8);
}

static void kill_self(struct rig *rig _unused_, const struct keeper *keeper _unused_)
{
	raise(SIGKILL);
}

static void a_killed_vm_leaves_nothing(void **state)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC), stderr_copy = dup(STDERR_FILENO);
	pid_t keeper;

	dup2(null, STDERR_FILENO); /* the line about the signal */
	keeper = start(*state, kill_self);
	dup2(stderr_copy, STDERR_FILENO);
	close(null);
	close(stderr_copy);
	assert_int_equal(end_of(keeper), EXIT_STATUS_FAILED << 8);
	assert_int_equal(runtime_alive("kept"), 0);
}

static void make_stdin_nonblocking(struct rig *rig _unused_, const struct keeper *keeper _unused_)
{
	if (fd_set_nonblocking(STDIN_FILENO) < 0)
		_exit(1);
	raise(SIGKILL);
}

/* O_NONBLOCK is the open file's: the shell behind us would get EAGAIN from its terminal. */
static void standard_input_is_given_back_blocking(void **state)
{
	int stdin_copy = dup(STDIN_FILENO), stderr_copy = dup(STDERR_FILENO);
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	int ends[2], flags;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	dup2(ends[0], STDIN_FILENO);
	dup2(null, STDERR_FILENO);
	(void)end_of(start(*state, make_stdin_nonblocking));
	flags = fcntl(ends[0], F_GETFL);
	dup2(stdin_copy, STDIN_FILENO);
	dup2(stderr_copy, STDERR_FILENO);
	close(stdin_copy);
	close(stderr_copy);
	close(null);
	close(ends[0]);
	close(ends[1]);
	assert_true(flags >= 0);
	assert_false(flags & O_NONBLOCK);
}

/* Asks for a descriptor as a successor does: 0 and the descriptor, or the keeper's answer. */
static int ask(uint32_t descriptor, int *ret_fd)
{
	const struct keeper_request request = { .descriptor = descriptor };
	size_t len, n_fds;
	int sock, answer = 1;

	assert_int_equal(runtime_connect("kept", RUNTIME_KEEPER, &sock), 0);
	assert_int_equal(fd_send(sock, &request, sizeof(request), NULL, 0), 0);
	assert_int_equal(fd_receive(sock, &answer, sizeof(answer), &len, ret_fd, 1, &n_fds), 0);
	assert_int_equal(n_fds, answer == 0);
	close(sock);
	return answer;
}

static void a_successor_gets_what_is_kept(void **state)
{
	pid_t keeper = start(*state, wait_and_report);
	int fd = -1, sock;

	await_child(*state);
	while (runtime_connect("kept", RUNTIME_KEEPER, &sock) < 0)
		usleep(1000);
	close(sock);
	assert_int_equal(ask(KEEPER_RAM, &fd), 0);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
	assert_int_equal(ask(KEEPER_USERFAULTFD, &fd), -ENOENT);
	assert_int_equal(ask(KEEPER_DESCRIPTORS, &fd), -EINVAL);
	kill(keeper, SIGTERM);
	assert_int_equal(end_of(keeper), 5 << 8);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_status_is_passed_on),	     TEST(signals_are_passed_on),
		TEST(a_killed_vm_leaves_nothing),    TEST(standard_input_is_given_back_blocking),
		TEST(a_successor_gets_what_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
