/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: what is whole comes through; whatever is damaged, missing or doubled is found. */
#include "wire_rig.h"

#include <time.h>

#include "base/endian.h"
#include "wire/frame.h"

#define KIND 7

struct fixture {
	struct stream *ends[2];
	struct frame_writer writer;
	struct frame_reader reader;
	struct error err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	plain_pair(unix_pair, f->ends);
	f->writer.stream = f->ends[0];
	frame_reader_init(&f->reader, f->ends[1]);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	frame_reader_release(&f->reader);
	free_pair(f->ends);
	free(f);
	return 0;
}

static void checked_frames_come_whole(void **state)
{
	static const size_t lengths[] = { 0, 1, 4, 4095, 100000 };
	uint8_t *bytes = malloc(100000);
	struct fixture *f = *state;
	struct frame frame;

	fill_pattern(bytes, 100000, 3);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		assert_int_equal(frame_send(&f->writer, KIND, bytes, lengths[i]), 0);
		assert_int_equal(frame_receive(&f->reader, &frame, &f->err), 0);
		assert_int_equal(frame.kind, KIND);
		assert_int_equal(frame.flags, FRAME_CHECKED);
		assert_int_equal(frame.len, lengths[i]);
		assert_int_equal(f->reader.payload.len, lengths[i]);
		if (lengths[i])
			assert_memory_equal(f->reader.payload.data, bytes, lengths[i]);
	}
	free(bytes);
}

static void longest_frame_comes_whole(void **state)
{
	uint8_t *bytes = malloc(FRAME_MAX + 1);
	struct fixture *f = *state;
	const size_t on_the_wire = FRAME_HEADER_BYTES + FRAME_MAX + 4;
	struct receiver receiver;
	struct frame frame;

	fill_pattern(bytes, FRAME_MAX + 1, 4);
	receiver_start(&receiver, f->ends[1], on_the_wire);
	assert_int_equal(frame_send(&f->writer, KIND, bytes, FRAME_MAX + 1), -EMSGSIZE);
	assert_int_equal(frame_send(&f->writer, KIND, bytes, FRAME_MAX), 0);
	assert_int_equal(receiver_join(&receiver), 0);
	assert_int_equal(frame_parse(receiver.bytes, 0, &frame, &f->err), 0);
	assert_int_equal(frame.len, FRAME_MAX);
	assert_memory_equal(receiver.bytes + FRAME_HEADER_BYTES, bytes, FRAME_MAX);
	free(receiver.bytes);
	free(bytes);
}

static void unchecked_frames_leave_their_payload_in_the_stream(void **state)
{
	const struct frame sent = { KIND, FRAME_OPTIONAL, 8 };
	struct fixture *f = *state;
	struct frame frame;
	char got[8];

	for (int i = 0; i < 2; i++) {
		assert_int_equal(frame_send_header(&f->writer, &sent), 0);
		assert_int_equal(send_bytes(f->ends[0], "payload!", 8, false), 0);
	}
	assert_int_equal(frame_receive(&f->reader, &frame, &f->err), 0);
	assert_int_equal(frame.flags, FRAME_OPTIONAL);
	assert_int_equal(f->reader.payload.len, 0);
	assert_int_equal(stream_receive(f->ends[1], got, 8), 0);
	assert_memory_equal(got, "payload!", 8);

	assert_int_equal(frame_receive(&f->reader, &frame, &f->err), 0);
	assert_int_equal(frame_receive_rest(&f->reader, &frame), 0);
	assert_int_equal(f->reader.payload.len, 8);
	assert_memory_equal(f->reader.payload.data, "payload!", 8);
}

static void empty_unchecked_frame_goes_at_once(void **state)
{
	const struct frame sent = { KIND, 0, 0 };
	struct fixture *f = *state;
	struct frame frame;

	assert_int_equal(frame_send_header(&f->writer, &sent), 0);
	assert_int_equal(frame_receive(&f->reader, &frame, &f->err), 0);
	assert_int_equal(frame.len, 0);
	assert_int_equal(frame_receive_rest(&f->reader, &frame), 0);
	assert_int_equal(f->reader.payload.len, 0);
}

/* ---- a peer that gives a byte now and then ---- */

#define DRIP_MS 50
#define DRIP_TIMEOUT 400 /* many drips: each wait by itself is short */

struct dripper {
	int fd;
	const uint8_t *bytes;
	size_t len;
	pthread_t thread;
};

static void *drip(void *ctx)
{
	const struct dripper *dripper = ctx;

	for (size_t i = 0; i < dripper->len; i++) {
		const struct timespec nap = { .tv_nsec = DRIP_MS * 1000000L };

		nanosleep(&nap, NULL);
		if (send(dripper->fd, dripper->bytes + i, 1, MSG_NOSIGNAL) != 1)
			break;
	}
	return NULL;
}

/* `at_once` bytes, then the rest, which lasts longer than the receiver waits for all of it. */
static int receive_dripped(const uint8_t *bytes, size_t len, size_t at_once)
{
	struct dripper dripper = { .bytes = bytes + at_once, .len = len - at_once };
	struct frame_reader reader;
	struct error err = { 0 };
	struct stream *stream;
	struct frame frame;
	int fds[2], r;

	unix_pair(fds);
	dripper.fd = fds[0];
	assert_int_equal(send(fds[0], bytes, at_once, MSG_NOSIGNAL), at_once);
	assert_int_equal(stream_plain(fds[1], DRIP_TIMEOUT, &stream), 0);
	frame_reader_init(&reader, stream);
	assert_int_equal(pthread_create(&dripper.thread, NULL, drip, &dripper), 0);
	r = frame_receive(&reader, &frame, &err);
	if (r == 0 && !(frame.flags & FRAME_CHECKED))
		r = frame_receive_rest(&reader, &frame);
	frame_reader_release(&reader);
	stream_free(stream);
	pthread_join(dripper.thread, NULL);
	close(fds[0]);
	return r;
}

static void a_frame_that_drips_is_given_up(void **state _unused_)
{
	uint8_t bytes[FRAME_HEADER_BYTES + 40] = { 0 };

	frame_header(&(struct frame){ KIND, 0, 40 }, 0, bytes);
	assert_int_equal(receive_dripped(bytes, sizeof(bytes), 1), -ETIMEDOUT);
	assert_int_equal(receive_dripped(bytes, sizeof(bytes), FRAME_HEADER_BYTES), -ETIMEDOUT);
	assert_int_equal(receive_dripped(bytes, sizeof(bytes), sizeof(bytes)), 0);
}

static void header_alone_cannot_promise_a_checksum(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(frame_send_header(&f->writer, &(struct frame){ KIND, FRAME_CHECKED, 8 }),
			 -EINVAL);
	assert_int_equal(frame_send_header(&f->writer, &(struct frame){ KIND, 0, FRAME_MAX + 1 }),
			 -EMSGSIZE);
	assert_int_equal(f->writer.serial, 0);
}

static void every_flag_survives(void **state)
{
	struct fixture *f = *state;

	for (uint16_t flags = 0; flags <= FRAME_KNOWN_FLAGS; flags++) {
		const struct frame sent = { (uint16_t)(KIND + flags), flags, 100 };
		uint8_t bytes[FRAME_HEADER_BYTES];
		struct frame frame;

		frame_header(&sent, 1ULL << 40, bytes);
		assert_int_equal(frame_parse(bytes, 1ULL << 40, &frame, &f->err), 0);
		assert_int_equal(frame.kind, sent.kind);
		assert_int_equal(frame.flags, flags);
		assert_int_equal(frame.len, 100);
	}
}

static void every_flipped_bit_of_a_header_is_found(void **state)
{
	const struct frame sent = { KIND, FRAME_CHECKED, 1000 };
	struct fixture *f = *state;
	uint8_t bytes[FRAME_HEADER_BYTES];
	struct frame frame = { 99, 99, 99 };

	frame_header(&sent, 5, bytes);
	for (unsigned int bit = 0; bit < 8 * FRAME_HEADER_BYTES; bit++) {
		struct error err = { 0 };

		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(frame_parse(bytes, 5, &frame, &err), -EBADMSG);
		assert_int_equal(err.code, -EBADMSG);
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	assert_int_equal(frame.kind, 99);
	assert_int_equal(frame_parse(bytes, 5, &frame, &f->err), 0);
}

static void every_flipped_bit_of_a_checked_payload_is_found(void **state)
{
	static const uint8_t payload[40] = { 1, 2, 3 };
	struct fixture *f = *state;
	uint8_t bytes[FRAME_HEADER_BYTES + sizeof(payload) + 4];
	struct frame frame;

	assert_int_equal(frame_send(&f->writer, KIND, payload, sizeof(payload)), 0);
	assert_int_equal(stream_receive(f->ends[1], bytes, sizeof(bytes)), 0);
	for (size_t bit = 8 * FRAME_HEADER_BYTES; bit < 8 * sizeof(bytes); bit++) {
		struct error err = { 0 };

		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		f->reader.serial = 0;
		assert_int_equal(send_bytes(f->ends[0], bytes, sizeof(bytes), false), 0);
		assert_int_equal(frame_receive(&f->reader, &frame, &err), -EBADMSG);
		assert_int_equal(f->reader.payload.len, 0);
		assert_non_null(strstr(err.message, "checksum"));
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
}

/* With a CRC that is right: what a peer means ill, not what a wire damages. */
static void make_header(uint16_t flags, uint32_t length, uint8_t bytes[FRAME_HEADER_BYTES])
{
	const uint32_t trailer = flags & FRAME_CHECKED ? 4 : 0;

	frame_header(&(struct frame){ KIND, flags, length - trailer }, 0, bytes);
	assert_int_equal(le_load(bytes + 16, 4), length);
}

static void lengths_are_judged(void **state _unused_)
{
	static const struct {
		uint16_t flags;
		uint32_t length;
		int result;
	} cases[] = {
		{ 0, 0, 0 },
		{ 0, FRAME_MAX, 0 },
		{ 0, FRAME_MAX + 1, -EMSGSIZE },
		{ 0, UINT32_MAX, -EMSGSIZE },
		{ FRAME_CHECKED, 0, -EBADMSG },
		{ FRAME_CHECKED, 3, -EBADMSG },
		{ FRAME_CHECKED, 4, 0 },
		{ FRAME_CHECKED, FRAME_MAX + 4, 0 },
		{ FRAME_CHECKED, FRAME_MAX + 5, -EMSGSIZE },
		{ FRAME_CHECKED, UINT32_MAX, -EMSGSIZE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t bytes[FRAME_HEADER_BYTES];
		struct error err = { 0 };
		struct frame frame;

		make_header(cases[i].flags, cases[i].length, bytes);
		assert_int_equal(frame_parse(bytes, 0, &frame, &err), cases[i].result);
		assert_int_equal(err.code, cases[i].result);
	}
}

static void unknown_flags_are_refused(void **state _unused_)
{
	uint8_t bytes[FRAME_HEADER_BYTES];
	struct error err = { 0 };
	struct frame frame;

	make_header(FRAME_KNOWN_FLAGS + 1, 0, bytes);
	assert_int_equal(frame_parse(bytes, 0, &frame, &err), -EBADMSG);
	assert_non_null(strstr(err.message, "flags"));
}

static void lost_and_doubled_frames_are_found(void **state)
{
	struct fixture *f = *state;
	struct frame frame;

	assert_int_equal(frame_send(&f->writer, KIND, "a", 1), 0);
	assert_int_equal(frame_receive(&f->reader, &frame, &f->err), 0);
	f->writer.serial++;
	assert_int_equal(frame_send(&f->writer, KIND, "c", 1), 0);
	assert_int_equal(frame_receive(&f->reader, &frame, &f->err), -EBADMSG);
	assert_non_null(strstr(f->err.message, "missing, doubled or out of order"));
}

static void frame_cut_anywhere_is_a_reset(void **state _unused_)
{
	const size_t whole = FRAME_HEADER_BYTES + 10 + 4;

	for (size_t cut = 0; cut < whole; cut++) {
		struct frame frame;
		struct fixture *f;
		uint8_t bytes[64];
		void *mine;

		setup(&mine);
		f = mine;
		assert_int_equal(frame_send(&f->writer, KIND, "0123456789", 10), 0);
		assert_int_equal(stream_receive(f->ends[1], bytes, whole), 0);
		assert_int_equal(send_bytes(f->ends[0], bytes, cut, false), 0);
		stream_free(TAKE_PTR(f->ends[0]));
		assert_int_equal(frame_receive(&f->reader, &frame, &f->err),
				 cut ? -ECONNRESET : -ENODATA);
		teardown(&mine);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(checked_frames_come_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(longest_frame_comes_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(unchecked_frames_leave_their_payload_in_the_stream,
						setup, teardown),
		cmocka_unit_test_setup_teardown(empty_unchecked_frame_goes_at_once, setup,
						teardown),
		cmocka_unit_test(a_frame_that_drips_is_given_up),
		cmocka_unit_test_setup_teardown(header_alone_cannot_promise_a_checksum, setup,
						teardown),
		cmocka_unit_test_setup_teardown(every_flag_survives, setup, teardown),
		cmocka_unit_test_setup_teardown(every_flipped_bit_of_a_header_is_found, setup,
						teardown),
		cmocka_unit_test_setup_teardown(every_flipped_bit_of_a_checked_payload_is_found,
						setup, teardown),
		cmocka_unit_test(lengths_are_judged),
		cmocka_unit_test(unknown_flags_are_refused),
		cmocka_unit_test_setup_teardown(lost_and_doubled_frames_are_found, setup, teardown),
		cmocka_unit_test(frame_cut_anywhere_is_a_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
