/* SPDX-License-Identifier: Apache-2.0 */
/* Frames of the network device, both ways. */
#include "virtio_net_rig.h"

/* ---- transmit ---- */

static void sent_frame_reaches_the_wire(void **state)
{
	struct fixture *f = plug(1, 0);
	uint8_t fill = 0;

	(void)state;
	drive(f, ALL_FEATURES);
	send_plain(f, TX0, 0x42, 1000);
	assert_int_equal(wire_wait(f, 0, &fill), 1000 + NET_HEADER_SIZE);
	assert_int_equal(fill, 0x42);
	assert_int_equal(take(f, TX0), 0);
	assert_true(wait_for_count(&f->machine->interrupts[TX0 + 1], 1, WAIT_MS));
	unplug(f);
}

static void header_without_offloads_is_cleared(void **state)
{
	struct net_header header = { .hdr_len = { 77 }, .gso_size = { 5 }, .csum_start = { 9 } };
	struct net_header got;
	uint8_t rest[2000];
	struct iovec iov[2] = { { &got, sizeof(got) }, { rest, sizeof(rest) } };
	struct fixture *f = plug(1, OFFLOADS);

	(void)state;
	drive(f, ALL_FEATURES);
	send_with(f, TX0, &header, 1, 100);
	take(f, TX0);
	assert_int_equal(net_receive(f->wire[0].queue, iov, 2), 112);
	header = (struct net_header){ 0 };
	assert_memory_equal(&got, &header, sizeof(got));
	unplug(f);
}

static void header_judgements(void **state)
{
	static const struct {
		uint8_t flags, gso_type;
		uint16_t gso_size, start, offset;
		uint64_t features;
		int result;
	} cases[] = {
		{ 0, 0, 0, 0, 0, 0, 0 },
		{ 0, GSO_TCPV4, 1448, 34, 16, ~0ULL, -EINVAL },
		{ 1, 0, 0, 34, 16, 0, -EINVAL },
		{ 1, 0, 0, 34, 16, NET_F_CSUM, 0 },
		{ 1, 0, 0, 13, 16, NET_F_CSUM, -EINVAL },
		{ 1, 0, 0, 82, 16, NET_F_CSUM, 0 },
		{ 1, 0, 0, 83, 16, NET_F_CSUM, -EINVAL },
		{ 1, 0, 0, 65535, 65535, NET_F_CSUM, -EINVAL },
		{ 1, GSO_TCPV4, 1448, 34, 16, NET_F_CSUM, -EINVAL },
		{ 1, GSO_TCPV4, 1448, 34, 16, NET_F_CSUM | NET_F_HOST_TSO4, 0 },
		{ 1, GSO_TCPV4, 0, 34, 16, NET_F_CSUM | NET_F_HOST_TSO4, -EINVAL },
		{ 1, GSO_TCPV6, 1448, 34, 16, NET_F_CSUM | NET_F_HOST_TSO4, -EINVAL },
		{ 1, GSO_TCPV6, 1448, 34, 16, NET_F_CSUM | NET_F_HOST_TSO6, 0 },
		{ 1, GSO_TCPV4 | GSO_ECN, 1448, 34, 16, NET_F_CSUM | NET_F_HOST_TSO4, -EINVAL },
		{ 1, GSO_TCPV4 | GSO_ECN, 1448, 34, 16,
		  NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_ECN, 0 },
		{ 1, GSO_UDP, 1448, 34, 6, NET_F_CSUM | NET_F_HOST_TSO4, -EINVAL },
		{ 1, 2, 1448, 34, 16, ~0ULL, -EINVAL },
		{ 1, GSO_ECN, 1448, 34, 16, ~0ULL, -EINVAL },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct net_header h = { .flags = cases[i].flags | 0xf0,
					.gso_type = cases[i].gso_type,
					.hdr_len = le16_make(9999),
					.gso_size = le16_make(cases[i].gso_size),
					.csum_start = le16_make(cases[i].start),
					.csum_offset = le16_make(cases[i].offset),
					.num_buffers = le16_make(7) };

		if (net_header_check(&h, 100, cases[i].features) != cases[i].result)
			fail_msg("case %zu", i);
		if (cases[i].result == 0) {
			assert_int_equal(h.flags, cases[i].flags);
			assert_true(le16_get(h.hdr_len) <= 100);
			assert_int_equal(le16_get(h.num_buffers), 0);
		}
	}
}

static void bad_frames_are_lost_and_good_ones_go_on(void **state)
{
	struct net_header bad = { .flags = 1, .csum_start = { 2000 } };
	struct fixture *f = plug(1, OFFLOADS);
	uint8_t fill = 0;

	(void)state;
	drive(f, ALL_FEATURES);
	send_with(f, TX0, &bad, 1, 100);      /* checksum behind the frame */
	send_plain(f, TX0, 2, 13);	      /* no whole Ethernet header */
	send_plain(f, TX0, 3, NET_FRAME_MAX); /* longer than any frame */
	send_plain(f, TX0, 4, 100);
	assert_int_equal(wire_wait(f, 0, &fill), 112);
	assert_int_equal(fill, 4);
	for (int i = 0; i < 4; i++)
		take(f, TX0);
	assert_int_equal(vdriver_status(&f->driver) & VSTATUS_NEEDS_RESET, 0);
	unplug(f);
}

static void full_wire_holds_frames_back(void **state)
{
	struct fixture *f = plug(1, 0);
	unsigned int total = NET_PAIR_FRAMES + 20;
	uint8_t fill;

	(void)state;
	drive(f, ALL_FEATURES);
	for (unsigned int i = 0; i < total; i++)
		send_plain(f, TX0, (uint8_t)i, 64);
	for (unsigned int i = 0; i < NET_PAIR_FRAMES; i++)
		take(f, TX0);
	assert_int_equal(vqueue_wait(&f->queues[TX0], 20, NULL, NULL), 0);
	for (unsigned int i = 0; i < total; i++) {
		assert_int_equal(wire_wait(f, 0, &fill), 64 + NET_HEADER_SIZE);
		assert_int_equal(fill, (uint8_t)i);
	}
	for (unsigned int i = NET_PAIR_FRAMES; i < total; i++)
		take(f, TX0);
	unplug(f);
}

static void chain_without_header_breaks_the_device(void **state)
{
	struct fixture *f = plug(1, 0);
	struct vbuffer buffer;

	(void)state;
	drive(f, ALL_FEATURES);
	buffer = (struct vbuffer){ vmachine_alloc(f->machine, 11, 1), 11, false };
	assert_true(vqueue_add(&f->queues[TX0], &buffer, 1) >= 0);
	vqueue_kick(&f->queues[TX0]);
	assert_true(wait_status(f, VSTATUS_NEEDS_RESET));
	assert_int_equal(vdriver_reset(&f->driver), 0);
	drive(f, ALL_FEATURES);
	send_plain(f, TX0, 1, 64);
	take(f, TX0);
	unplug(f);
}

/* ---- receive ---- */

static void received_frame_lies_in_the_buffer(void **state)
{
	struct fixture *f = plug(1, 0);
	uint64_t at;

	(void)state;
	drive(f, ALL_FEATURES);
	at = post(f, RX0, 2048);
	vqueue_kick(&f->queues[RX0]);
	assert_int_equal(probe_send(&f->wire[0], 0x24, 700), 0);
	assert_int_equal(take(f, RX0), 700);
	assert_int_equal(le16_get(header_at(f, at).num_buffers), 1);
	assert_int_equal(byte_at(f, at + NET_HEADER_SIZE), 0x24);
	assert_int_equal(byte_at(f, at + 699), 0x24);
	assert_int_equal(byte_at(f, at + 700), 0xee);
	assert_true(wait_for_count(&f->machine->interrupts[RX0 + 1], 1, WAIT_MS));
	unplug(f);
}

/* Checks that the frame of `len` bytes lies in `n` buffers of `size` bytes, used in their order. */
static void check_merged(struct fixture *f, const uint64_t *at, unsigned int n, uint32_t size,
			 uint32_t len, uint8_t fill)
{
	assert_int_equal(take(f, RX0), MIN(size, len));
	assert_int_equal(le16_get(header_at(f, at[0]).num_buffers), n);
	for (unsigned int i = 1; i < n; i++)
		assert_int_equal(vqueue_get(&f->queues[RX0], NULL, NULL), 1); /* appeared at once */
	for (uint32_t i = NET_HEADER_SIZE; i < len; i++)
		if (byte_at(f, at[i / size] + i % size) != fill)
			fail_msg("byte %u", i);
	assert_int_equal(byte_at(f, at[(len - 1) / size] + (len - 1) % size + 1),
			 len % size ? 0xee : byte_at(f, at[(len - 1) / size] + size));
}

static void long_frame_spans_buffers(void **state)
{
	struct fixture *f = plug(1, 0);
	uint64_t at[10];

	(void)state;
	drive(f, ALL_FEATURES);
	for (int i = 0; i < 10; i++)
		at[i] = post(f, RX0, 500);
	vqueue_kick(&f->queues[RX0]);
	assert_int_equal(probe_send(&f->wire[0], 0x61, 3100), 0);
	check_merged(f, at, 7, 500, 3100, 0x61);
	assert_int_equal(probe_send(&f->wire[0], 0x62, 900), 0);
	check_merged(f, at + 7, 2, 500, 900, 0x62);
	unplug(f);
}

/* The rest of a frame waits aside until the driver gives more buffers; nothing is shown before. */
static void long_frame_waits_for_buffers(void **state)
{
	struct fixture *f = plug(1, 0);
	uint64_t at[7];

	(void)state;
	drive(f, ALL_FEATURES);
	at[0] = post(f, RX0, 500);
	at[1] = post(f, RX0, 500);
	vqueue_kick(&f->queues[RX0]);
	assert_int_equal(probe_send(&f->wire[0], 0x63, 3100), 0);
	assert_int_equal(vqueue_wait(&f->queues[RX0], 50, NULL, NULL), 0);
	for (int i = 2; i < 7; i++)
		at[i] = post(f, RX0, 500);
	vqueue_kick(&f->queues[RX0]);
	check_merged(f, at, 7, 500, 3100, 0x63);
	unplug(f);
}

static void frames_wait_while_there_are_no_buffers(void **state)
{
	struct fixture *f = plug(1, 0);
	uint64_t at[3];

	(void)state;
	drive(f, ALL_FEATURES);
	for (int i = 0; i < 3; i++)
		assert_int_equal(probe_send(&f->wire[0], (uint8_t)(10 + i), 200), 0);
	usleep(20000);
	for (int i = 0; i < 3; i++)
		at[i] = post(f, RX0, 1600);
	vqueue_kick(&f->queues[RX0]);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(take(f, RX0), 200);
		assert_int_equal(byte_at(f, at[i] + NET_HEADER_SIZE), 10 + i);
	}
	unplug(f);
}

static void frame_too_long_for_its_chain_is_lost(void **state)
{
	struct fixture *f = plug(1, 0);
	uint64_t at;

	(void)state;
	drive(f, NO_MERGE);
	at = post(f, RX0, 600);
	post(f, RX0, 600);
	vqueue_kick(&f->queues[RX0]);
	assert_int_equal(probe_send(&f->wire[0], 1, 601), 0);
	assert_int_equal(probe_send(&f->wire[0], 2, 600), 0);
	assert_int_equal(take(f, RX0), 600);
	assert_int_equal(byte_at(f, at + NET_HEADER_SIZE), 2);
	assert_int_equal(le16_get(header_at(f, at).num_buffers), 1);
	unplug(f);
}

/* Frames that waited in the net since a driver who knew segments. */
static void segments_not_agreed_on_are_lost(void **state)
{
	struct net_header header = { .flags = 1, .gso_type = GSO_TCPV4, .gso_size = { 1448 } };
	uint8_t frame[200] = { 0 };
	struct iovec iov = { frame, sizeof(frame) };
	struct fixture *f = plug(1, OFFLOADS);
	uint64_t at;

	(void)state;
	drive(f, NET_F_GUEST_CSUM | NET_F_MRG_RXBUF);
	at = post(f, RX0, 1600);
	vqueue_kick(&f->queues[RX0]);
	memcpy(frame, &header, sizeof(header));
	assert_int_equal(net_send(f->wire[0].queue, &iov, 1), 0);
	frame[1] = GSO_NONE;
	frame[20] = 0x99;
	assert_int_equal(net_send(f->wire[0].queue, &iov, 1), 0);
	assert_int_equal(take(f, RX0), 200);
	assert_int_equal(byte_at(f, at + 20), 0x99);
	assert_int_equal(header_at(f, at).flags, 1);
	unplug(f);
}

static void readable_receive_buffer_breaks_the_device(void **state)
{
	static const struct vbuffer bad[] = { { 0, 64, false }, { 0, NET_HEADER_SIZE - 1, true } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct fixture *f = plug(1, 0);

		drive(f, ALL_FEATURES);
		assert_true(vqueue_add(&f->queues[RX0], &bad[i], 1) >= 0);
		vqueue_kick(&f->queues[RX0]);
		assert_true(wait_status(f, VSTATUS_NEEDS_RESET));
		unplug(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sent_frame_reaches_the_wire),
		cmocka_unit_test(header_without_offloads_is_cleared),
		cmocka_unit_test(header_judgements),
		cmocka_unit_test(bad_frames_are_lost_and_good_ones_go_on),
		cmocka_unit_test(full_wire_holds_frames_back),
		cmocka_unit_test(chain_without_header_breaks_the_device),
		cmocka_unit_test(received_frame_lies_in_the_buffer),
		cmocka_unit_test(long_frame_spans_buffers),
		cmocka_unit_test(long_frame_waits_for_buffers),
		cmocka_unit_test(frames_wait_while_there_are_no_buffers),
		cmocka_unit_test(frame_too_long_for_its_chain_is_lost),
		cmocka_unit_test(segments_not_agreed_on_are_lost),
		cmocka_unit_test(readable_receive_buffer_breaks_the_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
