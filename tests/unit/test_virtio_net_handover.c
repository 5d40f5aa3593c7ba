/* SPDX-License-Identifier: Apache-2.0 */
/* How rings go to vhost and come back; the kernel's part is vhost_fake.c. */
#include "virtio_net_rig.h"

#include <poll.h>
#include <unistd.h>

#include "base/fd.h"
#include "bus/request.h"
#include "vhost_fake.h"

static struct vhost_fake *fake_of(struct fixture *f)
{
	return vhost_fake_of(vn_of(f)->vhost_fd);
}

/* The cable carries nothing here: its end stands where the tap would. */
static struct fixture *plug_vhost(void)
{
	struct net_pair_params cable = { .queue_pairs = 1, .offloads = OFFLOADS };
	struct virtio_net_params params = { .vhost_fd = vhost_fake_new(), .tap_fd = 0 };
	struct fixture *f = calloc(1, sizeof(*f));

	f->machine = vmachine_new(RAM, NULL);
	assert_int_equal(net_pair_new(&cable, &params.net, &f->peer), 0);
	assert_int_equal(virtio_net_new(&f->machine->host, &params, &f->device, NULL), 0);
	assert_int_equal(vdevice_start(f->device), 0);
	f->pairs = 1;
	probe_open(&f->wire[0], f->peer, 0, &clock_host);
	return f;
}

static bool wait_running(struct fixture *f)
{
	const _Atomic bool *running = fake_of(f)->running;

	for (int i = 0; i < WAIT_MS && !(running[0] && running[1]); i++)
		usleep(1000);
	return running[0] && running[1];
}

static void drive_vhost(struct fixture *f)
{
	drive(f, ALL_FEATURES);
	assert_true(wait_running(f));
}

static void rings_are_handed_over(void **state)
{
	struct fixture *f = plug_vhost();
	struct vhost_fake *fake;

	(void)state;
	drive_vhost(f);
	fake = fake_of(f);
	assert_int_equal(fake->prepared, 1);
	assert_int_equal(fake->rings[TX0].size, f->queues[TX0].size);
	assert_int_equal(fake->rings[TX0].next_avail, 0);
	assert_ptr_equal(fake->rings[TX0].desc, vmachine_at(f->machine, f->queues[TX0].desc, 16));
	assert_ptr_equal(fake->rings[RX0].used, vmachine_at(f->machine, f->queues[RX0].used, 4));
	unplug(f);
}

/* Our worker takes no kick away from the kernel. */
static void kicks_are_the_kernels(void **state)
{
	struct fixture *f = plug_vhost();
	struct pollfd kick = { .events = POLLIN };

	(void)state;
	drive_vhost(f);
	kick.fd = fake_of(f)->rings[TX0].kick;
	fd_clear_event(kick.fd);
	vqueue_kick_anyway(&f->queues[TX0]);
	usleep(20000);
	assert_int_equal(poll(&kick, 1, 0), 1);
	unplug(f);
}

static void calls_become_interrupts(void **state)
{
	struct fixture *f = plug_vhost();

	(void)state;
	drive_vhost(f);
	vhost_fake_work(fake_of(f), TX0, 1);
	assert_true(wait_for_count(&f->machine->interrupts[TX0 + 1], 1, WAIT_MS));
	assert_int_equal(vmachine_interrupts(f->machine, RX0 + 1), 0);
	vhost_fake_work(fake_of(f), RX0, 1);
	assert_true(wait_for_count(&f->machine->interrupts[RX0 + 1], 1, WAIT_MS));
	unplug(f);
}

static void barrier_takes_rings_back_for_its_time(void **state)
{
	struct fixture *f = plug_vhost();
	const struct virtio_queue_state *queues = vn_of(f)->state.virtio.queues;

	(void)state;
	drive_vhost(f);
	vhost_fake_work(fake_of(f), TX0, 5);
	vhost_fake_work(fake_of(f), RX0, 3);
	quiesce_begin(&f->machine->quiesce);
	assert_false(fake_of(f)->running[RX0] || fake_of(f)->running[TX0]);
	assert_int_equal(queues[TX0].next_avail, 5);
	assert_int_equal(queues[TX0].next_used, 5);
	assert_int_equal(queues[RX0].next_avail, 3);
	quiesce_end(&f->machine->quiesce);
	assert_true(wait_running(f));
	assert_int_equal(fake_of(f)->rings[TX0].next_avail, 5);
	unplug(f);
}

static void loaded_positions_survive_the_old_life(void **state)
{
	struct fixture *f = plug_vhost();
	struct buffer saved;
	struct error err = { 0 };

	(void)state;
	drive_vhost(f);
	vhost_fake_work(fake_of(f), TX0, 5);
	buffer_init(&saved, LIMIT_STATE_SECTION);
	assert_int_equal(vdevice_save(f->machine, f->device, &saved), 0);
	assert_true(wait_running(f));
	vhost_fake_work(fake_of(f), TX0, 9);
	assert_int_equal(vdevice_load(f->machine, f->device, &saved, &err), 0);
	assert_true(wait_running(f));
	assert_int_equal(fake_of(f)->rings[TX0].next_avail, 5);
	buffer_release(&saved);
	unplug(f);
}

struct seen {
	struct request_tap tap;
	unsigned int frames; /* atomic */
};

static void count_frame(struct request_tap *tap, const struct device_request *request _unused_)
{
	__atomic_fetch_add(&container_of(tap, struct seen, tap)->frames, 1, __ATOMIC_RELAXED);
}

static void see_all(struct fixture *f, struct seen *seen)
{
	quiesce_begin(&f->machine->quiesce);
	f->device->requests = seen ? &seen->tap : NULL;
	f->device->see_all = seen != NULL;
	quiesce_end(&f->machine->quiesce);
}

/* Frames go through us while all of them are watched, and through the kernel again afterwards. */
static void watched_frames_come_to_us(void **state)
{
	struct fixture *f = plug_vhost();
	const struct virtio_queue_state *queues = vn_of(f)->state.virtio.queues;
	struct seen seen = { .tap.answered = count_frame };
	uint8_t fill = 0;

	(void)state;
	drive_vhost(f);
	see_all(f, &seen);
	assert_false(fake_of(f)->running[RX0] || fake_of(f)->running[TX0]);
	for (int i = 0; i < 8; i++)
		post(f, RX0, 2048);
	vqueue_kick(&f->queues[RX0]);
	assert_int_equal(probe_send(&f->wire[0], 7, 100), 0);
	assert_int_equal(take(f, RX0), 100);
	send_plain(f, TX0, 9, 60);
	assert_true(wire_wait(f, 0, &fill) > 0);
	assert_int_equal(fill, 9);
	assert_int_equal(__atomic_load_n(&seen.frames, __ATOMIC_RELAXED), 2);
	see_all(f, NULL);
	assert_true(wait_running(f));
	assert_int_equal(queues[RX0].n_inflight, 0);
	assert_int_equal(fake_of(f)->rings[RX0].next_avail,
			 1); /* buffers taken in advance went back */
	assert_int_equal(fake_of(f)->rings[TX0].next_avail, 1);
	unplug(f);
}

static void refused_ring_breaks_the_device(void **state)
{
	struct fixture *f = plug_vhost();

	(void)state;
	fake_of(f)->refuse = -EFAULT;
	drive(f, ALL_FEATURES);
	assert_true(wait_status(f, VSTATUS_NEEDS_RESET));
	fake_of(f)->refuse = 0;
	assert_int_equal(vdriver_reset(&f->driver), 0);
	drive_vhost(f);
	unplug(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rings_are_handed_over),
		cmocka_unit_test(kicks_are_the_kernels),
		cmocka_unit_test(calls_become_interrupts),
		cmocka_unit_test(barrier_takes_rings_back_for_its_time),
		cmocka_unit_test(loaded_positions_survive_the_old_life),
		cmocka_unit_test(watched_frames_come_to_us),
		cmocka_unit_test(refused_ring_breaks_the_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
