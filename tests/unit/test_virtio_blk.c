/* SPDX-License-Identifier: Apache-2.0 */

/* The block device through a driver's eyes: good requests, bad requests, what the host is told. */

#include "blk_rig.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "memory/dirty.h"

#define DISK MIB(4)
#define SECTORS (DISK / BLK_RIG_SECTOR)

static int setup_with(void **state, const struct blk_rig_options *options)
{
	static struct blk_rig rig;

	blk_rig_make(&rig, options);
	blk_rig_drive(&rig, options);
	*state = &rig;
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, &(struct blk_rig_options){ 0 });
}

static int setup_queues(void **state)
{
	return setup_with(state, &(struct blk_rig_options){ .queues = BLK_RIG_QUEUES });
}

static int setup_readonly(void **state)
{
	return setup_with(state, &(struct blk_rig_options){ .readonly = true });
}

static int setup_failing(void **state)
{
	return setup_with(state, &(struct blk_rig_options){ .filters = "fail:op=write,nth=2" });
}

static int setup_holding(void **state)
{
	return setup_with(state, &(struct blk_rig_options){ .filters = "drop" });
}

static int setup_slow(void **state)
{
	return setup_with(state,
			  &(struct blk_rig_options){ .filters = "delay:ms=40", .queues = 2 });
}

static int setup_no_ranges(void **state)
{
	return setup_with(state, &(struct blk_rig_options){ .refuse = VBLK_F_DISCARD |
								      VBLK_F_WRITE_ZEROES });
}

static int teardown(void **state)
{
	blk_rig_free(*state);
	return 0;
}

static void wait_for_needs_reset(struct blk_rig *rig)
{
	for (int i = 0; i < BLK_RIG_SOON && vdriver_status(&rig->driver) == VSTATUS_OK; i++)
		usleep(1000);
	assert_int_equal(vdriver_status(&rig->driver), VSTATUS_OK | VSTATUS_NEEDS_RESET);
}

static void test_configuration(void **state)
{
	struct blk_rig *rig = *state;
	struct vdriver *d = &rig->driver;
	uint32_t logical = rig->block->geometry.logical_block;

	assert_int_equal(vdriver_read(d, VREGION_DEVICE, 0, 4), SECTORS);
	assert_int_equal(vdriver_read(d, VREGION_DEVICE, 12, 4), 254); /* seg_max */
	assert_int_equal(vdriver_read(d, VREGION_DEVICE, 20, 4), logical);
	assert_int_equal(vdriver_read(d, VREGION_DEVICE, 32, 1), 1); /* writeback */
	assert_int_equal(vdriver_read(d, VREGION_DEVICE, 34, 2), BLK_RIG_QUEUES);
	assert_int_equal(vdriver_read(d, VREGION_DEVICE, 40, 4), 1); /* max_discard_seg */
	assert_true(d->features & VBLK_F_MQ);
	assert_true(d->features & VBLK_F_FLUSH);
	assert_false(d->features & VBLK_F_RO);
}

static void test_write_then_read(void **state)
{
	struct blk_rig *rig = *state;
	uint8_t on_disk[8192];

	blk_rig_fill(rig, rig->data, 8192, 1);
	assert_int_equal(blk_rig_do(rig, VBLK_OUT, 8, rig->data, 8192), VBLK_OK);
	blk_rig_read_file(rig, 4096, on_disk, sizeof(on_disk));
	assert_memory_equal(on_disk, blk_rig_at(rig, rig->data, 8192), 8192);
	assert_int_equal(blk_rig_do(rig, VBLK_IN, 8, rig->data + 8192, 8192), VBLK_OK);
	assert_memory_equal(blk_rig_at(rig, rig->data + 8192, 8192), on_disk, 8192);
	assert_int_equal(blk_rig_do(rig, VBLK_FLUSH, 0, 0, 0), VBLK_OK);
}

static void test_used_length_covers_data_and_status(void **state)
{
	struct blk_rig *rig = *state;
	uint32_t len;

	blk_rig_add(rig, 0, 0, VBLK_IN, 0, rig->data, 4096, true);
	blk_rig_kick(rig, 0);
	assert_int_equal(vqueue_wait(&rig->queues[0], BLK_RIG_SOON, NULL, &len), 1);
	assert_int_equal(len, 4097);
}

static void test_unaligned_guest_buffers(void **state)
{
	struct blk_rig *rig = *state;

	blk_rig_fill(rig, rig->data + 3, 4096, 1);
	assert_int_equal(blk_rig_do(rig, VBLK_OUT, 0, rig->data + 3, 4096), VBLK_OK);
	assert_int_equal(blk_rig_do(rig, VBLK_IN, 0, rig->data + 8193, 4096), VBLK_OK);
	assert_memory_equal(blk_rig_at(rig, rig->data + 3, 4096),
			    blk_rig_at(rig, rig->data + 8193, 4096), 4096);
}

/* A driver may cut a request anywhere (virtio 1.2, 2.7.4.1): only the order of bytes counts. */
static void send_cut(struct blk_rig *rig, uint32_t type, const struct vbuffer *buffers,
		     unsigned int n, uint64_t header)
{
	uint8_t *p = blk_rig_at(rig, header, 16);

	le_store(p, 4, type);
	le_store(p + 8, 8, 16);
	assert_true(vqueue_add(&rig->queues[0], buffers, n) >= 0);
	blk_rig_kick(rig, 0);
	blk_rig_wait(rig, 0, 1);
}

static void test_header_and_data_in_one_buffer(void **state)
{
	struct blk_rig *rig = *state;
	uint64_t at = rig->data;
	const struct vbuffer buffers[] = { { at, 16 + 1000, false },
					   { at + 16 + 1000, 3096, false },
					   { at + 8192, 1, true } };
	uint8_t on_disk[4096];

	blk_rig_fill(rig, at, 8192, 5);
	send_cut(rig, VBLK_OUT, buffers, 3, at);
	assert_int_equal(*blk_rig_at(rig, at + 8192, 1), VBLK_OK);
	blk_rig_read_file(rig, 16 * BLK_RIG_SECTOR, on_disk, sizeof(on_disk));
	assert_memory_equal(on_disk, blk_rig_at(rig, at + 16, 4096), 4096);
}

static void test_header_in_pieces_status_behind_data(void **state)
{
	struct blk_rig *rig = *state;
	uint64_t at = rig->data;
	const struct vbuffer buffers[] = { { at, 3, false },
					   { at + 3, 12, false },
					   { at + 15, 1, false },
					   { at + 4096, 4097, true } };

	blk_rig_fill(rig, at + 16384, 4096, 9);
	assert_int_equal(blk_rig_do(rig, VBLK_OUT, 16, at + 16384, 4096), VBLK_OK);
	*blk_rig_at(rig, at + 8192, 1) = VBLK_NOT_YET;
	send_cut(rig, VBLK_IN, buffers, 4, at);
	assert_int_equal(*blk_rig_at(rig, at + 8192, 1), VBLK_OK);
	assert_memory_equal(blk_rig_at(rig, at + 4096, 4096), blk_rig_at(rig, at + 16384, 4096),
			    4096);
}

static void test_serial(void **state)
{
	struct blk_rig *rig = *state;

	memset(blk_rig_at(rig, rig->data, 32), 'x', 32);
	assert_int_equal(blk_rig_do(rig, VBLK_GET_ID, 0, rig->data, 20), VBLK_OK);
	assert_memory_equal(blk_rig_at(rig, rig->data, 22), "serial-of-20-bytes-xxx", 22);
	memset(blk_rig_at(rig, rig->data, 32), '-', 32);
	assert_int_equal(blk_rig_do(rig, VBLK_GET_ID, 0, rig->data, 6), VBLK_OK);
	assert_memory_equal(blk_rig_at(rig, rig->data, 8), "serial--", 8);
}

static void assert_zeros(struct blk_rig *rig, uint64_t sector, uint32_t len)
{
	_cleanup_(freep) uint8_t *zeros = calloc(1, len);

	memset(blk_rig_at(rig, rig->data, len), 0xaa, len);
	assert_int_equal(blk_rig_do(rig, VBLK_IN, sector, rig->data, len), VBLK_OK);
	assert_memory_equal(blk_rig_at(rig, rig->data, len), zeros, len);
}

static void test_discard_and_write_zeroes(void **state)
{
	struct blk_rig *rig = *state;

	blk_rig_fill(rig, rig->data, KIB(64), 1);
	assert_int_equal(blk_rig_do(rig, VBLK_OUT, 0, rig->data, KIB(64)), VBLK_OK);
	assert_int_equal(blk_rig_do_range(rig, VBLK_ZEROES, 0, 16, 0), VBLK_OK);
	assert_int_equal(blk_rig_do_range(rig, VBLK_ZEROES, 16, 16, 1), VBLK_OK);
	assert_zeros(rig, 0, 32 * BLK_RIG_SECTOR);
	if (!(rig->driver.features & VBLK_F_DISCARD))
		return;
	assert_int_equal(blk_rig_do_range(rig, VBLK_DISCARD, 32, 16, 0), VBLK_OK);
	assert_zeros(rig, 32, 16 * BLK_RIG_SECTOR);
}

static void test_bad_requests_get_a_status(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		uint8_t status;
	} cases[] = {
		{ VBLK_IN, SECTORS, 512, VBLK_IOERR },
		{ VBLK_IN, SECTORS - 1, 1024, VBLK_IOERR },
		{ VBLK_IN, UINT64_MAX, 512, VBLK_IOERR },
		{ VBLK_IN, UINT64_MAX / 512, 512, VBLK_IOERR },
		{ VBLK_IN, 0, 0, VBLK_IOERR },
		{ VBLK_IN, 0, 100, VBLK_IOERR },
		{ VBLK_OUT, SECTORS, 512, VBLK_IOERR },
		{ VBLK_OUT, 0, 513, VBLK_IOERR },
		{ VBLK_OUT, 0, 0, VBLK_IOERR },
		{ 2, 0, 512, VBLK_UNSUPP },
		{ 10, 0, 0, VBLK_UNSUPP },
		{ 14, 0, 16, VBLK_UNSUPP },
		{ 0xffffffff, 0, 512, VBLK_UNSUPP },
		{ VBLK_DISCARD, 0, 8, VBLK_IOERR },
		{ VBLK_ZEROES, 0, 32, VBLK_IOERR },
	};
	struct blk_rig *rig = *state;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(blk_rig_do(rig, cases[i].type, cases[i].sector, rig->data,
					    cases[i].len),
				 cases[i].status);
	assert_int_equal(vdriver_status(&rig->driver), VSTATUS_OK);
}

static void test_bad_ranges_get_a_status(void **state)
{
	struct blk_rig *rig = *state;
	uint32_t too_many = (uint32_t)(rig->block->geometry.max_discard / 512) + 8;

	assert_int_equal(blk_rig_do_range(rig, VBLK_ZEROES, 0, 8, 2), VBLK_UNSUPP);
	assert_int_equal(blk_rig_do_range(rig, VBLK_DISCARD, 0, 8, 1), VBLK_UNSUPP);
	assert_int_equal(blk_rig_do_range(rig, VBLK_ZEROES, SECTORS, 8, 0), VBLK_IOERR);
	assert_int_equal(blk_rig_do_range(rig, VBLK_ZEROES, UINT64_MAX, 8, 0), VBLK_IOERR);
	assert_int_equal(blk_rig_do_range(rig, VBLK_ZEROES, 0, 0, 0), VBLK_IOERR);
	assert_int_equal(blk_rig_do_range(rig, VBLK_ZEROES, 0, too_many, 0), VBLK_IOERR);
}

static void test_ranges_not_negotiated(void **state)
{
	struct blk_rig *rig = *state;

	assert_int_equal(blk_rig_do_range(rig, VBLK_ZEROES, 0, 8, 0), VBLK_UNSUPP);
	assert_int_equal(blk_rig_do_range(rig, VBLK_DISCARD, 0, 8, 0), VBLK_UNSUPP);
}

static void test_short_header(void **state)
{
	struct blk_rig *rig = *state;
	const struct vbuffer buffers[] = { { rig->data, 15, false }, { rig->data + 64, 1, true } };

	*blk_rig_at(rig, rig->data + 64, 1) = VBLK_NOT_YET;
	assert_true(vqueue_add(&rig->queues[0], buffers, 2) >= 0);
	blk_rig_kick(rig, 0);
	blk_rig_wait(rig, 0, 1);
	assert_int_equal(*blk_rig_at(rig, rig->data + 64, 1), VBLK_IOERR);
}

static void test_no_status_byte_needs_a_reset(void **state)
{
	struct blk_rig *rig = *state;
	const struct vbuffer header = { rig->data, 16, false };

	memset(blk_rig_at(rig, rig->data, 16), 0, 16);
	assert_true(vqueue_add(&rig->queues[0], &header, 1) >= 0);
	blk_rig_kick(rig, 0);
	wait_for_needs_reset(rig);
	blk_rig_drive(rig, &(struct blk_rig_options){ 0 });
	assert_int_equal(blk_rig_do(rig, VBLK_IN, 0, rig->data, 512), VBLK_OK);
}

static void test_readonly_disk(void **state)
{
	struct blk_rig *rig = *state;

	assert_true(rig->driver.features & VBLK_F_RO);
	assert_int_equal(blk_rig_do(rig, VBLK_IN, 0, rig->data, 4096), VBLK_OK);
	assert_int_equal(blk_rig_do(rig, VBLK_OUT, 0, rig->data, 4096), VBLK_IOERR);
	assert_int_equal(blk_rig_do(rig, VBLK_FLUSH, 0, 0, 0), VBLK_OK);
}

static void test_the_hosts_error_is_the_guests(void **state)
{
	struct blk_rig *rig = *state;

	assert_int_equal(blk_rig_do(rig, VBLK_OUT, 0, rig->data, 4096), VBLK_OK);
	assert_int_equal(blk_rig_do(rig, VBLK_OUT, 0, rig->data, 4096), VBLK_IOERR);
	assert_int_equal(blk_rig_do(rig, VBLK_OUT, 0, rig->data, 4096), VBLK_OK);
}

static void test_a_full_queue_at_once(void **state)
{
	struct blk_rig *rig = *state;
	unsigned int n = rig->queues[0].size / 3;
	uint32_t interrupts = vmachine_interrupts(rig->machine, 1);

	blk_rig_fill(rig, rig->data, n * 4096, 3);
	for (unsigned int i = 0; i < n; i++)
		blk_rig_add(rig, 0, i, VBLK_OUT, i * 8, rig->data + i * 4096, 4096, false);
	blk_rig_kick(rig, 0);
	blk_rig_wait(rig, 0, n);
	for (unsigned int i = 0; i < n; i++)
		assert_int_equal(blk_rig_status(rig, i), VBLK_OK);
	assert_true(wait_for_count(&rig->machine->interrupts[1], interrupts + 1, BLK_RIG_SOON));
	assert_int_equal(blk_rig_do(rig, VBLK_IN, 0, rig->data + n * 4096, n * 4096), VBLK_OK);
	assert_memory_equal(blk_rig_at(rig, rig->data, n * 4096),
			    blk_rig_at(rig, rig->data + n * 4096, n * 4096), n * 4096);
}

static int add_indirect(struct blk_rig *rig, unsigned int slot)
{
	uint64_t at = rig->slots + slot * 64;
	const struct vbuffer buffers[] = { { at, 16, false },
					   { rig->data + slot * 4096, 4096, true },
					   { at + 48, 1, true } };

	memset(blk_rig_at(rig, at, 64), 0, 64);
	return vqueue_add_indirect(&rig->queues[0], buffers, 3);
}

/* As many in flight as there are descriptors; one more can only be one of them again. */
static void test_no_more_in_flight_than_descriptors(void **state)
{
	struct blk_rig *rig = *state;
	unsigned int n = rig->queues[0].size;
	int first = add_indirect(rig, 0);

	assert_int_equal(n, BLK_RIG_SLOTS);
	for (unsigned int i = 1; i < n; i++)
		assert_true(add_indirect(rig, i) >= 0);
	blk_rig_kick(rig, 0);
	blk_rig_wait_held(rig, n);
	assert_int_equal(vdriver_status(&rig->driver), VSTATUS_OK);
	vqueue_publish(&rig->queues[0], (uint16_t)first);
	vqueue_kick_anyway(&rig->queues[0]);
	wait_for_needs_reset(rig);
	block_drop_hold(rig->block, false);
	assert_int_equal(vdriver_reset(&rig->driver), 0);
}

static void test_queues_work_side_by_side(void **state)
{
	struct blk_rig *rig = *state;

	blk_rig_fill(rig, rig->data, KIB(64), 3);
	for (unsigned int i = 0; i < 16; i++)
		blk_rig_add(rig, i % BLK_RIG_QUEUES, i, VBLK_OUT, i * 8, rig->data + i * 4096, 4096,
			    false);
	for (unsigned int q = 0; q < BLK_RIG_QUEUES; q++)
		blk_rig_kick(rig, q);
	for (unsigned int q = 0; q < BLK_RIG_QUEUES; q++)
		blk_rig_wait(rig, q, 16 / BLK_RIG_QUEUES);
	assert_int_equal(blk_rig_do(rig, VBLK_IN, 0, rig->data + KIB(64), KIB(64)), VBLK_OK);
	assert_memory_equal(blk_rig_at(rig, rig->data, KIB(64)),
			    blk_rig_at(rig, rig->data + KIB(64), KIB(64)), KIB(64));
}

/* ---- durability ---- */

struct last {
	struct block_record record;
};

static void keep_last(void *ctx, const struct block_record *record)
{
	((struct last *)ctx)->record = *record;
}

/* Whether a write of this driver goes to the disk as a durable one. */
static bool write_is_durable(uint64_t refuse, int writeback)
{
	struct last last = { 0 };
	const struct block_record_params record = { keep_last, &last };
	const struct blk_rig_options options = { .record = &record, .refuse = refuse };
	struct blk_rig rig;

	blk_rig_make(&rig, &options);
	blk_rig_drive(&rig, &options);
	if (writeback >= 0)
		vdriver_write(&rig.driver, VREGION_DEVICE, 32, 1, (unsigned int)writeback);
	assert_int_equal(blk_rig_do(&rig, VBLK_OUT, 0, rig.data, 4096), VBLK_OK);
	blk_rig_free(&rig);
	assert_int_equal(last.record.op, BLOCK_WRITE);
	return last.record.fua;
}

static void test_writes_are_durable_when_the_driver_counts_on_it(void **state _unused_)
{
	assert_false(write_is_durable(0, -1));
	assert_true(write_is_durable(0, 0)); /* asked for write-through */
	assert_false(write_is_durable(0, 1));
	assert_false(write_is_durable(0, 7));				     /* no such mode */
	assert_false(write_is_durable(VBLK_F_CONFIG_WCE, 0));		     /* may not ask */
	assert_true(write_is_durable(VBLK_F_CONFIG_WCE | VBLK_F_FLUSH, -1)); /* cannot flush */
}

/* ---- the dirty log ---- */

static bool page_is_dirty(const struct dirty_bitmap *bitmap, uint64_t address)
{
	uint64_t page = address / MEMORY_PAGE_SIZE;

	return bitmap->words[page / 64] >> (page % 64) & 1;
}

/* Without this a move or a checkpoint loses what disks read into guest memory. */
static void test_device_writes_are_in_the_dirty_log(void **state)
{
	struct blk_rig *rig = *state;
	struct dirty_bitmap bitmap;

	assert_int_equal(dirty_bitmap_init(&bitmap, rig->machine->memory), 0);
	assert_int_equal(memory_dirty_start(rig->machine->memory), 0);
	assert_int_equal(blk_rig_do(rig, VBLK_IN, 0, rig->data + 4096, 8192), VBLK_OK);
	assert_int_equal(memory_dirty_collect(rig->machine->memory, &bitmap), 0);
	assert_true(page_is_dirty(&bitmap, rig->data + 4096));
	assert_true(page_is_dirty(&bitmap, rig->data + 8192));
	assert_true(page_is_dirty(&bitmap, rig->slots)); /* the status */
	assert_true(page_is_dirty(&bitmap, rig->queues[0].used));
	assert_false(page_is_dirty(&bitmap, rig->data));
	assert_false(page_is_dirty(&bitmap, rig->data + 12288));
	memory_dirty_stop(rig->machine->memory);
	dirty_bitmap_release(&bitmap);
}

/* ---- reset ---- */

static void test_reset_with_requests_in_flight(void **state)
{
	struct blk_rig *rig = *state;

	for (int round = 0; round < 3; round++) {
		for (unsigned int i = 0; i < 40; i++)
			blk_rig_add(rig, i % 2, i, i % 3 ? VBLK_IN : VBLK_OUT, i * 8,
				    rig->data + i * 4096, 4096, i % 3 != 0);
		blk_rig_kick(rig, 0);
		blk_rig_kick(rig, 1);
		assert_int_equal(vdriver_reset(&rig->driver), 0);
		/* What comes after status 0 would hit memory that the guest uses for something else. */
		memset(blk_rig_at(rig, rig->slots, 4096), 0x5a, 4096);
		usleep(60000);
		for (unsigned int i = 0; i < 40; i++)
			assert_int_equal(blk_rig_status(rig, i), 0x5a);
		blk_rig_drive(rig, &(struct blk_rig_options){ 0 });
	}
	assert_int_equal(blk_rig_do(rig, VBLK_IN, 0, rig->data, 4096), VBLK_OK);
}

static void test_stop_with_requests_in_flight(void **state)
{
	struct blk_rig *rig = *state;

	for (unsigned int i = 0; i < 40; i++)
		blk_rig_add(rig, i % 2, i, VBLK_IN, i * 8, rig->data + i * 4096, 4096, true);
	blk_rig_kick(rig, 0);
	blk_rig_kick(rig, 1);
}

#define BLK_TEST(test, setup_) cmocka_unit_test_setup_teardown(test, setup_, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		BLK_TEST(test_configuration, setup_queues),
		BLK_TEST(test_write_then_read, setup),
		BLK_TEST(test_used_length_covers_data_and_status, setup),
		BLK_TEST(test_unaligned_guest_buffers, setup),
		BLK_TEST(test_header_and_data_in_one_buffer, setup),
		BLK_TEST(test_header_in_pieces_status_behind_data, setup),
		BLK_TEST(test_serial, setup),
		BLK_TEST(test_discard_and_write_zeroes, setup),
		BLK_TEST(test_bad_requests_get_a_status, setup),
		BLK_TEST(test_bad_ranges_get_a_status, setup),
		BLK_TEST(test_ranges_not_negotiated, setup_no_ranges),
		BLK_TEST(test_short_header, setup),
		BLK_TEST(test_no_status_byte_needs_a_reset, setup),
		BLK_TEST(test_readonly_disk, setup_readonly),
		BLK_TEST(test_the_hosts_error_is_the_guests, setup_failing),
		BLK_TEST(test_a_full_queue_at_once, setup),
		BLK_TEST(test_no_more_in_flight_than_descriptors, setup_holding),
		BLK_TEST(test_queues_work_side_by_side, setup_queues),
		cmocka_unit_test(test_writes_are_durable_when_the_driver_counts_on_it),
		BLK_TEST(test_device_writes_are_in_the_dirty_log, setup),
		BLK_TEST(test_reset_with_requests_in_flight, setup_slow),
		BLK_TEST(test_stop_with_requests_in_flight, setup_slow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
