/* SPDX-License-Identifier: Apache-2.0 */
/* What driver and device agree on: features, commands, queue pairs. */
#include "net/rarp.h"
#include "virtio_net_rig.h"

/* ---- features and commands ---- */

static void features_follow_the_net(void **state)
{
	struct fixture *plain = plug(1, 0), *able = plug(2, OFFLOADS);
	uint64_t offered;

	(void)state;
	assert_int_equal(vdriver_find(plain->machine, VIRTIO_ID_NET, &plain->driver), 0);
	offered = vdriver_offered(&plain->driver);
	assert_int_equal(offered & (NET_F_CSUM | NET_F_GUEST_OFFLOADS | NET_F_MQ), 0);
	assert_true(offered & NET_F_MRG_RXBUF);
	assert_int_equal(vdriver_find(able->machine, VIRTIO_ID_NET, &able->driver), 0);
	offered = vdriver_offered(&able->driver);
	assert_true(offered & NET_F_HOST_TSO6);
	assert_true(offered & NET_F_GUEST_TSO4);
	assert_true(offered & NET_F_MQ);
	assert_int_equal(offered & NET_F_GUEST_UFO, 0);
	assert_int_equal(vdriver_read(&able->driver, VREGION_DEVICE, 8, 2), 2);
	assert_int_equal(vdriver_read(&able->driver, VREGION_DEVICE, 10, 2), 1500);
	assert_int_equal(link_status(able), STATUS_LINK_UP);
	unplug(plain);
	unplug(able);
}

static void features_without_what_they_need_are_refused(void **state)
{
	static const uint64_t lonely[] = { NET_F_GUEST_TSO4, NET_F_HOST_TSO6,
					   NET_F_GUEST_CSUM | NET_F_GUEST_ECN, NET_F_MQ,
					   NET_F_CTRL_MAC_ADDR };
	struct fixture *f = plug(2, OFFLOADS);

	(void)state;
	assert_int_equal(vdriver_find(f->machine, VIRTIO_ID_NET, &f->driver), 0);
	for (size_t i = 0; i < ARRAY_SIZE(lonely); i++) {
		assert_int_equal(vdriver_reset(&f->driver), 0);
		assert_int_equal(vdriver_negotiate(&f->driver, lonely[i]), -ENOTSUP);
	}
	unplug(f);
}

static uint32_t wait_offloads(struct fixture *f, uint32_t wanted)
{
	for (int i = 0; i < WAIT_MS && net_pair_offloads(vn_of(f)->net) != wanted; i++)
		usleep(1000);
	return net_pair_offloads(vn_of(f)->net);
}

static void offloads_follow_driver_and_command(void **state)
{
	struct fixture *f = plug(1, OFFLOADS);
	uint8_t set[10] = { 5, 0 };

	(void)state;
	drive(f, ALL_FEATURES & ~NET_F_GUEST_TSO6);
	assert_int_equal(wait_offloads(f, OFFLOADS & ~NET_OFFLOAD_TSO6),
			 OFFLOADS & ~NET_OFFLOAD_TSO6);
	le_store(set + 2, 8, NET_F_GUEST_CSUM);
	assert_int_equal(command(f, CONTROL1, set, 10), 0);
	assert_int_equal(net_pair_offloads(vn_of(f)->net), NET_OFFLOAD_CSUM);
	le_store(set + 2, 8, NET_F_GUEST_CSUM | NET_F_GUEST_TSO6); /* was not negotiated */
	assert_int_equal(command(f, CONTROL1, set, 10), 1);
	le_store(set + 2, 8, NET_F_GUEST_TSO4); /* without checksums */
	assert_int_equal(command(f, CONTROL1, set, 10), 1);
	le_store(set + 2, 8, 0);
	assert_int_equal(command(f, CONTROL1, set, 10), 0);
	assert_int_equal(net_pair_offloads(vn_of(f)->net), 0);
	unplug(f);
}

static void bad_commands_are_refused(void **state)
{
	static const struct {
		uint8_t bytes[12];
		uint32_t len;
	} bad[] = {
		{ { 0, 0, 1 }, 3 },		      /* receive modes: not offered */
		{ { 99, 0 }, 2 },		      /* no such class */
		{ { 1, 1, 1, 2, 3 }, 5 },	      /* a short MAC address */
		{ { 1, 1, 1, 2, 3, 4, 5, 6, 7 }, 9 }, /* a long one */
		{ { 4, 0, 0, 0 }, 4 },		      /* no pairs */
		{ { 4, 0, 3, 0 }, 4 },		      /* more than there are */
		{ { 4, 0 }, 2 },		      /* no number */
	};
	struct fixture *f = plug(2, 0);

	(void)state;
	drive(f, ALL_FEATURES);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(command(f, CONTROL2, bad[i].bytes, bad[i].len), 1);
	assert_int_equal(vdriver_status(&f->driver) & VSTATUS_NEEDS_RESET, 0);
	unplug(f);
}

static void command_without_room_breaks_the_device(void **state)
{
	struct fixture *f = plug(1, 0);
	struct vbuffer buffer;

	(void)state;
	drive(f, ALL_FEATURES);
	buffer = (struct vbuffer){ vmachine_alloc(f->machine, 8, 8), 8, false };
	assert_true(vqueue_add(&f->queues[CONTROL1], &buffer, 1) >= 0);
	vqueue_kick(&f->queues[CONTROL1]);
	assert_true(wait_status(f, VSTATUS_NEEDS_RESET));
	unplug(f);
}

static void mac_address_lasts_until_reset(void **state)
{
	static const uint8_t set[8] = { 1, 1, 0xaa, 0xbb, 0xcc, 1, 2, 3 };
	struct fixture *f = plug(1, 0);
	uint8_t now[6];

	(void)state;
	drive(f, ALL_FEATURES);
	virtio_net_mac(f->device, now);
	assert_memory_equal(now, mac, 6);
	assert_int_equal(command(f, CONTROL1, set, 8), 0);
	virtio_net_mac(f->device, now);
	assert_memory_equal(now, set + 2, 6);
	drive(f, ALL_FEATURES);
	virtio_net_mac(f->device, now);
	assert_memory_equal(now, mac, 6);
	unplug(f);
}

static void announcement_is_asked_for_and_acknowledged(void **state)
{
	static const uint8_t ack[2] = { 3, 0 };
	struct fixture *f = plug(1, 0);
	uint32_t before;

	(void)state;
	assert_int_equal(virtio_net_announce(f->device), -EOPNOTSUPP);
	drive(f, ALL_FEATURES);
	before = vmachine_interrupts(f->machine, 0);
	assert_int_equal(virtio_net_announce(f->device), 0);
	assert_int_equal(link_status(f), STATUS_LINK_UP | STATUS_ANNOUNCE);
	assert_true(vmachine_interrupts(f->machine, 0) > before);
	assert_int_equal(command(f, CONTROL1, ack, 2), 0);
	assert_int_equal(link_status(f), STATUS_LINK_UP);
	unplug(f);
}

/* The frame behind its header, by RFC 826 and 903. */
static void arrival_frame_is_a_reverse_arp(void **state)
{
	static const uint8_t frame[] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff,		/* to all */
		0x52, 0x54, 0,	  1,	2,    3,		/* from the guest */
		0x80, 0x35,					/* RARP */
		0,    1,    8,	  0,	6,    4,		/* Ethernet, IPv4, their lengths */
		0,    3,					/* request */
		0x52, 0x54, 0,	  1,	2,    3,    0, 0, 0, 0, /* who asks */
		0x52, 0x54, 0,	  1,	2,    3,    0, 0, 0, 0, /* about whom */
	};
	uint8_t made[RARP_FRAME_SIZE], rest[RARP_FRAME_SIZE] = { 0 };

	(void)state;
	rarp_make(mac, made);
	assert_memory_equal(made, rest, NET_HEADER_SIZE);
	assert_memory_equal(made + NET_HEADER_SIZE, frame, sizeof(frame));
	assert_memory_equal(made + NET_HEADER_SIZE + sizeof(frame), rest, 18);
}

/* By its worker's own thread, which stands at the barrier all the while. */
static void arrival_is_told_before_the_vm_runs(void **state)
{
	struct fixture *f = plug(1, 0);
	uint8_t fill = 0;

	(void)state;
	quiesce_begin(&f->machine->quiesce);
	virtio_net_arriving(f->device, &f->machine->quiesce);
	assert_int_equal(probe_receive(&f->wire[0], &fill), RARP_FRAME_SIZE);
	assert_int_equal(probe_receive(&f->wire[0], &fill), 0);
	quiesce_end(&f->machine->quiesce);
	unplug(f);
}

/* Whatever the guest's driver can: here there is none. */
static void arrival_is_told_to_the_switches(void **state)
{
	static const unsigned int gaps_ms[] = { 50, 150, 250, 350, 450 };
	struct fake_clock clock;
	struct fixture *f;
	uint8_t fill = 0;

	(void)state;
	fake_clock_init(&clock, NSEC_PER_SEC, 0);
	f = plug_with_clock(1, 0, &clock.clock);
	virtio_net_arrived(f->device);
	assert_int_equal(wire_wait(f, 0, &fill), RARP_FRAME_SIZE);
	assert_int_equal(fill, 0xff);
	for (size_t i = 0; i < ARRAY_SIZE(gaps_ms); i++) {
		fake_clock_advance(&clock, gaps_ms[i] * NSEC_PER_MSEC - 1);
		usleep(20000); /* its worker looks, and finds nothing due */
		assert_int_equal(probe_receive(&f->wire[0], &fill), 0);
		fake_clock_advance(&clock, 1);
		assert_int_equal(wire_wait(f, 0, &fill), RARP_FRAME_SIZE);
	}
	fake_clock_advance(&clock, 10 * NSEC_PER_SEC);
	usleep(20000);
	assert_int_equal(probe_receive(&f->wire[0], &fill), 0);
	/* It may move once more. */
	virtio_net_arrived(f->device);
	assert_int_equal(wire_wait(f, 0, &fill), RARP_FRAME_SIZE);
	unplug(f);
}

static void vanished_net_takes_the_link_down(void **state)
{
	struct fixture *f = plug(1, 0);

	(void)state;
	drive(f, ALL_FEATURES);
	post(f, RX0, 1600);
	vqueue_kick(&f->queues[RX0]);
	unplug_peer(f);
	for (int i = 0; i < WAIT_MS && link_status(f) & STATUS_LINK_UP; i++)
		usleep(1000);
	assert_int_equal(link_status(f), 0);
	assert_true(wait_for_count(&f->machine->interrupts[0], 1, WAIT_MS));
	send_plain(f, TX0, 1, 64); /* lost, as without a cable */
	take(f, TX0);
	unplug(f);
}

/* ---- several queue pairs ---- */

static void second_pair_works_once_asked_for(void **state)
{
	static const uint8_t two[4] = { 4, 0, 2, 0 }, one[4] = { 4, 0, 1, 0 };
	struct fixture *f = plug(2, 0);
	uint8_t fill = 0;
	uint64_t at;

	(void)state;
	drive(f, ALL_FEATURES);
	at = post(f, RX1, 1600);
	vqueue_kick(&f->queues[RX1]);
	post(f, RX0, 1600);
	vqueue_kick(&f->queues[RX0]);
	assert_int_equal(probe_send(&f->wire[0], 1, 100), 0);
	take(f, RX0);
	assert_int_equal(probe_send(&f->wire[1], 1, 100), 0); /* not in use: lost */
	assert_int_equal(vqueue_wait(&f->queues[RX1], 20, NULL, NULL), 0);
	assert_int_equal(command(f, CONTROL2, two, 4), 0);
	assert_int_equal(probe_send(&f->wire[1], 2, 101), 0);
	assert_int_equal(take(f, RX1), 101);
	assert_int_equal(byte_at(f, at + NET_HEADER_SIZE), 2);
	send_plain(f, TX1, 3, 64);
	assert_int_equal(wire_wait(f, 1, &fill), 64 + NET_HEADER_SIZE);
	assert_int_equal(fill, 3);
	post(f, RX1, 1600);
	vqueue_kick(&f->queues[RX1]);
	assert_int_equal(command(f, CONTROL2, one, 4), 0);
	assert_int_equal(probe_send(&f->wire[1], 2, 101), 0);
	assert_int_equal(vqueue_wait(&f->queues[RX1], 20, NULL, NULL), 0);
	unplug(f);
}

static void driver_of_one_pair_finds_its_control_queue(void **state)
{
	static const uint8_t set[8] = { 1, 1, 0xaa, 0xbb, 0xcc, 1, 2, 3 };
	struct fixture *f = plug(2, 0);
	uint8_t fill;

	(void)state;
	drive(f, ALL_FEATURES & ~NET_F_MQ);
	assert_int_equal(command(f, 2, set, 8), 0);
	send_plain(f, TX0, 5, 64);
	assert_int_equal(wire_wait(f, 0, &fill), 64 + NET_HEADER_SIZE);
	unplug(f);
}

static void reset_returns_to_one_pair(void **state)
{
	static const uint8_t two[4] = { 4, 0, 2, 0 };
	struct fixture *f = plug(2, 0);

	(void)state;
	drive(f, ALL_FEATURES);
	assert_int_equal(command(f, CONTROL2, two, 4), 0);
	assert_int_equal(vdriver_reset(&f->driver), 0);
	for (int i = 0; i < 100; i++) /* the second queue of the net is out of use again */
		assert_int_equal(probe_send(&f->wire[1], 1, 100), 0);
	unplug(f);
}

static void reset_in_the_midst_of_traffic(void **state)
{
	struct fixture *f = plug(1, 0);

	(void)state;
	for (int round = 0; round < 20; round++) {
		drive(f, ALL_FEATURES);
		for (int i = 0; i < 8; i++)
			post(f, RX0, 400);
		vqueue_kick(&f->queues[RX0]);
		for (int i = 0; i < 32; i++) {
			send_plain(f, TX0, 1, 64);
			probe_send(&f->wire[0], 2, 900);
		}
		assert_int_equal(vdriver_reset(&f->driver), 0);
		f->machine->heap = KIB(64);
	}
	unplug(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(features_follow_the_net),
		cmocka_unit_test(features_without_what_they_need_are_refused),
		cmocka_unit_test(offloads_follow_driver_and_command),
		cmocka_unit_test(bad_commands_are_refused),
		cmocka_unit_test(command_without_room_breaks_the_device),
		cmocka_unit_test(mac_address_lasts_until_reset),
		cmocka_unit_test(announcement_is_asked_for_and_acknowledged),
		cmocka_unit_test(arrival_frame_is_a_reverse_arp),
		cmocka_unit_test(arrival_is_told_before_the_vm_runs),
		cmocka_unit_test(arrival_is_told_to_the_switches),
		cmocka_unit_test(vanished_net_takes_the_link_down),
		cmocka_unit_test(second_pair_works_once_asked_for),
		cmocka_unit_test(driver_of_one_pair_finds_its_control_queue),
		cmocka_unit_test(reset_returns_to_one_pair),
		cmocka_unit_test(reset_in_the_midst_of_traffic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
