/* SPDX-License-Identifier: Apache-2.0 */
/* How a stream finds the handler that waits for it, and who does not. */
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "peer/reservation.h"

#define N 2
#define SOON_MS 10000
#define DRIP_TIMEOUT_MS 500 /* many drips */

struct fixture {
	char directory[64];
	int folder_fd;
	struct reservation reservation;
	uint8_t tokens[N][STREAM_TOKEN_BYTES];
	int streams[N];
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->directory, sizeof(f->directory), "/tmp/utsusu-test-XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	f->folder_fd = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(reservation_make(f->folder_fd, &f->reservation), 0);
	for (int i = 0; i < N; i++) {
		memset(f->tokens[i], 'a' + i, STREAM_TOKEN_BYTES);
		f->streams[i] = -1;
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	reservation_release(&f->reservation);
	for (int i = 0; i < N; i++)
		fd_close(f->streams[i]);
	fd_close(f->folder_fd);
	assert_int_equal(rmdir(f->directory), 0);
	free(f);
	return 0;
}

/* The other host's connection, which says `byte` behind its preamble; our end goes to the daemon's handler. */
static int come(struct fixture *f, uint32_t index, const uint8_t *token, char byte)
{
	struct preamble preamble = { .index = index };
	int fds[2], r;

	memcpy(preamble.id, f->reservation.id, sizeof(preamble.id));
	memcpy(preamble.token, token, STREAM_TOKEN_BYTES);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(reservation_begin_stream(fds[0], &preamble), 0);
	assert_int_equal(write(fds[0], &byte, 1), 1);
	r = reservation_hand_in(f->folder_fd, fds[1], SOON_MS);
	close(fds[0]);
	close(fds[1]);
	return r;
}

static int collect(struct fixture *f, unsigned int timeout_ms)
{
	return reservation_collect(&f->reservation, (const uint8_t(*)[STREAM_TOKEN_BYTES])f->tokens,
				   f->streams, N, timeout_ms);
}

static void expect_byte(struct fixture *f, int index, char byte)
{
	char got;

	assert_int_equal(read(f->streams[index], &got, 1), 1);
	assert_int_equal(got, byte);
}

static void streams_come_in_any_order(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(come(f, 1, f->tokens[1], '1'), 0);
	assert_int_equal(come(f, 0, f->tokens[0], '0'), 0);
	assert_int_equal(collect(f, SOON_MS), 0);
	expect_byte(f, 0, '0');
	expect_byte(f, 1, '1');
}

/* The number is seen on the wire; whoever has only that, or another stream's token, comes first and gets nothing. */
static void the_number_alone_opens_nothing(void **state)
{
	static const uint8_t nothing[STREAM_TOKEN_BYTES];
	struct fixture *f = *state;

	assert_int_equal(come(f, 0, nothing, 'x'), 0);
	assert_int_equal(come(f, 1, f->tokens[0], 'x'), 0);
	assert_int_equal(come(f, N, f->tokens[0], 'x'), 0);
	assert_int_equal(come(f, 0, f->tokens[0], '0'), 0);
	assert_int_equal(come(f, 1, f->tokens[1], '1'), 0);
	assert_int_equal(collect(f, SOON_MS), 0);
	expect_byte(f, 0, '0');
	expect_byte(f, 1, '1');
}

static void a_token_is_taken_once(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(come(f, 0, f->tokens[0], '0'), 0);
	assert_int_equal(come(f, 0, f->tokens[0], 'x'), 0);
	assert_int_equal(come(f, 1, f->tokens[1], '1'), 0);
	assert_int_equal(collect(f, SOON_MS), 0);
	expect_byte(f, 0, '0');
}

static void one_that_does_not_come_is_not_waited_for(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(come(f, 0, f->tokens[0], '0'), 0);
	assert_int_equal(collect(f, 50), -ETIMEDOUT);
	assert_int_equal(f->streams[0], -1);
}

static void another_number_is_nobodys(void **state)
{
	struct fixture *f = *state;
	const char first = f->reservation.id[0];

	f->reservation.id[0] = first == '0' ? '1' : '0';
	assert_int_equal(come(f, 0, f->tokens[0], '0'), -ENOENT);
	f->reservation.id[0] = first;
}

/* A byte now and then would hold the daemon's process for as long as there are bytes. */
struct dripper {
	int fd;
	bool heard_the_end;
	pthread_t thread;
};

static void *drip(void *ctx)
{
	const struct timespec nap = { .tv_nsec = 50000000 };
	struct dripper *dripper = ctx;

	for (size_t i = 0; i < PREAMBLE_BYTES && !dripper->heard_the_end; i++) {
		nanosleep(&nap, NULL);
		dripper->heard_the_end = send(dripper->fd, "U", 1, MSG_NOSIGNAL) != 1;
	}
	return NULL;
}

static void a_preamble_that_drips_is_given_up(void **state)
{
	struct fixture *f = *state;
	struct dripper dripper = { 0 };
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	dripper.fd = fds[0];
	assert_int_equal(pthread_create(&dripper.thread, NULL, drip, &dripper), 0);
	assert_int_equal(reservation_hand_in(f->folder_fd, fds[1], DRIP_TIMEOUT_MS), -ETIMEDOUT);
	close(fds[1]);
	pthread_join(dripper.thread, NULL);
	assert_true(dripper.heard_the_end);
	close(fds[0]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(streams_come_in_any_order), TEST(the_number_alone_opens_nothing),
		TEST(a_token_is_taken_once),	 TEST(one_that_does_not_come_is_not_waited_for),
		TEST(another_number_is_nobodys), TEST(a_preamble_that_drips_is_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
