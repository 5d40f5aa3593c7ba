/* SPDX-License-Identifier: Apache-2.0 */

/* One word that two processes decide, and the open files that one hands to the other. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "check.h"
#include "host/handed.h"
#include "host/succession.h"

static void the_first_decides(void **state _unused_)
{
	struct succession *here, *there;
	int fd = succession_make();

	assert_int_equal(succession_map(fd, &here), 0);
	assert_int_equal(succession_map(fd, &there), 0);
	close(fd);
	assert_int_equal(succession_read(there), SUCCESSION_OPEN);
	assert_int_equal(succession_decide(here, SUCCESSION_PASSED), SUCCESSION_PASSED);
	assert_int_equal(succession_decide(there, SUCCESSION_KEPT), SUCCESSION_PASSED);
	assert_int_equal(succession_decide(here, SUCCESSION_PASSED), SUCCESSION_PASSED);
	assert_int_equal(succession_read(there), SUCCESSION_PASSED);
	succession_unmap(here);
	succession_unmap(there);
}

/* Both at once, many times: they agree. */
static void two_processes_agree(void **state _unused_)
{
	for (int i = 0; i < 200; i++) {
		struct succession *word;
		int status, fd = succession_make();
		enum succession_verdict mine;
		pid_t other;

		assert_int_equal(succession_map(fd, &word), 0);
		other = fork();
		if (other == 0)
			_exit((int)succession_decide(word, SUCCESSION_KEPT));
		mine = succession_decide(word, SUCCESSION_PASSED);
		assert_int_equal(waitpid(other, &status, 0), other);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), mine);
		succession_unmap(word);
		close(fd);
	}
}

static void a_file_that_could_shrink_is_refused(void **state _unused_)
{
	struct succession *word;
	int fd = memfd_create("word", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(succession_map(fd, &word), -EINVAL);
	assert_int_equal(succession_map(-1, &word), -EINVAL);
	close(fd);
}

static void nonsense_passes_nothing_on(void **state _unused_)
{
	const uint32_t nonsense = 77;
	struct succession *word;
	int fd = succession_make();

	assert_int_equal(succession_map(fd, &word), 0);
	assert_int_equal(pwrite(fd, &nonsense, sizeof(nonsense), 0), sizeof(nonsense));
	assert_int_equal(succession_read(word), SUCCESSION_KEPT);
	assert_int_equal(succession_decide(word, SUCCESSION_PASSED), SUCCESSION_KEPT);
	succession_unmap(word);
	close(fd);
}

/* ---- what is handed over ---- */

struct pipe {
	int ends[2];
	struct handed *handed;
	struct error err;
};

static void open_pipe(struct pipe *pipe)
{
	*pipe = (struct pipe){ .handed = calloc(1, sizeof(*pipe->handed)) };
	assert_non_null(pipe->handed);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
				    pipe->ends),
			 0);
}

static void close_pipe(struct pipe *pipe)
{
	handed_release(pipe->handed);
	free(pipe->handed);
	close(pipe->ends[0]);
	close(pipe->ends[1]);
}

static void each_thing_finds_its_place(void **state _unused_)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int two[] = { null, null };
	struct handed_thing *thing;
	struct pipe pipe;
	int fd;

	open_pipe(&pipe);
	assert_int_equal(handed_send(pipe.ends[0], HANDED_RAM, 0, &null, 1, 5, NULL), 0);
	assert_int_equal(handed_send(pipe.ends[0], HANDED_DISK, LIMIT_DISKS - 1, &null, 1, 0, NULL),
			 0);
	assert_int_equal(handed_send(pipe.ends[0], HANDED_TAP, LIMIT_NETS - 1, two, 2, 9, NULL), 0);
	assert_int_equal(handed_send(pipe.ends[0], HANDED_PTY, 0, two, 2, 0, "/dev/pts/7"), 0);
	assert_int_equal(handed_send(pipe.ends[0], HANDED_END, 0, NULL, 0, 0, NULL), 0);
	assert_int_equal(handed_receive(pipe.ends[1], pipe.handed, &pipe.err), 0);
	assert_int_equal(handed_thing(pipe.handed, HANDED_RAM, 0)->number, 5);
	thing = handed_thing(pipe.handed, HANDED_TAP, LIMIT_NETS - 1);
	assert_int_equal(thing->n_fds, 2);
	assert_int_equal(thing->number, 9);
	assert_string_equal(handed_thing(pipe.handed, HANDED_PTY, 0)->text, "/dev/pts/7");
	assert_int_equal(handed_take(pipe.handed, HANDED_DISK, 0), -1);
	fd = handed_take(pipe.handed, HANDED_DISK, LIMIT_DISKS - 1);
	assert_true(fd >= 0);
	assert_int_equal(handed_take(pipe.handed, HANDED_DISK, LIMIT_DISKS - 1), -1);
	close(fd);
	close(null);
	close_pipe(&pipe);
}

static void assert_refused(const void *bytes, size_t len, const int *fds, size_t n_fds)
{
	struct pipe pipe;

	open_pipe(&pipe);
	assert_int_equal(fd_send(pipe.ends[0], bytes, len, fds, n_fds), 0);
	assert_int_equal(handed_send(pipe.ends[0], HANDED_END, 0, NULL, 0, 0, NULL), 0);
	assert_true(handed_receive(pipe.ends[1], pipe.handed, &pipe.err) < 0);
	assert_non_null(strstr(pipe.err.message, "hands over"));
	close_pipe(&pipe);
}

static void what_is_none_of_ours_is_refused(void **state _unused_)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC), two[] = { null, null };
	const struct handed_message good = { .magic = 0x75746801U, .kind = HANDED_RAM, .n_fds = 1 };
	struct handed_message bad;

	bad = good;
	bad.magic++;
	assert_refused(&bad, sizeof(bad), &null, 1);
	bad = good;
	bad.kind = HANDED_KINDS;
	assert_refused(&bad, sizeof(bad), &null, 1);
	bad = good;
	bad.index = 1;
	assert_refused(&bad, sizeof(bad), &null, 1);
	bad = good;
	bad.kind = HANDED_DISK;
	bad.index = LIMIT_DISKS;
	assert_refused(&bad, sizeof(bad), &null, 1);
	assert_refused(&good, sizeof(good), NULL, 0);
	assert_refused(&good, sizeof(good), two, 2);
	bad = good;
	bad.n_fds = 2;
	assert_refused(&bad, sizeof(bad), two, 2);
	bad = good;
	memset(bad.text, 'x', sizeof(bad.text));
	assert_refused(&bad, sizeof(bad), &null, 1);
	assert_refused(&good, 20, &null, 1);
	bad = (struct handed_message){ .magic = good.magic, .kind = HANDED_END, .n_fds = 1 };
	assert_refused(&bad, sizeof(bad), &null, 1);
	close(null);
}

static void one_thing_does_not_come_twice(void **state _unused_)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct pipe pipe;

	open_pipe(&pipe);
	for (int i = 0; i < 2; i++)
		assert_int_equal(handed_send(pipe.ends[0], HANDED_RAM, 0, &null, 1, 0, NULL), 0);
	assert_int_equal(handed_receive(pipe.ends[1], pipe.handed, &pipe.err), -EPROTO);
	close(null);
	close_pipe(&pipe);
}

static void an_end_that_is_missing_is_not_waited_for(void **state _unused_)
{
	struct pipe pipe;

	open_pipe(&pipe);
	assert_int_equal(handed_receive(pipe.ends[1], pipe.handed, &pipe.err), -EAGAIN);
	close_pipe(&pipe);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_first_decides),
		cmocka_unit_test(two_processes_agree),
		cmocka_unit_test(a_file_that_could_shrink_is_refused),
		cmocka_unit_test(nonsense_passes_nothing_on),
		cmocka_unit_test(each_thing_finds_its_place),
		cmocka_unit_test(what_is_none_of_ours_is_refused),
		cmocka_unit_test(one_thing_does_not_come_twice),
		cmocka_unit_test(an_end_that_is_missing_is_not_waited_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
