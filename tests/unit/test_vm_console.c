/* SPDX-License-Identifier: Apache-2.0 */

/* A console between a device that is a test and sinks that come, go, and do not read. */

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "vm/console.h"
#include "check.h"

struct rig {
	struct fake_clock clock;
	struct loop *loop;
	struct console *console;
	struct stream *stream;
	char taken[1024]; /* what the device took */
	size_t n_taken, room;
	unsigned int writable;
};

static size_t device_received(void *ctx, const void *buf, size_t len)
{
	struct rig *rig = ctx;
	size_t n = MIN(len, rig->room);

	memcpy(rig->taken + rig->n_taken, buf, n);
	rig->n_taken += n;
	rig->room -= n;
	return n;
}

static void device_writable(void *ctx)
{
	((struct rig *)ctx)->writable++;
}

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	fake_clock_init(&rig->clock, 1, 1);
	rig->loop = loop_new(&rig->clock.clock);
	assert_int_equal(console_new(rig->loop, &rig->console), 0);
	rig->stream = console_stream(rig->console);
	rig->stream->received = device_received;
	rig->stream->writable = device_writable;
	rig->stream->ctx = rig;
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	console_free(rig->console);
	loop_free(rig->loop);
	free(rig);
	return 0;
}

static void turns(struct rig *rig, int n)
{
	while (n--)
		assert_int_equal(loop_turn(rig->loop, 0), 0);
}

/* True when nothing wakes the loop any more: it does not spin. */
static bool is_quiet(struct rig *rig)
{
	uint64_t begin;

	turns(rig, 10);
	begin = clock_now(&clock_host);
	assert_int_equal(loop_turn(rig->loop, 20), 0);
	return clock_now(&clock_host) - begin >= 15 * NSEC_PER_MSEC;
}

/* A client of a listening console. */
static int attach_client(struct rig *rig)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(sa_family_t);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* Bound to a name that the kernel chooses (unix(7), autobind). */
	assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
	len = sizeof(address);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(listen(listener, 4), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&address, len), 0);
	assert_int_equal(console_listen(rig->console, listener), 0);
	turns(rig, 2);
	return client;
}

static void what_was_printed_before_is_seen(void **state)
{
	struct rig *rig = *state;
	char buf[16];
	int client;

	assert_int_equal(rig->stream->write(rig->stream, "hello", 5), 5);
	client = attach_client(rig);
	assert_int_equal(read(client, buf, sizeof(buf)), 5);
	assert_memory_equal(buf, "hello", 5);
	close(client);
}

static void a_client_that_hangs_up_before_its_input_is_taken(void **state)
{
	struct rig *rig = *state;
	char paste[600];
	int client = attach_client(rig);

	memset(paste, 'x', sizeof(paste));
	assert_int_equal(write(client, paste, sizeof(paste)), sizeof(paste));
	close(client);
	assert_true(is_quiet(rig)); /* the device takes nothing yet: no busy loop */
	assert_int_equal(rig->n_taken, 0);
	for (int i = 0; i < 20; i++) { /* and nothing of the paste is lost */
		rig->room = 50;
		rig->stream->ready(rig->stream);
		turns(rig, 4);
	}
	assert_int_equal(rig->n_taken, sizeof(paste));
	assert_true(is_quiet(rig));
}

static void a_primary_whose_reader_left_is_let_go(void **state)
{
	struct rig *rig = *state;
	char block[4096] = { 0 };
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(console_attach(rig->console, in[0], out[1], NULL, NULL), 0);
	assert_true(is_quiet(rig));
	close(out[0]);
	assert_true(is_quiet(rig)); /* `utsusu run | head` is no busy loop */
	/* Nobody holds the guest's output up now. */
	for (int i = 0; i < 100; i++)
		assert_int_equal(rig->stream->write(rig->stream, block, sizeof(block)),
				 sizeof(block));
	close(in[0]);
	close(in[1]);
	close(out[1]);
}

/* Regular files, as in `utsusu run ... <commands`: epoll does not take them. */
static void input_from_a_file_is_read_to_its_end(void **state)
{
	struct rig *rig = *state;
	_cleanup_(fd_closep) int file = memfd_create("input", MFD_CLOEXEC);
	_cleanup_(fd_closep) int out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	char text[600];

	memset(text, 'x', sizeof(text));
	assert_int_equal(write(file, text, sizeof(text)), sizeof(text));
	assert_int_equal(lseek(file, 0, SEEK_SET), 0);
	rig->room = 300; /* more than one piece, then full */
	assert_int_equal(console_attach(rig->console, file, out, NULL, NULL), 0);
	turns(rig, 10);
	assert_int_equal(rig->n_taken, 300);
	assert_true(is_quiet(rig));
	rig->room = 700;
	rig->stream->ready(rig->stream);
	turns(rig, 10);
	assert_int_equal(rig->n_taken, sizeof(text));
	assert_true(is_quiet(rig));
}

static void a_primary_that_does_not_read_slows_the_guest(void **state)
{
	struct rig *rig = *state;
	static char block[4096];
	size_t written = 0, n;
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	assert_int_equal(console_attach(rig->console, in[0], out[1], NULL, NULL), 0);
	do {
		n = rig->stream->write(rig->stream, block, sizeof(block));
		written += n;
		turns(rig, 2);
	} while (n == sizeof(block) && written < MIB(4));
	assert_true(written < MIB(1)); /* a pipe's buffer and ours */
	rig->writable = 0;
	assert_true(is_quiet(rig));
	assert_int_equal(rig->writable, 0);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(read(out[0], block, sizeof(block)), sizeof(block));
		turns(rig, 2);
	}
	assert_true(rig->writable > 0);
	close(in[0]);
	close(in[1]);
	close(out[0]);
	console_free(rig->console); /* before its descriptors close */
	rig->console = NULL;
	close(out[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(what_was_printed_before_is_seen),
		TEST(a_client_that_hangs_up_before_its_input_is_taken),
		TEST(a_primary_whose_reader_left_is_let_go),
		TEST(input_from_a_file_is_read_to_its_end),
		TEST(a_primary_that_does_not_read_slows_the_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
