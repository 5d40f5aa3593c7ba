/* SPDX-License-Identifier: Apache-2.0 */

/* The entropy device: what it fills, and that it cannot be made to fill for ever. */

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "memory/dirty.h"
#include "virtio/rng.h"
#include "virtio_driver.h"

#define SOON 5000
#define PER_REQUEST 4096
#define PER_WINDOW KIB(64)
#define REQUESTS_PER_WINDOW (PER_WINDOW / PER_REQUEST)

struct rig {
	struct fake_clock clock;
	struct vmachine *m;
	struct device *device;
	struct vdriver driver;
	struct vqueue queue;
	uint64_t pages; /* PER_REQUEST * 3 bytes */
};

static void add_device(struct rig *rig)
{
	fake_clock_init(&rig->clock, NSEC_PER_SEC, 0);
	rig->m = vmachine_new(MIB(8), &rig->clock.clock);
	assert_non_null(rig->m);
	assert_int_equal(virtio_rng_new(&rig->m->host, &rig->device, NULL), 0);
}

static int make_rig(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	add_device(rig);
	assert_int_equal(vdevice_start(rig->device), 0);
	assert_int_equal(vdriver_setup(rig->m, VIRTIO_ID_RNG,
				       VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC, &rig->driver,
				       &rig->queue, 1),
			 0);
	rig->pages = vmachine_alloc(rig->m, 3 * PER_REQUEST, MEMORY_PAGE_SIZE);
	*state = rig;
	return 0;
}

static int free_rig(void **state)
{
	struct rig *rig = *state;

	vdevice_destroy(rig->device);
	vmachine_free(rig->m);
	free(rig);
	return 0;
}

static void request(struct rig *rig, uint64_t address, uint32_t len)
{
	const struct vbuffer buffer = { address, len, true };

	assert_true(vqueue_add(&rig->queue, &buffer, 1) >= 0);
	vqueue_kick(&rig->queue);
}

static uint32_t answered(struct rig *rig)
{
	uint32_t len = UINT32_MAX;

	assert_int_equal(vqueue_wait(&rig->queue, SOON, NULL, &len), 1);
	return len;
}

/* The worker reads this clock: it stands still inside the barrier only. */
static void pass_time(struct rig *rig, uint64_t ns)
{
	quiesce_begin(&rig->m->quiesce);
	fake_clock_advance(&rig->clock, ns);
	quiesce_end(&rig->m->quiesce);
}

static unsigned int distinct_bytes(const uint8_t *bytes, size_t len)
{
	bool seen[256] = { false };
	unsigned int n = 0;

	for (size_t i = 0; i < len; i++) {
		n += !seen[bytes[i]];
		seen[bytes[i]] = true;
	}
	return n;
}

/* 4096 random bytes miss more than 56 of 256 values less often than once in the age of the universe. */
static void buffer_is_filled(void **state)
{
	struct rig *rig = *state;

	request(rig, rig->pages, PER_REQUEST);
	assert_int_equal(answered(rig), PER_REQUEST);
	assert_true(distinct_bytes(vmachine_at(rig->m, rig->pages, PER_REQUEST), PER_REQUEST) >
		    200);
}

static void answers_differ(void **state)
{
	struct rig *rig = *state;

	request(rig, rig->pages, 32);
	request(rig, rig->pages + 32, 32);
	assert_int_equal(answered(rig), 32);
	assert_int_equal(answered(rig), 32);
	assert_memory_not_equal(vmachine_at(rig->m, rig->pages, 32),
				vmachine_at(rig->m, rig->pages + 32, 32), 32);
}

static void one_request_has_a_limit(void **state)
{
	struct rig *rig = *state;
	const uint8_t *beyond = vmachine_at(rig->m, rig->pages + PER_REQUEST, PER_REQUEST);

	request(rig, rig->pages, 2 * PER_REQUEST);
	assert_int_equal(answered(rig), PER_REQUEST);
	assert_int_equal(distinct_bytes(beyond, PER_REQUEST), 1);
}

static void only_filled_pages_are_dirty(void **state)
{
	struct rig *rig = *state;
	struct dirty_bitmap bitmap;

	assert_int_equal(memory_dirty_start(rig->m->memory), 0);
	request(rig, rig->pages, 3 * PER_REQUEST);
	assert_int_equal(answered(rig), PER_REQUEST);
	quiesce_begin(&rig->m->quiesce);
	assert_int_equal(dirty_bitmap_init(&bitmap, rig->m->memory), 0);
	assert_int_equal(memory_dirty_collect(rig->m->memory, &bitmap), 0);
	quiesce_end(&rig->m->quiesce);
	assert_int_equal(dirty_bitmap_count(&bitmap), 2); /* the answer and the rings */
	dirty_bitmap_release(&bitmap);
	memory_dirty_stop(rig->m->memory);
}

static void request_without_room_is_given_back(void **state)
{
	struct rig *rig = *state;
	const struct vbuffer buffer = { rig->pages, 64, false };

	vqueue_add(&rig->queue, &buffer, 1);
	vqueue_kick(&rig->queue);
	assert_int_equal(answered(rig), 0);
}

static void use_up_window(struct rig *rig)
{
	for (unsigned int i = 0; i < REQUESTS_PER_WINDOW; i++) {
		request(rig, rig->pages, PER_REQUEST);
		assert_int_equal(answered(rig), PER_REQUEST);
	}
}

static void rate_is_bounded(void **state)
{
	struct rig *rig = *state;

	use_up_window(rig);
	request(rig, rig->pages, 16);
	assert_int_equal(vqueue_wait(&rig->queue, 150, NULL, NULL), 0);
	pass_time(rig, 100 * NSEC_PER_MSEC);
	assert_int_equal(answered(rig), 16);
}

static void reset_ends_the_wait(void **state)
{
	struct rig *rig = *state;

	use_up_window(rig);
	request(rig, rig->pages, 16);
	assert_int_equal(vdriver_reset(&rig->driver), 0);
	pass_time(rig, NSEC_PER_SEC);
	assert_int_equal(vqueue_wait(&rig->queue, 150, NULL, NULL), 0);
}

static void broken_queue_needs_a_reset(void **state)
{
	struct rig *rig = *state;

	request(rig, 0xc0000000, 16);
	for (unsigned int i = 0; i < SOON && vdriver_status(&rig->driver) == VSTATUS_OK; i++)
		usleep(1000);
	assert_int_equal(vdriver_status(&rig->driver), VSTATUS_OK | VSTATUS_NEEDS_RESET);
}

/* Saves `rig`, loads into a second machine with the same memory, not started yet. */
static void load_elsewhere(struct rig *rig, struct rig *to)
{
	struct buffer stream;
	struct error err = { 0 };

	buffer_init(&stream, MIB(1));
	quiesce_begin(&rig->m->quiesce);
	assert_int_equal(vdevice_save(rig->m, rig->device, &stream), 0);
	add_device(to);
	vmachine_copy_memory(to->m, rig->m);
	assert_int_equal(vdevice_load(to->m, to->device, &stream, &err), 0);
	assert_null(state_compare(rig->device->table, rig->device->state, to->device->state));
	quiesce_end(&rig->m->quiesce);
	buffer_release(&stream);
	to->driver = rig->driver;
	to->driver.machine = to->m;
	to->queue = rig->queue;
	to->queue.driver = &to->driver;
	to->pages = rig->pages;
}

static void waiting_requests_go_on_elsewhere(void **state)
{
	struct rig *rig = *state;
	struct rig to = { 0 };

	use_up_window(rig);
	for (unsigned int i = 0; i < 5; i++)
		request(rig, rig->pages, 16);
	load_elsewhere(rig, &to);
	assert_int_equal(vdevice_start(to.device), 0);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(answered(&to), 16);
	assert_int_equal(vqueue_wait(&rig->queue, 0, NULL, NULL), 0);
	vdevice_destroy(to.device);
	vmachine_free(to.m);
}

/* Ours never has one in flight between two turns; a loaded state may claim it. */
static void claimed_requests_in_flight_are_given_back(void **state)
{
	struct rig *rig = *state;
	struct rig to = { 0 };
	struct virtio_state *s;

	use_up_window(rig);
	request(rig, rig->pages, 16);
	load_elsewhere(rig, &to);
	s = to.device->state;
	s->queues[0].inflight[s->queues[0].n_inflight++] = 0;
	s->queues[0].next_avail++;
	assert_int_equal(vdevice_start(to.device), 0);
	assert_int_equal(answered(&to), 0);
	vdevice_destroy(to.device);
	vmachine_free(to.m);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, make_rig, free_rig)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(buffer_is_filled),
		CASE(answers_differ),
		CASE(one_request_has_a_limit),
		CASE(only_filled_pages_are_dirty),
		CASE(request_without_room_is_given_back),
		CASE(rate_is_bounded),
		CASE(reset_ends_the_wait),
		CASE(broken_queue_needs_a_reset),
		CASE(waiting_requests_go_on_elsewhere),
		CASE(claimed_requests_in_flight_are_given_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
