/* SPDX-License-Identifier: Apache-2.0 */
#include "net_probe.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "net/passt.h"

struct fixture {
	struct net *net;
	struct probe probe;
	int peer;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(passt_net_new(pair[0], &f->net), 0);
	f->peer = pair[1];
	probe_open(&f->probe, f->net, 0, &clock_host);
	net_want_readable(f->probe.queue, true);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	probe_close(&f->probe);
	net_free(f->net);
	fd_close(f->peer);
	free(f);
	return 0;
}

static void peer_write(struct fixture *f, uint32_t length, uint8_t fill, size_t bytes)
{
	uint8_t *frame = malloc(bytes);
	uint32_t wire = htobe32(length);

	memset(frame, fill, bytes);
	assert_int_equal(fd_write_all(f->peer, &wire, sizeof(wire)), 0);
	assert_int_equal(fd_write_all(f->peer, frame, bytes), 0);
	free(frame);
}

static void frames_come_out_of_the_stream(void **state)
{
	struct fixture *f = *state;
	uint8_t fill = 0;

	peer_write(f, 60, 1, 60);
	peer_write(f, 1500, 2, 1500);
	probe_turn(&f->probe, 1000);
	assert_int_equal(f->probe.readable, 1);
	assert_int_equal(probe_receive(&f->probe, &fill), 60 + NET_HEADER_SIZE);
	assert_int_equal(fill, 1);
	assert_int_equal(probe_receive(&f->probe, &fill), 1500 + NET_HEADER_SIZE);
	assert_int_equal(fill, 2);
	assert_int_equal(probe_receive(&f->probe, &fill), 0);
}

static void frame_in_pieces_waits_for_its_end(void **state)
{
	struct fixture *f = *state;
	uint8_t fill = 0, rest[50] = { 0 };

	peer_write(f, 60, 3, 10);
	assert_int_equal(probe_receive(&f->probe, &fill), 0);
	assert_int_equal(fd_write_all(f->peer, rest, sizeof(rest)), 0);
	assert_int_equal(probe_receive(&f->probe, &fill), 60 + NET_HEADER_SIZE);
	assert_int_equal(fill, 3);
}

static void absurd_lengths_end_the_stream(void **state)
{
	static const uint32_t lengths[] = { 0, 13, NET_FRAME_MAX, UINT32_MAX };
	uint8_t fill;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct fixture *f;

		setup(state);
		f = *state;
		peer_write(f, lengths[i], 0, 20);
		assert_int_equal(probe_receive(&f->probe, &fill), -EPROTO);
		assert_int_equal(probe_send(&f->probe, 1, 100), -EPROTO);
		teardown(state);
	}
}

static void sent_frames_carry_their_length(void **state)
{
	struct fixture *f = *state;
	uint8_t wire[4 + 88];
	uint32_t length;

	assert_int_equal(probe_send(&f->probe, 9, 100), 0);
	assert_int_equal(recv(f->peer, wire, sizeof(wire), MSG_DONTWAIT), sizeof(wire));
	memcpy(&length, wire, sizeof(length));
	assert_int_equal(be32toh(length), 88);
	assert_int_equal(wire[4], 9);
	assert_int_equal(wire[91], 9);
}

static void frames_too_short_or_long_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(probe_send(&f->probe, 1, NET_HEADER_SIZE + 13), -EMSGSIZE);
	assert_int_equal(probe_send(&f->probe, 1, NET_FRAME_MAX + 1), -EMSGSIZE);
}

/* A full socket takes part of a frame: the rest must follow before any other byte. */
static void full_socket_breaks_no_frame(void **state)
{
	struct fixture *f = *state;
	unsigned int sent = 0, received = 0;
	static uint8_t frame[65000];

	while (probe_send(&f->probe, (uint8_t)sent, sizeof(frame)) == 0)
		sent++;
	assert_in_range(sent, 1, 1000);
	assert_int_equal(fd_set_nonblocking(f->peer), 0);
	for (unsigned int turns = 0; received < sent && turns < 10000; turns++) {
		uint32_t length;

		probe_turn(&f->probe, 0);
		if (recv(f->peer, &length, sizeof(length), MSG_PEEK) != sizeof(length))
			continue;
		assert_int_equal(be32toh(length), sizeof(frame) - NET_HEADER_SIZE);
		assert_int_equal(recv(f->peer, &length, sizeof(length), 0), sizeof(length));
		for (size_t done = 0; done < be32toh(length);) {
			ssize_t n = recv(f->peer, frame + done, be32toh(length) - done, 0);

			if (n > 0)
				done += (size_t)n;
			else
				probe_turn(&f->probe, 0);
		}
		assert_int_equal(frame[0], (uint8_t)received);
		assert_int_equal(frame[be32toh(length) - 1], (uint8_t)received);
		received++;
	}
	assert_int_equal(received, sent);
	assert_true(f->probe.writable > 0);
}

static void closed_peer_is_gone(void **state)
{
	struct fixture *f = *state;
	uint8_t fill;

	fd_close(TAKE_FD(f->peer));
	assert_int_equal(probe_receive(&f->probe, &fill), -ECONNRESET);
	probe_turn(&f->probe, 1000);
	assert_int_equal(f->probe.gone, -ECONNRESET);
	f->probe.gone = 0;
	probe_turn(&f->probe, 0); /* and is not told for ever */
	assert_int_equal(f->probe.gone, 0);
}

static void missing_passt_names_the_package(void **state)
{
	struct error err = { 0 };
	char *path = strdup(getenv("PATH"));
	int fd;

	(void)state;
	assert_int_equal(setenv("PATH", "/nonexistent", 1), 0);
	assert_int_equal(passt_start(&fd, &err), -ENOENT);
	assert_non_null(strstr(err.message, "apt install passt"));
	assert_int_equal(setenv("PATH", path, 1), 0);
	free(path);
}

/* The passt of this host answers ARP, and ends when its socket closes. */
static void real_passt_serves_and_ends(void **state)
{
	static const uint8_t
		arp
			[] = {
				0,    0,    0,	  0,	0,    0,    0,	  0,	0,    0,
				0,    0, /* virtio_net_hdr */
				0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x52, 0x54, 0,    0,
				0,    1,    8,	  6, /* who has */
				0,    1,    8,	  0,	6,    4,    0,	  1,	0x52, 0x54,
				0,    0,    0,	  1,	198,  51,   100,  9,	0,    0,
				0,    0,    0,	  0,	198,  51,   100,  1,
			};
	struct iovec iov = { (void *)arp, sizeof(arp) };
	struct error err = { 0 };
	struct probe probe;
	struct net *net;
	uint8_t fill = 0;
	ssize_t n = 0;
	int fd, status;

	(void)state;
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1),
			 0); /* the daemon becomes ours to await */
	if (passt_start(&fd, &err) < 0) {
		print_message("skipped: %s\n", err.message);
		skip();
	}
	assert_int_equal(passt_net_new(fd, &net), 0);
	probe_open(&probe, net, 0, &clock_host);
	net_want_readable(probe.queue, true);
	assert_int_equal(net_send(probe.queue, &iov, 1), 0);
	for (int i = 0; n == 0 && i < 300; i++) {
		probe_turn(&probe, 100);
		n = probe_receive(&probe, &fill);
	}
	assert_true(n >= (ssize_t)sizeof(arp));
	assert_int_equal(fill, 0x52);
	probe_close(&probe);
	net_free(net);
	alarm(10);
	assert_true(waitpid(-1, &status, 0) > 0);
	alarm(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(frames_come_out_of_the_stream, setup, teardown),
		cmocka_unit_test_setup_teardown(frame_in_pieces_waits_for_its_end, setup, teardown),
		cmocka_unit_test(absurd_lengths_end_the_stream),
		cmocka_unit_test_setup_teardown(sent_frames_carry_their_length, setup, teardown),
		cmocka_unit_test_setup_teardown(frames_too_short_or_long_are_refused, setup,
						teardown),
		cmocka_unit_test_setup_teardown(full_socket_breaks_no_frame, setup, teardown),
		cmocka_unit_test_setup_teardown(closed_peer_is_gone, setup, teardown),
		cmocka_unit_test(missing_passt_names_the_package),
		cmocka_unit_test(real_passt_serves_and_ends),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
