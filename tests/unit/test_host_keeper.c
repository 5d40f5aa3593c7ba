/* SPDX-License-Identifier: Apache-2.0 */

/* The keeper, beside a child that stands for the VM's process and ends as each test tells it to. */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/keeper.h"
#include "host/succession.h"
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

#define RECORDS 8192 /* where the store's records begin */

/* A store whose header is there, and with no record yet. */
static int make_store(void)
{
	int fd = memfd_create("store", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, 1 << 20) < 0 || write(fd, "header", 6) != 6)
		return -1;
	return fd;
}

/* Splits a process of its own; `act` is what the VM's process does. Returns the keeper. */
static pid_t start(struct rig *rig, void (*act)(struct rig *rig, const struct keeper *keeper))
{
	struct keeper keeper = { .descriptors = { -1, -1, -1 },
				 .store_records = RECORDS,
				 .terminal = -1,
				 .succession = -1,
				 .listener = -1,
				 .requests = -1 };
	pid_t pid = fork();

	if (pid)
		return pid;
	if (runtime_claim("kept", &keeper.runtime, NULL) < 0 ||
	    (keeper.descriptors[KEEPER_RAM] = open("/dev/zero", O_RDONLY | O_CLOEXEC)) < 0 ||
	    (keeper.descriptors[KEEPER_STORE] = make_store()) < 0 || keeper_split(&keeper) < 0)
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

static void record_and_die(struct rig *rig _unused_, const struct keeper *keeper)
{
	if (pwrite(keeper->descriptors[KEEPER_STORE], "a record", 8, RECORDS + 65536) != 8)
		_exit(1);
	raise(SIGKILL);
}

static void remove_rest(struct rig *rig)
{
	char path[128];

	snprintf(path, sizeof(path), "rm -r %s/kept", rig->directory);
	assert_int_equal(system(path), 0);
}

static void a_watched_vm_that_is_killed_leaves_its_requests(void **state)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC), stderr_copy = dup(STDERR_FILENO);
	char found[8];
	pid_t keeper;
	int fd;

	dup2(null, STDERR_FILENO);
	keeper = start(*state, record_and_die);
	dup2(stderr_copy, STDERR_FILENO);
	close(null);
	close(stderr_copy);
	assert_int_equal(end_of(keeper), EXIT_STATUS_FAILED << 8);
	assert_true(runtime_is_dead("kept"));
	assert_int_equal(runtime_open_left("kept", RUNTIME_REQUESTS, &fd), 0);
	assert_int_equal(fd_read_at(fd, found, 6, 0), 0);
	assert_memory_equal(found, "header", 6);
	assert_int_equal(fd_read_at(fd, found, 8, RECORDS + 65536), 0);
	assert_memory_equal(found, "a record", 8);
	close(fd);
	remove_rest(*state);
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
	assert_int_equal(keeper_fetch("kept", KEEPER_STORE, &fd, NULL), 0);
	assert_true(fcntl(fd, F_GETFD) >= 0);
	close(fd);
	assert_int_equal(keeper_fetch("nobody", KEEPER_STORE, &fd, NULL), -ENOENT);
	assert_int_equal(runtime_open_left("kept", RUNTIME_REQUESTS, &fd), -EBUSY);
	assert_int_equal(ask(KEEPER_USERFAULTFD, &fd), -ENOENT);
	assert_int_equal(ask(KEEPER_DESCRIPTORS, &fd), -EINVAL);
	kill(keeper, SIGTERM);
	assert_int_equal(end_of(keeper), 5 << 8);
}

/* ---- a new version's keeper ---- */

static void hand_over(int word, int fds[KEEPER_LEGACIES])
{
	struct error err = { 0 };
	int sock;

	while (runtime_connect("kept", RUNTIME_KEEPER, &sock) < 0)
		usleep(1000);
	close(sock);
	if (keeper_hand_over("kept", word, fds, &err) < 0)
		fail_msg("%s", err.message);
}

static void close_all(int fds[KEEPER_LEGACIES])
{
	for (size_t i = 0; i < KEEPER_LEGACIES; i++)
		close(fds[i]);
}

static enum succession_verdict verdict(int fd)
{
	enum succession_verdict read;
	struct succession *word;

	assert_int_equal(succession_map(fd, &word), 0);
	read = succession_read(word);
	succession_unmap(word);
	return read;
}

static void decide(int fd, enum succession_verdict wanted)
{
	struct succession *word;

	assert_int_equal(succession_map(fd, &word), 0);
	assert_int_equal(succession_decide(word, wanted), wanted);
	succession_unmap(word);
}

static void what_was_passed_on_is_not_given_back(void **state)
{
	pid_t keeper = start(*state, wait_and_report);
	int fds[KEEPER_LEGACIES], word = succession_make();

	await_child(*state);
	hand_over(word, fds);
	decide(word, SUCCESSION_PASSED);
	kill(keeper, SIGTERM);
	assert_int_equal(end_of(keeper), 5 << 8);
	/* The lock is the copies'. */
	assert_int_equal(runtime_alive("kept"), 1);
	close_all(fds);
	close(word);
	assert_true(runtime_is_dead("kept"));
	remove_rest(*state);
}

static void what_was_not_is_and_can_be_no_more(void **state)
{
	pid_t keeper = start(*state, wait_and_report);
	int fds[KEEPER_LEGACIES], word = succession_make();

	await_child(*state);
	hand_over(word, fds);
	kill(keeper, SIGTERM);
	assert_int_equal(end_of(keeper), 5 << 8);
	assert_int_equal(verdict(word), SUCCESSION_KEPT);
	close_all(fds);
	close(word);
	assert_int_equal(runtime_alive("kept"), 0);
}

static void an_earlier_successor_is_closed(void **state)
{
	pid_t keeper = start(*state, wait_and_report);
	int fds[KEEPER_LEGACIES], first = succession_make(), second = succession_make();

	await_child(*state);
	hand_over(first, fds);
	close_all(fds);
	hand_over(second, fds);
	assert_int_equal(verdict(first), SUCCESSION_KEPT);
	assert_int_equal(verdict(second), SUCCESSION_OPEN);
	/* Passed on, it hands nothing over any more. */
	decide(second, SUCCESSION_PASSED);
	close_all(fds);
	assert_int_equal(keeper_hand_over("kept", first, fds, NULL), -EBUSY);
	kill(keeper, SIGTERM);
	assert_int_equal(end_of(keeper), 5 << 8);
	close(first);
	close(second);
	remove_rest(*state);
}

/* A second keeper with what the first one gave. */
static pid_t start_heir(struct rig *rig, const int fds[KEEPER_LEGACIES], int word)
{
	struct keeper keeper = {
		.runtime = { .name = "kept",
			     .borrowed = true,
			     .root_fd = fds[KEEPER_LEGACY_ROOT],
			     .dir_fd = fds[KEEPER_LEGACY_DIR],
			     .lock_fd = fds[KEEPER_LEGACY_LOCK] },
		.descriptors = { fds[KEEPER_LEGACY_RAM], -1, fds[KEEPER_LEGACY_STORE] },
		.store_records = RECORDS,
		.terminal = -1,
		.succession = word,
		.listener = fds[KEEPER_LEGACY_LISTENER],
		.requests = fds[KEEPER_LEGACY_REQUESTS],
	};
	pid_t pid = fork();

	if (pid)
		return pid;
	if (keeper_split(&keeper) < 0)
		_exit(99);
	wait_and_report(rig, &keeper);
	_exit(0);
}

static void the_name_outlives_its_first_keeper(void **state)
{
	pid_t keeper = start(*state, wait_and_report), heir;
	int fds[KEEPER_LEGACIES], word = succession_make(), fd;

	await_child(*state);
	hand_over(word, fds);
	heir = start_heir(*state, fds, word);
	await_child(*state);
	close_all(fds);
	decide(word, SUCCESSION_PASSED);
	kill(keeper, SIGTERM);
	assert_int_equal(end_of(keeper), 5 << 8);
	assert_int_equal(runtime_alive("kept"), 1);
	assert_int_equal(keeper_fetch("kept", KEEPER_STORE, &fd, NULL), 0);
	close(fd);
	kill(heir, SIGTERM);
	assert_int_equal(end_of(heir), 5 << 8);
	assert_int_equal(runtime_alive("kept"), 0);
	close(word);
}

static void an_heir_that_was_passed_over_leaves_all_as_it_is(void **state)
{
	pid_t keeper = start(*state, wait_and_report), heir;
	int fds[KEEPER_LEGACIES], word = succession_make(), fd;

	await_child(*state);
	hand_over(word, fds);
	heir = start_heir(*state, fds, word);
	await_child(*state);
	close_all(fds);
	decide(word, SUCCESSION_KEPT);
	kill(heir, SIGTERM);
	assert_int_equal(end_of(heir), 5 << 8);
	assert_int_equal(runtime_alive("kept"), 1);
	assert_int_equal(keeper_fetch("kept", KEEPER_RAM, &fd, NULL), 0);
	close(fd);
	kill(keeper, SIGTERM);
	assert_int_equal(end_of(keeper), 5 << 8);
	close(word);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_status_is_passed_on),
		TEST(signals_are_passed_on),
		TEST(a_killed_vm_leaves_nothing),
		TEST(standard_input_is_given_back_blocking),
		TEST(a_successor_gets_what_is_kept),
		TEST(a_watched_vm_that_is_killed_leaves_its_requests),
		TEST(what_was_passed_on_is_not_given_back),
		TEST(what_was_not_is_and_can_be_no_more),
		TEST(an_earlier_successor_is_closed),
		TEST(the_name_outlives_its_first_keeper),
		TEST(an_heir_that_was_passed_over_leaves_all_as_it_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
