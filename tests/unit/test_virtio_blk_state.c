/* SPDX-License-Identifier: Apache-2.0 */

/* Saving a block device while it works: what is in flight goes along and is done on the other side. */

#include "blk_rig.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"

#define SECTORS_PER_PAGE 8

static const struct blk_rig_options held = { .filters = "drop", .queues = 2 };
static const struct blk_rig_options plain = { .queues = 2 };

/* Two machines: `from` holds its requests, `to` is to take over. */
struct pair {
	struct blk_rig from, to;
};

static int setup(void **state)
{
	static struct pair pair;

	blk_rig_make(&pair.from, &held);
	blk_rig_drive(&pair.from, &held);
	*state = &pair;
	return 0;
}

static int teardown(void **state)
{
	struct pair *pair = *state;

	block_drop_hold(pair->from.block, false);
	blk_rig_free(&pair->from);
	blk_rig_free(&pair->to);
	return 0;
}

static void move(struct pair *pair, const struct blk_rig_options *options)
{
	blk_rig_copy(&pair->to, &pair->from, options);
	blk_rig_move(&pair->to, &pair->from);
}

/* The whole disks, as the host sees them. */
static void assert_same_disks(const struct blk_rig *a, const struct blk_rig *b)
{
	size_t size = a->block->geometry.size;
	_cleanup_(freep) uint8_t *in_a = malloc(size), *in_b = malloc(size);

	blk_rig_read_file(a, 0, in_a, size);
	blk_rig_read_file(b, 0, in_b, size);
	assert_memory_equal(in_a, in_b, size);
}

static void test_writes_in_flight_are_done_by_the_new_owner(void **state)
{
	struct pair *pair = *state;
	struct blk_rig *from = &pair->from, *to = &pair->to;
	uint8_t page[4096];

	blk_rig_fill(from, from->data, KIB(64), 3);
	for (unsigned int i = 0; i < 16; i++)
		blk_rig_add(from, i % 2, i, VBLK_OUT, i * SECTORS_PER_PAGE, from->data + i * 4096,
			    4096, false);
	blk_rig_kick(from, 0);
	blk_rig_kick(from, 1);
	blk_rig_wait_held(from, 16);
	move(pair, &plain);
	for (unsigned int q = 0; q < 2; q++)
		blk_rig_wait(to, q, 8);
	for (unsigned int i = 0; i < 16; i++) {
		assert_int_equal(blk_rig_status(to, i), VBLK_OK);
		assert_int_equal(blk_rig_status(from, i), VBLK_NOT_YET);
		blk_rig_read_file(to, i * 4096, page, sizeof(page));
		assert_memory_equal(page, blk_rig_at(to, to->data + i * 4096, 4096), 4096);
	}
	/* The old owner, had it stayed, would have done the same. */
	block_drop_hold(from->block, false);
	for (unsigned int q = 0; q < 2; q++)
		blk_rig_wait(from, q, 8);
	assert_same_disks(from, to);
}

static void test_reads_in_flight_are_filled_by_the_new_owner(void **state)
{
	struct pair *pair = *state;
	struct blk_rig *from = &pair->from, *to = &pair->to;

	block_drop_hold(from->block, false);
	blk_rig_fill(from, from->data, 8192, 3);
	assert_int_equal(blk_rig_do(from, VBLK_OUT, 0, from->data, 8192), VBLK_OK);
	block_drop_hold(from->block, true);
	blk_rig_add(from, 0, 5, VBLK_IN, 0, from->data + 8192, 8192, true);
	blk_rig_kick(from, 0);
	blk_rig_wait_held(from, 1);
	move(pair, &plain);
	blk_rig_wait(to, 0, 1);
	assert_int_equal(blk_rig_status(to, 5), VBLK_OK);
	assert_memory_equal(blk_rig_at(to, to->data + 8192, 8192), blk_rig_at(to, to->data, 8192),
			    8192);
}

static void test_all_kinds_in_flight_and_the_device_goes_on(void **state)
{
	struct pair *pair = *state;
	struct blk_rig *from = &pair->from, *to = &pair->to;
	uint8_t page[4096], zeros[4096] = { 0 };

	block_drop_hold(from->block, false);
	blk_rig_fill(from, from->data, 8192, 3);
	assert_int_equal(blk_rig_do(from, VBLK_OUT, 0, from->data, 8192), VBLK_OK);
	block_drop_hold(from->block, true);
	blk_rig_add_range(from, 0, 1, VBLK_ZEROES, 0, SECTORS_PER_PAGE, 0);
	blk_rig_add(from, 0, 2, VBLK_FLUSH, 0, 0, 0, false);
	blk_rig_add(from, 0, 3, VBLK_OUT, 80, from->data, 4096, false);
	blk_rig_kick(from, 0);
	blk_rig_wait_held(from, 3);
	move(pair, &plain);
	blk_rig_wait(to, 0, 3);
	for (unsigned int i = 1; i <= 3; i++)
		assert_int_equal(blk_rig_status(to, i), VBLK_OK);
	blk_rig_read_file(to, 0, page, sizeof(page));
	assert_memory_equal(page, zeros, sizeof(page));
	blk_rig_fill(to, to->data, 4096, 77);
	assert_int_equal(blk_rig_do(to, VBLK_OUT, 160, to->data, 4096), VBLK_OK);
	assert_int_equal(blk_rig_do(to, VBLK_IN, 160, to->data + 8192, 4096), VBLK_OK);
	assert_memory_equal(blk_rig_at(to, to->data + 8192, 4096), blk_rig_at(to, to->data, 4096),
			    4096);
}

/* ---- order ---- */

struct times {
	unsigned int n; /* atomic */
	struct block_record records[16];
};

static void keep(void *ctx, const struct block_record *record)
{
	struct times *times = ctx;
	unsigned int n = __atomic_fetch_add(&times->n, 1, __ATOMIC_RELAXED);

	assert_true(n < ARRAY_SIZE(times->records));
	times->records[n] = *record;
}

static bool overlap(const struct block_record *a, const struct block_record *b)
{
	return a->offset < b->offset + b->len && b->offset < a->offset + a->len;
}

/* The guest gave W1, W2, W3 on overlapping sectors, and one that overlaps none. Each overlapping one reaches
 * the disk only after the one before has ended. */
static void test_overlapping_requests_keep_their_order(void **state)
{
	struct pair *pair = *state;
	struct blk_rig *from = &pair->from, *to = &pair->to;
	struct times times = { 0 };
	const struct block_record_params record = { keep, &times };
	const struct blk_rig_options recorded = { .queues = 2, .record = &record };
	uint8_t page[4096];

	for (unsigned int i = 0; i < 4; i++)
		blk_rig_fill(from, from->data + i * 8192, 8192, 40 * i);
	blk_rig_add(from, 0, 0, VBLK_OUT, 0, from->data, 8192, false);
	blk_rig_add(from, 0, 1, VBLK_OUT, 80, from->data + 8192, 4096, false);
	blk_rig_add(from, 0, 2, VBLK_OUT, 8, from->data + 16384, 8192, false);
	blk_rig_add(from, 0, 3, VBLK_OUT, 8, from->data + 24576, 4096, false);
	blk_rig_kick(from, 0);
	blk_rig_wait_held(from, 4);
	move(pair, &recorded);
	blk_rig_wait(to, 0, 4);
	assert_int_equal(times.n, 4);
	for (unsigned int i = 0; i < 4; i++)
		for (unsigned int j = i + 1; j < 4; j++)
			if (overlap(&times.records[i], &times.records[j]))
				assert_true(times.records[j].submitted_ns >=
					    times.records[i].done_ns);
	blk_rig_read_file(to, 4096, page, sizeof(page));
	assert_memory_equal(page, blk_rig_at(to, to->data + 24576, 4096), 4096);
}

/* What the driver adds meanwhile waits until the old ones are on their way. */
static void test_new_requests_come_after_the_old(void **state)
{
	struct pair *pair = *state;
	struct blk_rig *from = &pair->from, *to = &pair->to;
	uint8_t page[4096];

	for (unsigned int i = 0; i < 3; i++) {
		blk_rig_fill(from, from->data + i * 4096, 4096, 50 * i);
		blk_rig_add(from, 0, i, VBLK_OUT, 0, from->data + i * 4096, 4096, false);
	}
	blk_rig_kick(from, 0);
	blk_rig_wait_held(from, 3);
	/* Made available, not yet seen by the device: no kick. */
	blk_rig_fill(from, from->data + 12288, 4096, 200);
	blk_rig_add(from, 0, 3, VBLK_OUT, 800, from->data + 12288, 4096, false);
	move(pair, &plain);
	blk_rig_wait(to, 0, 4);
	blk_rig_read_file(to, 0, page, sizeof(page));
	assert_memory_equal(page, blk_rig_at(to, to->data + 8192, 4096), 4096);
	blk_rig_read_file(to, 800 * BLK_RIG_SECTOR, page, sizeof(page));
	assert_memory_equal(page, blk_rig_at(to, to->data + 12288, 4096), 4096);
}

/* ---- what the new owner does not trust ---- */

/* The chain of a request in flight turned bad in guest memory. */
static void test_a_broken_chain_in_flight_needs_a_reset(void **state)
{
	struct pair *pair = *state;
	struct blk_rig *from = &pair->from, *to = &pair->to;
	int head = blk_rig_add(from, 0, 0, VBLK_OUT, 0, from->data, 4096, false);

	blk_rig_kick(from, 0);
	blk_rig_wait_held(from, 1);
	vqueue_write_desc(&from->queues[0], (uint16_t)head, UINT64_MAX - 5, 16, 0, 0);
	move(pair, &plain);
	for (int i = 0; i < BLK_RIG_SOON && vdriver_status(&to->driver) == VSTATUS_OK; i++)
		usleep(1000);
	assert_int_equal(vdriver_status(&to->driver), VSTATUS_OK | VSTATUS_NEEDS_RESET);
	assert_int_equal(vdriver_reset(&to->driver), 0);
	blk_rig_drive(to, &plain);
	assert_int_equal(blk_rig_do(to, VBLK_IN, 0, to->data, 4096), VBLK_OK);
}

static void test_a_bad_request_in_flight_gets_its_status(void **state)
{
	struct pair *pair = *state;
	struct blk_rig *from = &pair->from, *to = &pair->to;

	blk_rig_add(from, 0, 0, VBLK_OUT, 0, from->data, 4096, false);
	blk_rig_kick(from, 0);
	blk_rig_wait_held(from, 1);
	le_store(blk_rig_at(from, from->slots, 16), 4, 99); /* its type */
	move(pair, &plain);
	blk_rig_wait(to, 0, 1);
	assert_int_equal(blk_rig_status(to, 0), VBLK_UNSUPP);
}

static void test_reset_while_old_requests_wait(void **state)
{
	struct pair *pair = *state;
	struct blk_rig *from = &pair->from, *to = &pair->to;
	const struct blk_rig_options slow = { .queues = 2, .filters = "delay:ms=30" };

	for (unsigned int i = 0; i < 8; i++)
		blk_rig_add(from, 0, i, VBLK_OUT, 0, from->data + i * 4096, 4096, false);
	blk_rig_kick(from, 0);
	blk_rig_wait_held(from, 8);
	move(pair, &slow);
	assert_int_equal(vdriver_reset(&to->driver), 0);
	blk_rig_drive(to, &slow);
	assert_int_equal(blk_rig_do(to, VBLK_IN, 0, to->data, 4096), VBLK_OK);
}

static void test_a_disk_of_another_size_is_refused(void **state)
{
	struct pair *pair = *state;
	const struct blk_rig_options larger = { .queues = 2, .size = MIB(5) };
	struct buffer saved;
	struct error err = { 0 };

	buffer_init(&saved, LIMIT_STATE_SECTION);
	assert_int_equal(vdevice_save(pair->from.machine, pair->from.device, &saved), 0);
	blk_rig_make(&pair->to, &larger);
	assert_true(vdevice_load(pair->to.machine, pair->to.device, &saved, &err) < 0);
	assert_non_null(strstr(err.message, "same size"));
	buffer_release(&saved);
}

static struct virtio_device *vdev_of(struct blk_rig *rig)
{
	return container_of(rig->device, struct virtio_device, device);
}

static void assert_refused(struct pair *pair, const char *why)
{
	struct buffer saved;
	struct error err = { 0 };

	buffer_init(&saved, LIMIT_STATE_SECTION);
	assert_int_equal(vdevice_save(pair->from.machine, pair->from.device, &saved), 0);
	assert_true(vdevice_load(pair->to.machine, pair->to.device, &saved, &err) < 0);
	if (!strstr(err.message, why))
		fail_msg("'%s' does not tell of %s", err.message, why);
	buffer_release(&saved);
}

static void test_what_the_guest_uses_must_be_there(void **state)
{
	struct pair *pair = *state;

	blk_rig_make(&pair->to, &plain);
	vdev_of(&pair->to)->offers &= ~(VBLK_F_DISCARD | VBLK_F_FLUSH);
	assert_refused(pair, "the guest uses flushes, discards, which the device");
	/* Of those that it does not use the limits do not matter, of others they do. */
	vdev_of(&pair->from)->state->driver_features &= ~(VBLK_F_DISCARD | VBLK_F_FLUSH);
	pair->to.block->geometry.max_discard /= 2;
	assert_refused(pair, "sectors in a write of zeroes");
}

static void test_a_disk_that_may_not_be_written_is_refused(void **state)
{
	const struct blk_rig_options readonly = { .queues = 2, .readonly = true };
	struct pair *pair = *state;

	blk_rig_make(&pair->to, &readonly);
	assert_refused(pair, "the disk is read-only, the guest's was writable");
}

static void stand_still(struct pair *pair)
{
	quiesce_begin(&pair->from.machine->quiesce);
	quiesce_begin(&pair->to.machine->quiesce);
}

static void go_on(struct pair *pair)
{
	quiesce_end(&pair->to.machine->quiesce);
	quiesce_end(&pair->from.machine->quiesce);
}

/* A load over a device that works: its own old requests end without touching the new guest's memory. */
static void test_load_over_a_busy_device(void **state)
{
	struct pair *pair = *state;
	struct blk_rig *from = &pair->from, *to = &pair->to;
	struct buffer saved;
	struct error err = { 0 };

	blk_rig_make(to, &plain);
	blk_rig_drive(to, &plain);
	for (unsigned int i = 0; i < 4; i++)
		blk_rig_add(from, 0, i, VBLK_IN, 0, from->data + i * 4096, 4096, true);
	blk_rig_kick(from, 0);
	blk_rig_wait_held(from, 4);
	buffer_init(&saved, LIMIT_STATE_SECTION);
	stand_still(pair);
	assert_int_equal(vdevice_save(to->machine, to->device, &saved), 0);
	vmachine_copy_memory(from->machine, to->machine);
	memcpy(from->queues, to->queues, sizeof(from->queues));
	for (unsigned int i = 0; i < 2; i++)
		from->queues[i].driver = &from->driver;
	if (vdevice_load(from->machine, from->device, &saved, &err) < 0)
		fail_msg("%s", err.message);
	go_on(pair);
	buffer_release(&saved);
	block_drop_hold(from->block, false);
	assert_int_equal(blk_rig_do(from, VBLK_IN, 0, from->data, 4096), VBLK_OK);
	assert_int_equal(blk_rig_status(from, 1), 0); /* as in the loaded memory: never written */
}

#define PAIR_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PAIR_TEST(test_writes_in_flight_are_done_by_the_new_owner),
		PAIR_TEST(test_reads_in_flight_are_filled_by_the_new_owner),
		PAIR_TEST(test_all_kinds_in_flight_and_the_device_goes_on),
		PAIR_TEST(test_overlapping_requests_keep_their_order),
		PAIR_TEST(test_new_requests_come_after_the_old),
		PAIR_TEST(test_a_broken_chain_in_flight_needs_a_reset),
		PAIR_TEST(test_a_bad_request_in_flight_gets_its_status),
		PAIR_TEST(test_reset_while_old_requests_wait),
		PAIR_TEST(test_a_disk_of_another_size_is_refused),
		PAIR_TEST(test_what_the_guest_uses_must_be_there),
		PAIR_TEST(test_a_disk_that_may_not_be_written_is_refused),
		PAIR_TEST(test_load_over_a_busy_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
