/* SPDX-License-Identifier: Apache-2.0 */
/* The network device, driven from both sides: a driver in guest memory and the other end of a cable. */
#include "net_probe.h"

#include <errno.h>
#include <unistd.h>

#include "net/pair.h"
#include "virtio/net_internal.h"
#include "virtio_driver.h"

#define RAM MIB(16)
#define WAIT_MS 5000
#define OFFLOADS (NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN)
#define ALL_FEATURES (~(NET_F_GUEST_UFO | NET_F_HOST_UFO))
#define NO_MERGE (ALL_FEATURES & ~NET_F_MRG_RXBUF)

enum { RX0, TX0, CONTROL1 = 2, RX1 = 2, TX1 = 3, CONTROL2 = 4 };

struct fixture {
	struct vmachine *machine;
	struct device *device;
	struct net *peer;
	struct probe wire[2]; /* the peer's queues */
	unsigned int pairs;
	struct vdriver driver;
	struct vqueue queues[5];
};

static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

static struct fixture *plug(unsigned int pairs, uint32_t offloads)
{
	struct net_pair_params cable = { .queue_pairs = pairs, .offloads = offloads, .mtu = 1500 };
	struct virtio_net_params params = { .vhost_fd = -1, .tap_fd = -1 };
	struct fixture *f = calloc(1, sizeof(*f));

	f->machine = vmachine_new(RAM, NULL);
	assert_non_null(f->machine);
	assert_int_equal(net_pair_new(&cable, &params.net, &f->peer), 0);
	memcpy(params.mac, mac, 6);
	assert_int_equal(virtio_net_new(&f->machine->host, &params, &f->device, NULL), 0);
	assert_int_equal(vdevice_start(f->device), 0);
	f->pairs = pairs;
	for (unsigned int i = 0; i < pairs; i++)
		probe_open(&f->wire[i], f->peer, i, &clock_host);
	return f;
}

static void drive(struct fixture *f, uint64_t features)
{
	assert_int_equal(vdriver_setup(f->machine, VIRTIO_ID_NET, features, &f->driver, f->queues,
				       2 * f->pairs + 1),
			 0);
}

static void unplug_peer(struct fixture *f)
{
	for (unsigned int i = 0; f->peer && i < f->pairs; i++)
		probe_close(&f->wire[i]);
	net_free(f->peer);
	f->peer = NULL;
}

static void unplug(struct fixture *f)
{
	vdevice_destroy(f->device);
	unplug_peer(f);
	vmachine_free(f->machine);
	free(f);
}

static struct virtio_net *vn_of(struct fixture *f)
{
	return virtio_net_of(container_of(f->device, struct virtio_device, device));
}

/* ---- the driver's side ---- */

/* Makes a receive buffer of `len` bytes available: its guest address. */
static uint64_t post(struct fixture *f, unsigned int queue, uint32_t len)
{
	struct vbuffer buffer = { vmachine_alloc(f->machine, len, 16), len, true };

	memset(vmachine_at(f->machine, buffer.address, len), 0xee, len);
	assert_true(vqueue_add(&f->queues[queue], &buffer, 1) >= 0);
	return buffer.address;
}

static void send_with(struct fixture *f, unsigned int queue, const struct net_header *header,
		      uint8_t fill, uint32_t len)
{
	uint64_t at = vmachine_alloc(f->machine, sizeof(*header) + len, 16);
	struct vbuffer buffers[2] = { { at, sizeof(*header), false },
				      { at + sizeof(*header), len, false } };
	uint8_t *bytes = vmachine_at(f->machine, at, sizeof(*header) + len);

	memcpy(bytes, header, sizeof(*header));
	memset(bytes + sizeof(*header), fill, len);
	assert_true(vqueue_add(&f->queues[queue], buffers, 2) >= 0);
	vqueue_kick(&f->queues[queue]);
}

static void send_plain(struct fixture *f, unsigned int queue, uint8_t fill, uint32_t len)
{
	struct net_header header = { 0 };

	send_with(f, queue, &header, fill, len);
}

static uint32_t take(struct fixture *f, unsigned int queue)
{
	uint32_t len = 0;

	assert_int_equal(vqueue_wait(&f->queues[queue], WAIT_MS, NULL, &len), 1);
	return len;
}

static struct net_header header_at(struct fixture *f, uint64_t address)
{
	struct net_header header;

	memcpy(&header, vmachine_at(f->machine, address, sizeof(header)), sizeof(header));
	return header;
}

static uint8_t byte_at(struct fixture *f, uint64_t address)
{
	return *(uint8_t *)vmachine_at(f->machine, address, 1);
}

/* The acknowledgement of a command; 0xff: none came. */
static uint8_t command(struct fixture *f, unsigned int queue, const void *bytes, uint32_t len)
{
	uint64_t at = vmachine_alloc(f->machine, len + 1, 16);
	struct vbuffer buffers[2] = { { at, len, false }, { at + len, 1, true } };

	memcpy(vmachine_at(f->machine, at, len), bytes, len);
	*(uint8_t *)vmachine_at(f->machine, at + len, 1) = 0xff;
	assert_true(vqueue_add(&f->queues[queue], buffers, 2) >= 0);
	vqueue_kick(&f->queues[queue]);
	if (!vqueue_wait(&f->queues[queue], 1000, NULL, NULL))
		return 0xff;
	return byte_at(f, at + len);
}

static bool wait_status(struct fixture *f, uint8_t bit)
{
	for (int i = 0; i < WAIT_MS; i++) {
		if (vdriver_status(&f->driver) & bit)
			return true;
		usleep(1000);
	}
	return false;
}

static uint16_t link_status(struct fixture *f)
{
	return (uint16_t)vdriver_read(&f->driver, VREGION_DEVICE, 6, 2);
}

/* ---- the wire's side ---- */

static ssize_t wire_wait(struct fixture *f, unsigned int queue, uint8_t *ret_fill)
{
	for (int i = 0; i < WAIT_MS; i++) {
		ssize_t n = probe_receive(&f->wire[queue], ret_fill);

		if (n)
			return n;
		usleep(1000);
	}
	return 0;
}

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
	assert_true(vmachine_interrupts(f->machine, TX0 + 1) > 0);
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
	assert_true(vmachine_interrupts(f->machine, RX0 + 1) > 0);
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
	assert_true(vmachine_interrupts(f->machine, 0) > 0);
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

/* ---- state ---- */

/* Chains wait for frames, frames wait for the wire, a frame waits for buffers: all of it moves. */
static void busy_device_moves(void **state)
{
	static const uint8_t two[4] = { 4, 0, 2, 0 };
	struct fixture *a = plug(2, OFFLOADS), *b = plug(2, OFFLOADS);
	unsigned int total = NET_PAIR_FRAMES + 5;
	struct buffer saved;
	struct error err = { 0 };
	uint64_t at[3];
	uint8_t fill;

	(void)state;
	drive(a, ALL_FEATURES);
	assert_int_equal(command(a, CONTROL2, two, 4), 0);
	for (int i = 0; i < 3; i++)
		at[i] = post(a, RX0, 1600);
	vqueue_kick(&a->queues[RX0]);
	assert_int_equal(probe_send(&a->wire[0], 1, 100), 0);
	take(a, RX0);
	for (unsigned int i = 0; i < total; i++)
		send_plain(a, TX0, (uint8_t)i, 64);
	for (unsigned int i = 0; i < NET_PAIR_FRAMES; i++)
		take(a, TX0);
	assert_int_equal(virtio_net_announce(a->device), 0);

	buffer_init(&saved, LIMIT_STATE_SECTION);
	assert_int_equal(vdevice_save(a->machine, a->device, &saved), 0);
	assert_true(vn_of(a)->state.virtio.queues[RX0].n_inflight > 0);
	vmachine_copy_memory(b->machine, a->machine);
	quiesce_begin(&b->machine->quiesce);
	assert_int_equal(vdevice_load(b->machine, b->device, &saved, &err), 0);
	quiesce_begin(&a->machine->quiesce);
	assert_null(state_compare(a->device->table, a->device->state, b->device->state));
	quiesce_end(&a->machine->quiesce);
	quiesce_end(&b->machine->quiesce);
	buffer_release(&saved);

	/* The driver goes on at the other machine. */
	b->driver = a->driver;
	b->driver.machine = b->machine;
	memcpy(b->queues, a->queues, sizeof(b->queues));
	for (int i = 0; i < 5; i++)
		b->queues[i].driver = &b->driver;
	for (unsigned int i = NET_PAIR_FRAMES; i < total; i++) {
		assert_int_equal(wire_wait(b, 0, &fill), 64 + NET_HEADER_SIZE);
		assert_int_equal(fill, (uint8_t)i);
		take(b, TX0);
	}
	assert_int_equal(probe_send(&b->wire[0], 9, 300), 0);
	assert_int_equal(take(b, RX0), 300);
	assert_int_equal(byte_at(b, at[1] + NET_HEADER_SIZE), 9);
	post(b, RX1, 1600);
	vqueue_kick(&b->queues[RX1]);
	assert_int_equal(probe_send(&b->wire[1], 7, 200), 0);
	assert_int_equal(take(b, RX1), 200);
	assert_int_equal(link_status(b), STATUS_LINK_UP | STATUS_ANNOUNCE);
	assert_int_equal(net_pair_offloads(vn_of(b)->net), OFFLOADS);
	unplug(a);
	unplug(b);
}

static void absurd_states_are_refused(void **state)
{
	struct fixture *f = plug(2, OFFLOADS);
	struct virtio_net *vn = vn_of(f);
	struct error err = { 0 };
	struct buffer saved;

	(void)state;
	drive(f, ALL_FEATURES & ~NET_F_GUEST_TSO4);
	for (int i = 0; i < 3; i++) {
		struct virtio_net_state copy = vn->state;

		copy.pairs = i == 0 ? 0 : i == 1 ? 3 : 2;
		copy.guest_offloads = i == 2 ? NET_F_GUEST_TSO4 : copy.guest_offloads;
		buffer_init(&saved, LIMIT_STATE_SECTION);
		assert_int_equal(state_save(&saved, f->device->table, "virtio-net.0", &copy), 0);
		err.code = 0;
		assert_int_equal(vdevice_load(f->machine, f->device, &saved, &err), -EBADMSG);
		buffer_release(&saved);
	}
	unplug(f);
}

/* A transmit chain that a stream claims to be in flight is sent; one that cannot be needs a reset. */
static void transmit_in_flight_is_sent_after_load(void **state)
{
	struct fixture *f = plug(1, 0);
	struct buffer saved;
	uint8_t fill = 0;

	(void)state;
	drive(f, ALL_FEATURES);
	send_plain(f, TX0, 0x11, 64);
	assert_int_equal(wire_wait(f, 0, &fill), 76);
	take(f, TX0);
	buffer_init(&saved, LIMIT_STATE_SECTION);
	quiesce_begin(&f->machine->quiesce);
	vn_of(f)->state.virtio.queues[TX0].inflight[0] =
		f->queues[TX0].free[f->queues[TX0].n_free - 1];
	vn_of(f)->state.virtio.queues[TX0].n_inflight = 1;
	assert_int_equal(state_save(&saved, f->device->table, "virtio-net.0", f->device->state), 0);
	assert_int_equal(vdevice_load(f->machine, f->device, &saved, NULL), 0);
	quiesce_end(&f->machine->quiesce);
	fill = 0;
	assert_int_equal(wire_wait(f, 0, &fill), 76);
	assert_int_equal(fill, 0x11);
	buffer_release(&saved);
	unplug(f);
}

static void vhost_needs_a_tap_and_one_pair(void **state)
{
	struct vmachine *machine = vmachine_new(RAM, NULL);

	(void)state;
	for (unsigned int pairs = 1; pairs <= 2; pairs++) {
		struct net_pair_params cable = { .queue_pairs = pairs };
		struct virtio_net_params params = { .vhost_fd = 1000, .tap_fd = -1 };
		struct error err = { 0 };
		struct device *device;
		struct net *peer;

		assert_int_equal(net_pair_new(&cable, &params.net, &peer), 0);
		assert_int_equal(virtio_net_new(&machine->host, &params, &device, &err),
				 -EOPNOTSUPP);
		assert_non_null(strstr(err.message, pairs == 1 ? "tap" : "queues=1"));
		net_free(params.net);
		net_free(peer);
	}
	vmachine_free(machine);
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
		cmocka_unit_test(features_follow_the_net),
		cmocka_unit_test(features_without_what_they_need_are_refused),
		cmocka_unit_test(offloads_follow_driver_and_command),
		cmocka_unit_test(bad_commands_are_refused),
		cmocka_unit_test(command_without_room_breaks_the_device),
		cmocka_unit_test(mac_address_lasts_until_reset),
		cmocka_unit_test(announcement_is_asked_for_and_acknowledged),
		cmocka_unit_test(vanished_net_takes_the_link_down),
		cmocka_unit_test(second_pair_works_once_asked_for),
		cmocka_unit_test(driver_of_one_pair_finds_its_control_queue),
		cmocka_unit_test(reset_returns_to_one_pair),
		cmocka_unit_test(reset_in_the_midst_of_traffic),
		cmocka_unit_test(busy_device_moves),
		cmocka_unit_test(absurd_states_are_refused),
		cmocka_unit_test(transmit_in_flight_is_sent_after_load),
		cmocka_unit_test(vhost_needs_a_tap_and_one_pair),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
