/* SPDX-License-Identifier: Apache-2.0 */
/* Frames by the kernel's vhost-net, over a tap of a network namespace of our own: needs root and both
 * devices, is skipped otherwise. */
#include "virtio_net_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "net/tap.h"
#include "net/vhost.h"

#define PROTOCOL 0x88b5 /* for local experiments, IEEE 802 */
#define FRAME 80
#define ROUNDS 300 /* more than the rings hold */

static struct fixture *plug_tap(void)
{
	struct virtio_net_params params = { .vhost_fd = -1 };
	struct fixture *f = calloc(1, sizeof(*f));
	struct error err = { 0 };

	f->machine = vmachine_new(RAM, NULL);
	f->pairs = 1;
	assert_int_equal(tap_open("uvhost0", 1, &params.net, &err), 0);
	params.tap_fd = tap_queue_fd(params.net, 0);
	assert_int_equal(vhost_open(&params.vhost_fd, &err), 0);
	assert_int_equal(virtio_net_new(&f->machine->host, &params, &f->device, &err), 0);
	assert_int_equal(vdevice_start(f->device), 0);
	return f;
}

static int wire_open(void)
{
	struct sockaddr_ll address = { .sll_family = AF_PACKET,
				       .sll_protocol = htons(PROTOCOL),
				       .sll_ifindex = (int)if_nametoindex("uvhost0") };
	struct timeval limit = { .tv_sec = 5 };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(PROTOCOL));

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
	return fd;
}

static void fill_frame(uint8_t frame[FRAME], uint8_t fill)
{
	memset(frame, fill, FRAME);
	memset(frame, 0xff, 6);
	frame[6] = 0x52;
	frame[12] = PROTOCOL >> 8;
	frame[13] = PROTOCOL & 0xff;
}

/* Sends one frame of the guest and sees it at the tap. */
static void out(struct fixture *f, int wire, uint8_t fill)
{
	uint64_t at = vmachine_alloc(f->machine, NET_HEADER_SIZE + FRAME, 16);
	struct vbuffer buffer = { at, NET_HEADER_SIZE + FRAME, false };
	uint8_t got[FRAME + 1];

	fill_frame((uint8_t *)vmachine_at(f->machine, at, NET_HEADER_SIZE + FRAME) +
			   NET_HEADER_SIZE,
		   fill);
	assert_true(vqueue_add(&f->queues[TX0], &buffer, 1) >= 0);
	vqueue_kick(&f->queues[TX0]);
	take(f, TX0);
	assert_int_equal(recv(wire, got, sizeof(got), 0), FRAME);
	assert_int_equal(got[FRAME - 1], fill);
}

/* Sends one frame to the guest and sees it in its buffer; the kernel's own multicasts pass by. */
static void in(struct fixture *f, int wire, uint8_t fill)
{
	uint8_t frame[FRAME];

	fill_frame(frame, fill);
	assert_int_equal(send(wire, frame, FRAME, 0), FRAME);
	for (int i = 0; i < 20; i++) {
		uint64_t at = post(f, RX0, 2048);

		vqueue_kick(&f->queues[RX0]);
		take(f, RX0);
		if (byte_at(f, at + NET_HEADER_SIZE + 12) == PROTOCOL >> 8) {
			assert_int_equal(byte_at(f, at + NET_HEADER_SIZE + FRAME - 1), fill);
			return;
		}
	}
	fail_msg("frame %u did not arrive", fill);
}

static void kernel_moves_frames_both_ways(void **state)
{
	struct fixture *f = plug_tap();
	int wire = wire_open();

	(void)state;
	drive(f, ALL_FEATURES);
	for (int i = 0; i < ROUNDS; i++) {
		out(f, wire, (uint8_t)i);
		in(f, wire, (uint8_t)i);
	}
	assert_true(wait_for_count(&f->machine->interrupts[TX0 + 1], 1, WAIT_MS));
	assert_true(wait_for_count(&f->machine->interrupts[RX0 + 1], 1, WAIT_MS));
	unplug(f);
	fd_close(wire);
}

static void stopped_queue_has_an_exact_state(void **state)
{
	struct fixture *f = plug_tap();
	int wire = wire_open();
	const struct virtio_queue_state *tx = &vn_of(f)->state.virtio.queues[TX0];

	(void)state;
	drive(f, ALL_FEATURES);
	for (int i = 0; i < ROUNDS; i++)
		out(f, wire, (uint8_t)i);
	f->device->ops->stop(f->device);
	assert_int_equal(tx->next_avail, ROUNDS);
	assert_int_equal(tx->next_used, ROUNDS);
	assert_int_equal(tx->n_inflight, 0);
	f->device->ops->destroy(f->device);
	vmachine_free(f->machine);
	free(f);
	fd_close(wire);
}

/* Inside the barrier the kernel writes nothing and the state is exact; afterwards frames go on. */
static void barrier_stops_the_kernel(void **state)
{
	struct fixture *f = plug_tap();
	int wire = wire_open();
	const struct virtio_queue_state *queues = vn_of(f)->state.virtio.queues;
	uint16_t used;

	(void)state;
	drive(f, ALL_FEATURES);
	for (int i = 0; i < 3; i++) {
		uint8_t frame[FRAME];
		uint64_t at;

		out(f, wire, (uint8_t)i);
		in(f, wire, (uint8_t)i);
		at = post(f, RX0, 2048);
		vqueue_kick(&f->queues[RX0]);
		quiesce_begin(&f->machine->quiesce);
		assert_int_equal(queues[TX0].next_avail, i + 1);
		used = queues[RX0].next_used;
		fill_frame(frame, 0x5a);
		assert_int_equal(send(wire, frame, FRAME, 0), FRAME);
		usleep(20000);
		assert_int_equal(vqueue_get(&f->queues[RX0], NULL, NULL), 0);
		assert_int_equal(queues[RX0].next_used, used);
		quiesce_end(&f->machine->quiesce);
		take(f, RX0);
		assert_int_equal(byte_at(f, at + NET_HEADER_SIZE + FRAME - 1), 0x5a);
	}
	unplug(f);
	fd_close(wire);
}

/* A load ends the rings' old life at the kernel and begins a new one where the stream says. */
static void saved_rings_go_on_after_a_load(void **state)
{
	struct fixture *f = plug_tap();
	int wire = wire_open();
	struct buffer saved;
	struct error err = { 0 };

	(void)state;
	drive(f, ALL_FEATURES);
	for (int i = 0; i < 10; i++)
		out(f, wire, (uint8_t)i);
	buffer_init(&saved, LIMIT_STATE_SECTION);
	assert_int_equal(vdevice_save(f->machine, f->device, &saved), 0);
	assert_int_equal(vdevice_load(f->machine, f->device, &saved, &err), 0);
	buffer_release(&saved);
	for (int i = 0; i < 10; i++) {
		out(f, wire, (uint8_t)i);
		in(f, wire, (uint8_t)i);
	}
	unplug(f);
	fd_close(wire);
}

static void reset_takes_the_rings_back(void **state)
{
	struct fixture *f = plug_tap();
	int wire = wire_open();

	(void)state;
	for (int round = 0; round < 5; round++) {
		drive(f, ALL_FEATURES);
		post(f, RX0, 2048);
		out(f, wire, (uint8_t)round);
		assert_int_equal(vdriver_reset(&f->driver), 0);
		f->machine->heap = KIB(64);
	}
	unplug(f);
	fd_close(wire);
}

/* The kernel's own frames on a new interface would come between ours. */
static void quiet_ipv6(void)
{
	int fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);

	if (fd >= 0)
		(void)!write(fd, "1", 1);
	fd_close(fd);
}

/* A namespace of our own: nothing here can reach or disturb the host's network. */
static int own_namespace(void **state)
{
	(void)state;
	if (geteuid() != 0 || access("/dev/vhost-net", R_OK | W_OK) < 0 ||
	    access("/dev/net/tun", R_OK | W_OK) < 0 || unshare(CLONE_NEWNET) < 0) {
		print_message("skipped: needs root, /dev/net/tun and /dev/vhost-net\n");
		exit(77);
	}
	quiet_ipv6();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(kernel_moves_frames_both_ways),
		cmocka_unit_test(stopped_queue_has_an_exact_state),
		cmocka_unit_test(barrier_stops_the_kernel),
		cmocka_unit_test(saved_rings_go_on_after_a_load),
		cmocka_unit_test(reset_takes_the_rings_back),
	};

	return cmocka_run_group_tests(tests, own_namespace, NULL);
}
