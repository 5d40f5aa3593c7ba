/* SPDX-License-Identifier: Apache-2.0 */
/* The network device moves while it works. */
#include "virtio_net_rig.h"

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
	quiesce_begin(&a->machine->quiesce);
	quiesce_begin(&b->machine->quiesce);
	assert_int_equal(vdevice_save(a->machine, a->device, &saved), 0);
	assert_true(vn_of(a)->state.virtio.queues[RX0].n_inflight > 0);
	vmachine_copy_memory(b->machine, a->machine);
	assert_int_equal(vdevice_load(b->machine, b->device, &saved, &err), 0);
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

static int load_from(struct fixture *from, struct fixture *to, struct error *err)
{
	struct buffer saved;
	int r;

	*err = (struct error){ 0 };
	buffer_init(&saved, LIMIT_STATE_SECTION);
	quiesce_begin(&from->machine->quiesce);
	quiesce_begin(&to->machine->quiesce);
	assert_int_equal(vdevice_save(from->machine, from->device, &saved), 0);
	vmachine_copy_memory(to->machine, from->machine);
	r = vdevice_load(to->machine, to->device, &saved, err);
	quiesce_end(&to->machine->quiesce);
	quiesce_end(&from->machine->quiesce);
	buffer_release(&saved);
	return r;
}

static void offloads_in_use_must_be_there(void **state)
{
	struct fixture *a = plug(1, OFFLOADS), *less = plug(1, NET_OFFLOAD_CSUM),
		       *none = plug(1, 0);
	struct error err;

	(void)state;
	drive(a, ALL_FEATURES & ~(NET_F_HOST_TSO6 | NET_F_HOST_ECN | NET_F_GUEST_ECN));
	assert_int_equal(load_from(a, less, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.message,
			       "virtio-net.0: the guest uses guest TSO, guest TSO of IPv6, "
			       "TSO, which the device at the destination does not offer"));
	assert_non_null(strstr(err.message, "connect it alike on both hosts"));
	drive(a, NET_F_CSUM | VIRTIO_F_VERSION_1);
	assert_int_equal(load_from(a, none, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.message, "checksums by the device"));
	assert_int_equal(load_from(a, less, &err), 0);
	assert_int_equal(load_from(less, a, &err), 0);
	unplug(a);
	unplug(less);
	unplug(none);
}

/* As a guest has it that boots again: between the reset and what its driver says then. */
static void reset_device_moves(void **state)
{
	static const uint8_t two[4] = { 4, 0, 2, 0 };
	struct fixture *a = plug(2, OFFLOADS), *b = plug(2, OFFLOADS);
	struct error err;

	(void)state;
	drive(a, ALL_FEATURES);
	assert_int_equal(command(a, CONTROL2, two, 4), 0);
	assert_int_equal(vdriver_reset(&a->driver), 0);
	if (load_from(a, b, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(vn_of(b)->state.guest_offloads, 0);
	assert_int_equal(vn_of(b)->state.pairs, 1);
	unplug(a);
	unplug(b);
}

static void frames_of_the_guests_mtu_must_fit(void **state)
{
	struct fixture *a = plug(1, 0), *b = plug(1, 0);
	struct error err;

	(void)state;
	drive(a, ALL_FEATURES);
	vn_of(b)->net->mtu = 1400;
	assert_int_equal(load_from(a, b, &err), -EINVAL);
	assert_non_null(
		strstr(err.message, "packets of 1500 bytes, at the destination it takes 1400"));
	vn_of(b)->net->mtu = 9000;
	assert_int_equal(load_from(a, b, &err), 0);
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
		cmocka_unit_test(busy_device_moves),
		cmocka_unit_test(offloads_in_use_must_be_there),
		cmocka_unit_test(reset_device_moves),
		cmocka_unit_test(frames_of_the_guests_mtu_must_fit),
		cmocka_unit_test(absurd_states_are_refused),
		cmocka_unit_test(transmit_in_flight_is_sent_after_load),
		cmocka_unit_test(vhost_needs_a_tap_and_one_pair),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
