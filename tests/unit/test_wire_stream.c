/* SPDX-License-Identifier: Apache-2.0 */
/* Plain streams: bytes come out as they went in, whatever way they took, and nobody waits for ever. */
#include "wire_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"

static void (*const pairs[])(int ret_fds[2]) = { unix_pair, tcp_pair };

static void bytes_come_out_as_they_went_in(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		struct iovec iov[] = { { "one", 3 }, { "", 0 }, { "two", 3 } };
		struct stream *ends[2];
		char bytes[6];

		plain_pair(pairs[i], ends);
		assert_int_equal(stream_send(ends[0], iov, 3, false), 0);
		assert_int_equal(stream_receive(ends[1], bytes, 4), 0);
		assert_int_equal(stream_receive(ends[1], bytes + 4, 2), 0);
		assert_memory_equal(bytes, "onetwo", 6);
		free_pair(ends);
	}
}

static void both_directions_are_separate(void **state _unused_)
{
	struct stream *ends[2];
	char got[2];

	plain_pair(tcp_pair, ends);
	assert_int_equal(send_bytes(ends[0], "a", 1, false), 0);
	assert_int_equal(send_bytes(ends[1], "b", 1, false), 0);
	assert_int_equal(stream_receive(ends[0], &got[0], 1), 0);
	assert_int_equal(stream_receive(ends[1], &got[1], 1), 0);
	assert_memory_equal(got, "ba", 2);
	free_pair(ends);
}

static void long_messages_pass_in_pieces(void **state _unused_)
{
	const size_t len = 5 * MIB(1) + 123;
	uint8_t *bytes = malloc(len);

	fill_pattern(bytes, len, 1);
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		struct receiver receiver;
		struct stream *ends[2];

		plain_pair(pairs[i], ends);
		receiver_start(&receiver, ends[1], len);
		assert_int_equal(send_bytes(ends[0], bytes, len, false), 0);
		receiver_expect(&receiver, bytes);
		free_pair(ends);
	}
	free(bytes);
}

static void more_than_an_iovec_has_parts_is_sent(void **state _unused_)
{
	uint8_t bytes[300], got[300];
	struct iovec iov[100];
	struct stream *ends[2];

	fill_pattern(bytes, sizeof(bytes), 2);
	for (size_t i = 0; i < ARRAY_SIZE(iov); i++)
		iov[i] = (struct iovec){ bytes + 3 * i, 3 };
	plain_pair(unix_pair, ends);
	assert_int_equal(stream_send(ends[0], iov, ARRAY_SIZE(iov), false), 0);
	assert_int_equal(stream_receive(ends[1], got, sizeof(got)), 0);
	assert_memory_equal(got, bytes, sizeof(got));
	free_pair(ends);
}

static void small_pieces_wait_for_the_last(void **state _unused_)
{
	struct stream *ends[2];
	char got[4];

	plain_pair(unix_pair, ends);
	assert_int_equal(send_bytes(ends[0], "ab", 2, true), 0);
	assert_int_equal(send_bytes(ends[0], "c", 1, true), 0);
	assert_int_equal(stream_wait(ends[1], 0), 0);
	assert_int_equal(send_bytes(ends[0], "d", 1, false), 0);
	assert_int_equal(stream_wait(ends[1], 1000), 1);
	assert_int_equal(stream_receive(ends[1], got, 4), 0);
	assert_memory_equal(got, "abcd", 4);
	free_pair(ends);
}

static void held_pieces_are_copies(void **state _unused_)
{
	struct stream *ends[2];
	char piece[] = "old", got[3];

	plain_pair(unix_pair, ends);
	assert_int_equal(send_bytes(ends[0], piece, 3, true), 0);
	memcpy(piece, "new", 3);
	assert_int_equal(stream_flush(ends[0]), 0);
	assert_int_equal(stream_receive(ends[1], got, 3), 0);
	assert_memory_equal(got, "old", 3);
	free_pair(ends);
}

/* As pages are sent: a small header before each run, runs of any length, and all of it in order. */
static void send_runs(struct stream *stream, const struct ram *ram, uint32_t seed, size_t *ret_len,
		      uint8_t *ret_expected)
{
	size_t done = 0;

	for (uint64_t at = 0; at < ram->len;) {
		const uint64_t run = MIN(4096 * (1 + (seed >> 8) % 64), ram->len - at);
		const uint8_t header[32] = { (uint8_t)run, (uint8_t)seed };

		memcpy(ret_expected + done, header, sizeof(header));
		memcpy(ret_expected + done + sizeof(header), ram->map + at, run);
		done += sizeof(header) + run;
		assert_int_equal(send_bytes(stream, header, sizeof(header), true), 0);
		assert_int_equal(stream_send_pages(stream, ram->map + at, run), 0);
		at += run;
		seed = seed * 1664525 + 1013904223;
	}
	assert_int_equal(stream_flush(stream), 0);
	*ret_len = done;
}

/* How long all of it is, without sending. */
static size_t runs_bytes(const struct ram *ram, uint32_t seed)
{
	size_t total = ram->len;

	for (uint64_t at = 0; at < ram->len; seed = seed * 1664525 + 1013904223) {
		at += MIN(4096 * (1 + (seed >> 8) % 64), ram->len - at);
		total += 32;
	}
	return total;
}

static void pages_of_a_file_arrive_in_order(void **state _unused_)
{
	struct ram ram;

	make_ram(&ram, MIB(24));
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		const size_t len = runs_bytes(&ram, 5);
		uint8_t *expected = malloc(len);
		struct receiver receiver;
		struct stream_counts counts;
		struct stream *ends[2];
		size_t done;

		plain_pair(pairs[i], ends);
		receiver_start(&receiver, ends[1], len);
		send_runs(ends[0], &ram, 5, &done, expected);
		assert_int_equal(done, len);
		receiver_expect(&receiver, expected);
		stream_counts(ends[0], &counts);
		assert_int_equal(counts.sent, len);
		assert_int_equal(counts.wire_sent, len);
		stream_counts(ends[1], &counts);
		assert_int_equal(counts.received, len);
		assert_int_equal(counts.wire_received, len);
		free(expected);
		free_pair(ends);
	}
	release_ram(&ram);
}

/* One long run: every call of zero copy until the stream learns that loopback copies, then without. */
static void one_long_run_of_pages_arrives(void **state _unused_)
{
	struct receiver receiver;
	struct stream *ends[2];
	struct ram ram;

	make_ram(&ram, MIB(40));
	plain_pair(tcp_pair, ends);
	receiver_start(&receiver, ends[1], ram.len);
	assert_int_equal(stream_send_pages(ends[0], ram.map, ram.len), 0);
	assert_int_equal(stream_flush(ends[0]), 0);
	receiver_expect(&receiver, ram.map);
	free_pair(ends);
	release_ram(&ram);
}

static void pipes_carry_streams(void **state _unused_)
{
	struct receiver receiver;
	struct stream *ends[2];
	struct ram ram;
	int fds[2];

	make_ram(&ram, MIB(1));
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(stream_plain(fds[0], RIG_TIMEOUT, &ends[0]), 0);
	assert_int_equal(stream_plain(fds[1], RIG_TIMEOUT, &ends[1]), 0);
	receiver_start(&receiver, ends[0], 4 + ram.len);
	assert_int_equal(send_bytes(ends[1], "head", 4, true), 0);
	assert_int_equal(stream_send_pages(ends[1], ram.map, ram.len), 0);
	assert_int_equal(stream_flush(ends[1]), 0);
	assert_int_equal(receiver_join(&receiver), 0);
	assert_memory_equal(receiver.bytes, "head", 4);
	assert_memory_equal(receiver.bytes + 4, ram.map, ram.len);
	free(receiver.bytes);
	free_pair(ends);
	release_ram(&ram);
}

static void end_is_told_from_a_cut(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		struct stream *ends[2];
		char got[4];

		plain_pair(pairs[i], ends);
		assert_int_equal(send_bytes(ends[0], "abc", 3, false), 0);
		stream_free(ends[0]);
		assert_int_equal(stream_receive(ends[1], got, 2), 0);
		assert_int_equal(stream_receive(ends[1], got, 2), -ECONNRESET);
		assert_int_equal(stream_receive(ends[1], got, 1), -ENODATA);
		stream_free(ends[1]);
	}
}

static void sending_to_one_who_has_gone_fails_for_good(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		const uint8_t bytes[4096] = { 0 };
		struct stream *ends[2];
		int r = 0;

		plain_pair(pairs[i], ends);
		stream_free(ends[1]);
		for (int k = 0; k < 1000 && r == 0; k++)
			r = send_bytes(ends[0], bytes, sizeof(bytes), false);
		assert_int_equal(r, -ECONNRESET);
		assert_int_equal(send_bytes(ends[0], bytes, 1, false), -ECONNRESET);
		assert_int_equal(stream_flush(ends[0]), -ECONNRESET);
		stream_free(ends[0]);
	}
}

static uint64_t milliseconds_since(uint64_t begin)
{
	return (clock_now(&clock_host) - begin) / NSEC_PER_MSEC;
}

static void waits_end_at_the_deadline(void **state _unused_)
{
	static const uint8_t bytes[65536];
	uint64_t begin = clock_now(&clock_host);
	struct stream *quick, *mute;
	int fds[2], r = 0;
	char got;

	tcp_pair(fds);
	assert_int_equal(stream_plain(fds[0], 50, &quick), 0);
	assert_int_equal(stream_plain(fds[1], 50, &mute), 0);
	assert_int_equal(stream_receive(quick, &got, 1), -ETIMEDOUT);
	assert_true(milliseconds_since(begin) >= 50);
	assert_int_equal(stream_wait(quick, 0), 0);
	for (int i = 0; i < 10000 && r == 0; i++)
		r = send_bytes(quick, bytes, sizeof(bytes), false);
	assert_int_equal(r, -ETIMEDOUT);
	stream_free(quick);
	stream_free(mute);
}

/* Nobody receives: pages stay pinned or queued until the deadline. */
static void flush_waits_no_longer_than_the_deadline(void **state _unused_)
{
	struct stream *ends[2];
	struct ram ram;
	int fds[2], r;

	make_ram(&ram, MIB(16));
	tcp_pair(fds);
	assert_int_equal(stream_plain(fds[0], 50, &ends[0]), 0);
	assert_int_equal(stream_plain(fds[1], 50, &ends[1]), 0);
	r = stream_send_pages(ends[0], ram.map, ram.len);
	assert_int_equal(r, -ETIMEDOUT);
	assert_int_equal(stream_flush(ends[0]), -ETIMEDOUT);
	free_pair(ends);
	release_ram(&ram);
}

/* The receiver does not wake for each segment of a long message; yet a slow wire is no dead one. */
static void slow_message_is_no_timeout(void **state _unused_)
{
	const size_t len = MIB(1), first = KIB(100);
	uint8_t *bytes = malloc(len);
	struct receiver receiver;
	struct stream *ends[2];
	int fds[2];

	fill_pattern(bytes, len, 4);
	tcp_pair(fds);
	assert_int_equal(stream_plain(fds[0], RIG_TIMEOUT, &ends[0]), 0);
	assert_int_equal(stream_plain(fds[1], 1200, &ends[1]), 0);
	receiver_start(&receiver, ends[1], len);
	usleep(50000); /* it waits for 128 KiB by now */
	assert_int_equal(send_bytes(ends[0], bytes, first, false), 0);
	usleep(1500000); /* longer than its patience, less than twice that, on a busy computer too */
	assert_int_equal(send_bytes(ends[0], bytes + first, len - first, false), 0);
	receiver_expect(&receiver, bytes);
	free(bytes);
	free_pair(ends);
}

static void a_wait_that_goes_on_becomes_patient(void **state _unused_)
{
	const size_t len = KIB(100);
	uint8_t *bytes = malloc(len);
	struct receiver receiver;
	struct stream *ends[2];
	int fds[2];

	fill_pattern(bytes, len, 5);
	tcp_pair(fds);
	assert_int_equal(stream_plain(fds[0], RIG_TIMEOUT, &ends[0]), 0);
	assert_int_equal(stream_plain(fds[1], 1200, &ends[1]), 0);
	receiver_start(&receiver, ends[1], len);
	usleep(50000);
	stream_be_patient(ends[1], RIG_TIMEOUT);
	usleep(1500000);
	assert_int_equal(send_bytes(ends[0], bytes, len, false), 0);
	receiver_expect(&receiver, bytes);
	free(bytes);
	free_pair(ends);
}

static void short_message_after_a_long_one_is_seen(void **state _unused_)
{
	const size_t len = MIB(1);
	uint8_t *bytes = calloc(1, len);
	struct receiver receiver;
	struct stream *ends[2];

	plain_pair(tcp_pair, ends);
	receiver_start(&receiver, ends[1], len);
	usleep(50000);
	assert_int_equal(send_bytes(ends[0], bytes, len, false), 0);
	receiver_expect(&receiver, bytes);
	assert_int_equal(send_bytes(ends[0], "x", 1, false), 0);
	assert_int_equal(stream_wait(ends[1], RIG_TIMEOUT), 1);
	free(bytes);
	free_pair(ends);
}

static void *cancel_soon(void *stream)
{
	usleep(20000);
	stream_cancel(stream);
	return NULL;
}

static void cancel_wakes_a_receiver(void **state _unused_)
{
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		struct stream *ends[2];
		pthread_t thread;
		char got;

		plain_pair(pairs[i], ends);
		assert_int_equal(pthread_create(&thread, NULL, cancel_soon, ends[1]), 0);
		assert_int_equal(stream_receive(ends[1], &got, 1), -ECANCELED);
		assert_int_equal(stream_receive(ends[1], &got, 1), -ECANCELED);
		assert_int_equal(stream_wait(ends[1], 1000), -ECANCELED);
		assert_int_equal(send_bytes(ends[1], "x", 1, false), -ECANCELED);
		assert_int_equal(stream_receive(ends[0], &got, 1), -ENODATA);
		pthread_join(thread, NULL);
		free_pair(ends);
	}
}

static void cancel_wakes_a_sender(void **state _unused_)
{
	static const uint8_t bytes[65536];

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		struct stream *ends[2];
		pthread_t thread;
		int r = 0;

		plain_pair(pairs[i], ends);
		assert_int_equal(pthread_create(&thread, NULL, cancel_soon, ends[0]), 0);
		while (r == 0)
			r = send_bytes(ends[0], bytes, sizeof(bytes), false);
		assert_int_equal(r, -ECANCELED);
		pthread_join(thread, NULL);
		free_pair(ends);
	}
}

static void cancel_wakes_who_waits_on_a_pipe(void **state _unused_)
{
	struct stream *stream;
	pthread_t thread;
	int fds[2];
	char got;

	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	assert_int_equal(stream_plain(fds[0], RIG_TIMEOUT, &stream), 0);
	assert_int_equal(pthread_create(&thread, NULL, cancel_soon, stream), 0);
	assert_int_equal(stream_receive(stream, &got, 1), -ECANCELED);
	pthread_join(thread, NULL);
	stream_free(stream);
	close(fds[1]);
}

/* The receiver's wait is disturbed by every note about zero copy, and must go on. */
static void receiver_waits_through_zero_copy(void **state _unused_)
{
	struct receiver there, here;
	struct stream *ends[2];
	struct ram ram;

	make_ram(&ram, MIB(16));
	plain_pair(tcp_pair, ends);
	receiver_start(&there, ends[1], ram.len);
	receiver_start(&here, ends[0], 2);
	for (uint64_t at = 0; at < ram.len; at += KIB(256)) {
		assert_int_equal(stream_send_pages(ends[0], ram.map + at, KIB(256)), 0);
		assert_int_equal(stream_flush(ends[0]), 0);
	}
	receiver_expect(&there, ram.map);
	assert_int_equal(send_bytes(ends[1], "ok", 2, false), 0);
	receiver_expect(&here, "ok");
	free_pair(ends);
	release_ram(&ram);
}

/* Of a user who may lock no memory: the kernel refuses to pin, so pages are copied. */
static void send_without_locked_memory(const struct ram *ram, struct stream *stream)
{
	const struct rlimit none = { 0, 0 };
	bool good = setrlimit(RLIMIT_MEMLOCK, &none) == 0 &&
		    (geteuid() != 0 || setresuid(65534, 65534, 65534) == 0);

	for (uint64_t at = 0; at < ram->len && good; at += KIB(64))
		good = stream_send_pages(stream, ram->map + at, KIB(64)) == 0;
	_exit(good && stream_flush(stream) == 0 ? 0 : 1);
}

static void pages_that_may_not_be_pinned_are_copied(void **state _unused_)
{
	struct receiver receiver;
	struct stream *ends[2];
	struct ram ram;
	pid_t child;
	int status;

	make_ram(&ram, MIB(8));
	plain_pair(tcp_pair, ends);
	child = fork();
	if (child == 0)
		send_without_locked_memory(&ram, ends[0]);
	receiver_start(&receiver, ends[1], ram.len);
	receiver_expect(&receiver, ram.map);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	free_pair(ends);
	release_ram(&ram);
}

static void datagrams_are_refused(void **state _unused_)
{
	struct stream *stream;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(stream_plain(fds[0], RIG_TIMEOUT, &stream), -EPROTOTYPE);
	assert_int_equal(fcntl(fds[0], F_GETFD), -1);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_out_as_they_went_in),
		cmocka_unit_test(both_directions_are_separate),
		cmocka_unit_test(long_messages_pass_in_pieces),
		cmocka_unit_test(more_than_an_iovec_has_parts_is_sent),
		cmocka_unit_test(small_pieces_wait_for_the_last),
		cmocka_unit_test(held_pieces_are_copies),
		cmocka_unit_test(pages_of_a_file_arrive_in_order),
		cmocka_unit_test(one_long_run_of_pages_arrives),
		cmocka_unit_test(pipes_carry_streams),
		cmocka_unit_test(end_is_told_from_a_cut),
		cmocka_unit_test(sending_to_one_who_has_gone_fails_for_good),
		cmocka_unit_test(waits_end_at_the_deadline),
		cmocka_unit_test(flush_waits_no_longer_than_the_deadline),
		cmocka_unit_test(slow_message_is_no_timeout),
		cmocka_unit_test(a_wait_that_goes_on_becomes_patient),
		cmocka_unit_test(short_message_after_a_long_one_is_seen),
		cmocka_unit_test(cancel_wakes_a_receiver),
		cmocka_unit_test(cancel_wakes_a_sender),
		cmocka_unit_test(cancel_wakes_who_waits_on_a_pipe),
		cmocka_unit_test(receiver_waits_through_zero_copy),
		cmocka_unit_test(pages_that_may_not_be_pinned_are_copied),
		cmocka_unit_test(datagrams_are_refused),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
