/* SPDX-License-Identifier: Apache-2.0 */

/* A guest's network device whose output is held: what finds no room stays in the guest's ring, and counts to the epoch in which it is taken. */

#include "virtio_net_rig.h"

#include "net/filters/hold.h"

#define LEN 10000 /* of a frame without its header */
#define FIT 6	  /* as many of them are held */
#define FRAMES 10

struct held {
	struct hold hold;
	struct net *net; /* the device's */
	struct fixture *f;
};

static int plug_held(void **state)
{
	struct net_pair_params cable = { .queue_pairs = 1, .offloads = OFFLOADS };
	struct virtio_net_params params = { .vhost_fd = -1, .tap_fd = -1 };
	struct held *held = calloc(1, sizeof(*held));
	struct fixture *f = calloc(1, sizeof(*f));

	hold_init(&held->hold, &clock_host, 1, true);
	f->machine = vmachine_new(RAM, NULL);
	assert_int_equal(net_pair_new(&cable, &params.net, &f->peer), 0);
	assert_int_equal(net_hold_new(&held->hold, NET_FRAME_MAX + EPOCH_ITEM_OVERHEAD, params.net,
				      &params.net),
			 0);
	held->net = params.net;
	assert_int_equal(virtio_net_new(&f->machine->host, &params, &f->device, NULL), 0);
	assert_int_equal(vdevice_start(f->device), 0);
	f->pairs = 1;
	probe_open(&f->wire[0], f->peer, 0, &clock_host);
	drive(f, ALL_FEATURES);
	held->f = f;
	*state = held;
	return 0;
}

static int unplug_held(void **state)
{
	struct held *held = *state;

	unplug(held->f);
	hold_destroy(&held->hold);
	free(held);
	return 0;
}

static void wait_held(struct held *held, uint64_t items, uint64_t refused)
{
	struct hold_counts counts;
	int tries = WAIT_MS;

	do {
		usleep(1000);
		net_hold_count(held->net, &counts);
	} while (tries-- && (counts.items != items || counts.refused < refused));
	assert_int_equal(counts.items, items);
	assert_true(counts.refused >= refused);
}

static void cut(struct held *held, uint64_t epoch)
{
	quiesce_begin(&held->f->machine->quiesce);
	hold_cut(&held->hold, epoch);
	quiesce_end(&held->f->machine->quiesce);
	hold_release(&held->hold, epoch, clock_now(&clock_host));
}

static void arrive(struct fixture *f, uint8_t from, uint8_t to)
{
	uint8_t fill = 0;

	for (; from <= to; from++) {
		assert_int_equal(wire_wait(f, 0, &fill), NET_HEADER_SIZE + LEN);
		assert_int_equal(fill, from);
	}
	usleep(20000);
	assert_int_equal(probe_receive(&f->wire[0], &fill), 0);
}

static void what_finds_no_room_stays_with_the_guest(void **state)
{
	struct held *held = *state;
	struct fixture *f = held->f;

	for (uint8_t i = 1; i <= FRAMES; i++)
		send_plain(f, TX0, i, LEN);
	wait_held(held, FIT, 1);
	for (unsigned int i = 0; i < FIT; i++)
		take(f, TX0);
	assert_int_equal(vqueue_wait(&f->queues[TX0], 20, NULL, NULL), 0);
	cut(held, 1);
	arrive(f, 1, FIT);
	/* The rest was taken in the second epoch. */
	wait_held(held, FRAMES - FIT, 1);
	for (unsigned int i = FIT; i < FRAMES; i++)
		take(f, TX0);
	cut(held, 2);
	arrive(f, FIT + 1, FRAMES);
}

static void an_open_hold_is_not_seen(void **state)
{
	struct held *held = *state;

	hold_open(&held->hold);
	for (uint8_t i = 1; i <= FRAMES; i++)
		send_plain(held->f, TX0, i, LEN);
	arrive(held->f, 1, FRAMES);
}

static void a_device_that_goes_takes_with_it_what_is_held(void **state)
{
	struct held *held = *state;

	for (uint8_t i = 1; i <= 3; i++)
		send_plain(held->f, TX0, i, LEN);
	wait_held(held, 3, 0);
}

#define HELD(name) cmocka_unit_test_setup_teardown(name, plug_held, unplug_held)

int main(void)
{
	const struct CMUnitTest tests[] = {
		HELD(what_finds_no_room_stays_with_the_guest),
		HELD(an_open_hold_is_not_seen),
		HELD(a_device_that_goes_takes_with_it_what_is_held),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
