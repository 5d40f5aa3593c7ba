/* SPDX-License-Identifier: Apache-2.0 */

/* Before a disk changes hands: nothing new is taken, what was taken is finished and durable, and others can lock it. */

#include "blk_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

/* What reached the disk, in the order of its end. */
struct log_of_disk {
	pthread_mutex_t lock;
	unsigned int n;
	struct block_record records[64];
};

static void keep(void *ctx, const struct block_record *record)
{
	struct log_of_disk *log = ctx;

	pthread_mutex_lock(&log->lock);
	if (log->n < ARRAY_SIZE(log->records))
		log->records[log->n++] = *record;
	pthread_mutex_unlock(&log->lock);
}

struct fixture {
	struct blk_rig rig;
	struct log_of_disk log;
};

static void make(struct fixture *f, const char *filters)
{
	const struct block_record_params record = { keep, &f->log };
	const struct blk_rig_options options = { .record = &record,
						 .filters = filters,
						 .queues = 2 };

	memset(f, 0, sizeof(*f));
	pthread_mutex_init(&f->log.lock, NULL);
	blk_rig_make(&f->rig, &options);
	blk_rig_drive(&f->rig, &options);
}

static void drain(struct fixture *f, bool on)
{
	f->rig.device->ops->drain(f->rig.device, on);
}

static int drained(struct fixture *f)
{
	return f->rig.device->ops->drained(f->rig.device);
}

/* 1, or the error that it came to. */
static int wait_drained(struct fixture *f)
{
	int r = 0;

	for (int ms = 0; ms < BLK_RIG_SOON && r == 0; ms++) {
		r = drained(f);
		usleep(1000);
	}
	return r;
}

static void write_held(struct fixture *f, unsigned int queue, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		blk_rig_add(&f->rig, queue, i, VBLK_OUT, i * 8, f->rig.data, 4096, false);
	blk_rig_kick(&f->rig, queue);
	blk_rig_wait_held(&f->rig, n);
}

static void test_waits_for_all_that_was_taken(void **state _unused_)
{
	struct fixture f;

	make(&f, "drop:op=write");
	write_held(&f, 0, 5);
	drain(&f, true);
	usleep(20000);
	assert_int_equal(drained(&f), 0);
	block_drop_hold(f.rig.block, false);
	assert_int_equal(wait_drained(&f), 1);
	for (unsigned int i = 0; i < 5; i++)
		assert_int_equal(blk_rig_status(&f.rig, i), VBLK_OK);
	blk_rig_free(&f.rig);
}

static void test_flushes_behind_the_last_write(void **state _unused_)
{
	struct fixture f;

	make(&f, "drop:op=write");
	write_held(&f, 1, 3);
	drain(&f, true);
	block_drop_hold(f.rig.block, false);
	assert_int_equal(wait_drained(&f), 1);
	assert_int_equal(f.log.n, 4);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(f.log.records[i].op, BLOCK_WRITE);
		assert_true(f.log.records[i].done_ns <= f.log.records[3].submitted_ns);
	}
	assert_int_equal(f.log.records[3].op, BLOCK_FLUSH);
	blk_rig_free(&f.rig);
}

/* Written in an earlier life, before the driver let go of the device. */
static void test_flushes_what_an_old_life_wrote(void **state _unused_)
{
	struct fixture f;

	make(&f, NULL);
	assert_int_equal(blk_rig_do(&f.rig, VBLK_OUT, 0, f.rig.data, 4096), VBLK_OK);
	pthread_mutex_lock(&f.rig.device->lock);
	f.rig.device->ops->reset(f.rig.device);
	pthread_mutex_unlock(&f.rig.device->lock);
	drain(&f, true);
	assert_int_equal(wait_drained(&f), 1);
	assert_int_equal(f.log.records[f.log.n - 1].op, BLOCK_FLUSH);
	blk_rig_free(&f.rig);
}

static void test_without_writes_there_is_nothing_to_flush(void **state _unused_)
{
	struct fixture f;

	make(&f, NULL);
	assert_int_equal(blk_rig_do(&f.rig, VBLK_IN, 0, f.rig.data, 4096), VBLK_OK);
	drain(&f, true);
	assert_int_equal(wait_drained(&f), 1);
	assert_int_equal(f.log.n, 1);
	blk_rig_free(&f.rig);
}

static void test_takes_nothing_new_until_it_goes_on(void **state _unused_)
{
	struct fixture f;

	make(&f, NULL);
	drain(&f, true);
	assert_int_equal(wait_drained(&f), 1);
	blk_rig_add(&f.rig, 0, 0, VBLK_OUT, 0, f.rig.data, 4096, false);
	blk_rig_kick(&f.rig, 0);
	usleep(20000);
	assert_int_equal(blk_rig_status(&f.rig, 0), VBLK_NOT_YET);
	assert_int_equal(f.log.n, 0);
	assert_int_equal(drained(&f), 1);
	/* No other kick comes: the request must be found all the same. */
	drain(&f, false);
	blk_rig_wait(&f.rig, 0, 1);
	assert_int_equal(blk_rig_status(&f.rig, 0), VBLK_OK);
	blk_rig_free(&f.rig);
}

static void test_a_flush_that_fails_is_told_and_tried_again(void **state _unused_)
{
	struct fixture f;

	make(&f, "fail:nth=1,op=flush");
	assert_int_equal(blk_rig_do(&f.rig, VBLK_OUT, 0, f.rig.data, 4096), VBLK_OK);
	drain(&f, true);
	assert_int_equal(wait_drained(&f), -EIO);
	drain(&f, false);
	assert_int_equal(blk_rig_do(&f.rig, VBLK_IN, 0, f.rig.data, 4096), VBLK_OK);
	drain(&f, true);
	assert_int_equal(wait_drained(&f), 1);
	assert_int_equal(f.log.records[f.log.n - 1].op, BLOCK_FLUSH);
	blk_rig_free(&f.rig);
}

/* Given up and begun again while the first is under way: the second's word is what counts. */
static void test_a_drain_begun_again_waits_anew(void **state _unused_)
{
	struct fixture f;

	make(&f, "drop:op=flush");
	assert_int_equal(blk_rig_do(&f.rig, VBLK_OUT, 0, f.rig.data, 4096), VBLK_OK);
	drain(&f, true);
	blk_rig_wait_held(&f.rig, 1);
	drain(&f, false);
	assert_int_equal(blk_rig_do(&f.rig, VBLK_OUT, 8, f.rig.data, 4096), VBLK_OK);
	drain(&f, true);
	usleep(20000);
	assert_int_equal(drained(&f), 0);
	block_drop_hold(f.rig.block, false);
	assert_int_equal(wait_drained(&f), 1);
	/* The second write came behind the first flush. */
	assert_int_equal(f.log.n, 4);
	assert_int_equal(f.log.records[3].op, BLOCK_FLUSH);
	blk_rig_free(&f.rig);
}

/* Of another open file, as on another host. */
static bool others_can_lock(const struct fixture *f)
{
	_cleanup_(fd_closep) int fd = open(f->rig.path, O_RDWR | O_CLOEXEC);
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

static void test_the_lock_goes_and_comes(void **state _unused_)
{
	struct fixture f;
	struct error err = { 0 };
	const struct device_ops *ops;

	make(&f, "delay:us=1");
	ops = f.rig.device->ops;
	assert_false(others_can_lock(&f));
	assert_int_equal(ops->own(f.rig.device, false, &err), 0);
	assert_true(others_can_lock(&f));
	assert_int_equal(ops->own(f.rig.device, true, &err), 0);
	assert_int_equal(ops->own(f.rig.device, true, &err), 0);
	assert_false(others_can_lock(&f));
	blk_rig_free(&f.rig);
}

static void test_anothers_lock_is_named(void **state _unused_)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct error err = { 0 };
	struct fixture f;
	int fd;

	make(&f, NULL);
	assert_int_equal(f.rig.device->ops->own(f.rig.device, false, &err), 0);
	fd = open(f.rig.path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(f.rig.device->ops->own(f.rig.device, true, &err), -EBUSY);
	assert_non_null(strstr(err.message, f.rig.path));
	fd_close(fd);
	blk_rig_free(&f.rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_waits_for_all_that_was_taken),
		cmocka_unit_test(test_flushes_behind_the_last_write),
		cmocka_unit_test(test_flushes_what_an_old_life_wrote),
		cmocka_unit_test(test_without_writes_there_is_nothing_to_flush),
		cmocka_unit_test(test_takes_nothing_new_until_it_goes_on),
		cmocka_unit_test(test_a_flush_that_fails_is_told_and_tried_again),
		cmocka_unit_test(test_a_drain_begun_again_waits_anew),
		cmocka_unit_test(test_the_lock_goes_and_comes),
		cmocka_unit_test(test_anothers_lock_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
