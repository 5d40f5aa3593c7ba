/* SPDX-License-Identifier: Apache-2.0 */

/* Raw disks on real files: what is written is read, zeroed, flushed, and told when it fails. */

#include "block_rig.h"

#include <linux/falloc.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "block/raw_internal.h"

#define DISK MIB(4)

static int setup(void **state)
{
	static struct rig rig;

	rig_make_file(&rig, "/var/tmp", DISK);
	rig_open(&rig, true);
	*state = &rig;
	return 0;
}

static int teardown(void **state)
{
	rig_close(*state);
	return 0;
}

static void test_write_then_read(void **state)
{
	_cleanup_(freep) uint8_t *out = rig_buffer(KIB(64), 1), *in = rig_buffer(KIB(64), 2);

	assert_int_equal(rig_write(*state, KIB(128), out, KIB(64)), 0);
	assert_int_equal(rig_read(*state, KIB(128), in, KIB(64)), 0);
	assert_memory_equal(in, out, KIB(64));
}

static void test_scattered_buffers(void **state)
{
	_cleanup_(freep) uint8_t *out = rig_buffer(KIB(64), 1), *in = rig_buffer(KIB(64), 2);
	struct iovec iov[16];
	struct rig_request r = {
		.request = { .op = BLOCK_WRITE, .len = KIB(64), .iov = iov, .n_iov = 16 },
	};

	for (unsigned int i = 0; i < 16; i++)
		iov[i] = (struct iovec){ out + (15 - i) * 4096, 4096 };
	assert_int_equal(rig_do(*state, &r), 0);
	assert_int_equal(rig_read(*state, 0, in, KIB(64)), 0);
	for (unsigned int i = 0; i < 16; i++)
		assert_memory_equal(in + i * 4096, out + (15 - i) * 4096, 4096);
}

/* A guest may give any address: O_DIRECT would refuse this one. Larger than the bounce buffer. */
static void test_unaligned_buffers(void **state)
{
	size_t len = 2 * RAW_BOUNCE + 512;
	_cleanup_(freep) uint8_t *out = rig_buffer(len + 1, 1), *in = rig_buffer(len + 3, 2);

	assert_int_equal(rig_write(*state, 512, out + 1, len), 0);
	assert_int_equal(rig_read(*state, 512, in + 3, len), 0);
	assert_memory_equal(in + 3, out + 1, len);
}

static void test_buffers_of_odd_lengths(void **state)
{
	_cleanup_(freep) uint8_t *out = rig_buffer(4096, 1), *in = rig_buffer(4096, 2);
	struct iovec iov[] = { { in, 1 }, { in + 1, 1000 }, { in + 1001, 3095 } };
	struct rig_request r = {
		.request = { .op = BLOCK_READ,
			     .offset = 8192,
			     .len = 4096,
			     .iov = iov,
			     .n_iov = 3 },
	};

	assert_int_equal(rig_write(*state, 8192, out, 4096), 0);
	assert_int_equal(rig_do(*state, &r), 0);
	assert_memory_equal(in, out, 4096);
}

/* Three need the one bounce buffer, and all are more than the queue takes at once. */
static void test_more_than_depth(void **state)
{
	enum { N = 5 * RIG_DEPTH };
	struct rig *rig = *state;
	struct rig_request r[N] = { 0 };
	_cleanup_(freep) uint8_t *out = rig_buffer(N * 4096 + 4096, 1),
				 *in = rig_buffer(N * 4096, 2);

	for (unsigned int i = 0; i < N; i++) {
		r[i].request = (struct block_request){ .op = BLOCK_WRITE,
						       .offset = i * 4096,
						       .len = 4096 };
		r[i].iov = (struct iovec){ out + i * 4096 + (i % 16 == 3), 4096 };
		rig_submit(rig, &r[i]);
	}
	for (unsigned int i = 0; i < N; i++)
		assert_int_equal(r[i].result, RIG_PENDING);
	block_kick(rig->queue);
	for (unsigned int i = 0; i < N; i++)
		assert_int_equal(rig_wait(rig, &r[i]), 0);
	assert_true(rig->batches > 0 && rig->batches <= N);
	assert_int_equal(rig_read(rig, 0, in, N * 4096), 0);
	for (unsigned int i = 0; i < N; i++)
		assert_memory_equal(in + i * 4096, r[i].iov.iov_base, 4096);
}

static void test_flush_and_fua(void **state)
{
	_cleanup_(freep) uint8_t *out = rig_buffer(4096, 1);
	struct rig_request flush = { .request = { .op = BLOCK_FLUSH } };
	struct rig_request fua = {
		.request = { .op = BLOCK_WRITE, .len = 4096, .fua = true },
		.iov = { out, 4096 },
	};

	assert_int_equal(rig_do(*state, &fua), 0);
	assert_int_equal(rig_do(*state, &flush), 0);
}

static uint64_t allocated(const struct rig *rig)
{
	struct stat st;

	assert_int_equal(stat(rig->path, &st), 0);
	assert_int_equal(st.st_size, DISK);
	return (uint64_t)st.st_blocks * 512;
}

/* Zeroes the middle of a written range by `op` and looks at the borders. */
static void zero_and_look(struct rig *rig, struct block_request request)
{
	_cleanup_(freep) uint8_t *out = rig_buffer(KIB(256), 1), *in = rig_buffer(KIB(256), 2);
	struct rig_request r = { .request = request };

	r.request.offset = KIB(64);
	r.request.len = KIB(128);
	assert_int_equal(rig_write(rig, 0, out, KIB(256)), 0);
	assert_int_equal(rig_do(rig, &r), 0);
	assert_int_equal(rig_read(rig, 0, in, KIB(256)), 0);
	memset(out + KIB(64), 0, KIB(128));
	assert_memory_equal(in, out, KIB(256));
}

static void test_discard_makes_a_hole(void **state)
{
	struct rig *rig = *state;

	if (!rig->block->geometry.can_discard)
		skip();
	zero_and_look(rig, (struct block_request){ .op = BLOCK_DISCARD });
	assert_int_equal(allocated(rig), KIB(128));
}

static void test_write_zeroes_unmap_makes_a_hole(void **state)
{
	struct rig *rig = *state;

	zero_and_look(rig, (struct block_request){
				   .op = BLOCK_WRITE_ZEROES, .unmap = true, .fua = true });
	if (rig->block->geometry.can_discard)
		assert_int_equal(allocated(rig), KIB(128));
}

static void test_write_zeroes_keeps_the_space(void **state)
{
	zero_and_look(*state, (struct block_request){ .op = BLOCK_WRITE_ZEROES, .fua = true });
	assert_int_equal(allocated(*state), KIB(256));
}

static void test_zeroes_are_written_where_nothing_else_works(void **state)
{
	struct rig *rig = *state;
	struct raw *raw = container_of(rig->block, struct raw, block);
	struct rig_request large = {
		.request = { .op = BLOCK_WRITE_ZEROES, .len = 2 * RAW_ZEROS + 512, .fua = true },
	};

	raw->cannot_punch = raw->cannot_zero = true;
	zero_and_look(rig, (struct block_request){ .op = BLOCK_WRITE_ZEROES, .unmap = true });
	assert_int_equal(rig_do(rig, &large), 0);
	assert_int_equal(allocated(rig), ALIGN_UP(2 * RAW_ZEROS + 512, 4096));
}

static void test_shrunk_file_is_an_error(void **state)
{
	struct rig *rig = *state;
	_cleanup_(freep) uint8_t *buf = rig_buffer(8192, 1);

	assert_int_equal(truncate(rig->path, 4096), 0);
	assert_int_equal(rig_read(rig, KIB(64), buf, 4096), -EIO);
	assert_int_equal(rig_read(rig, 0, buf, 4096), 0);
	assert_int_equal(rig_read(rig, 0, buf, 8192), -EIO);
}

static void test_close_with_requests_in_flight(void **state)
{
	struct rig *rig = *state;
	_cleanup_(freep) uint8_t *buf = rig_buffer(KIB(4) * 3 * RIG_DEPTH + 1, 1);
	struct rig_request r[3 * RIG_DEPTH] = { 0 };

	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
		r[i].request = (struct block_request){ .op = BLOCK_READ, .len = 4096 };
		r[i].iov = (struct iovec){ buf + i * 4096 + (i & 1), 4096 };
		rig_submit(rig, &r[i]);
		if (i == 0)
			block_kick(rig->queue);
	}
	block_queue_close(TAKE_PTR(rig->queue));
	assert_int_equal(r[ARRAY_SIZE(r) - 1].result, RIG_PENDING);
}

static void test_tmpfs_works_buffered(void **state _unused_)
{
	struct rig rig = { 0 };
	_cleanup_(freep) uint8_t *out = rig_buffer(4096, 1), *in = rig_buffer(4096, 2);

	rig_make_file(&rig, "/dev/shm", DISK);
	rig_open(&rig, true);
	assert_int_equal(rig_write(&rig, 512, out, 4096), 0);
	assert_int_equal(rig_read(&rig, 512, in, 4096), 0);
	assert_memory_equal(in, out, 4096);
	/* tmpfs knows holes, but not FALLOC_FL_ZERO_RANGE. */
	zero_and_look(&rig, (struct block_request){ .op = BLOCK_WRITE_ZEROES });
	zero_and_look(&rig, (struct block_request){ .op = BLOCK_DISCARD });
	rig_close(&rig);
}

/* A small file system of our own, where this user may have one. */
static bool mount_small(const char *dir)
{
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return false;
	return mount("tmpfs", dir, "tmpfs", 0, "size=64k") == 0;
}

static void test_full_file_system_is_an_error(void **state _unused_)
{
	char dir[] = "/var/tmp/utsusu-full-XXXXXX";
	_cleanup_(freep) uint8_t *out = rig_buffer(KIB(128), 1);
	struct rig rig = { 0 };

	assert_non_null(mkdtemp(dir));
	if (!mount_small(dir)) {
		rmdir(dir);
		skip();
	}
	rig_make_file(&rig, dir, DISK);
	rig_open(&rig, true);
	assert_int_equal(rig_write(&rig, 0, out, KIB(128)), -ENOSPC);
	assert_int_equal(rig_read(&rig, MIB(1), out, KIB(128)), 0);
	rig_close(&rig);
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
	rmdir(dir);
}

/* A user that looks by itself needs no loop; when it stops looking, completions wake that again. */
static void test_polling(void **state)
{
	struct rig *rig = *state;
	struct rig_request r = { .request = { .op = BLOCK_FLUSH } };
	uint64_t end = clock_now(&clock_host) + 10 * NSEC_PER_SEC;

	assert_false(block_poll(rig->queue, true));
	rig_submit(rig, &r);
	block_kick(rig->queue);
	while (r.result == RIG_PENDING && clock_now(&clock_host) < end)
		block_poll(rig->queue, true);
	assert_int_equal(r.result, 0);
	rig_submit(rig, &r);
	block_kick(rig->queue);
	block_poll(rig->queue, false);
	assert_int_equal(rig_wait(rig, &r), 0);
}

static void test_bad_depth(void **state)
{
	struct rig *rig = *state;
	struct block_queue *queue;

	assert_int_equal(block_queue_open(rig->block, rig->loop, 0, &queue), -EINVAL);
	assert_int_equal(block_queue_open(rig->block, rig->loop, 1 << 20, &queue), -EINVAL);
}

#define DISK_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISK_TEST(test_write_then_read),
		DISK_TEST(test_scattered_buffers),
		DISK_TEST(test_unaligned_buffers),
		DISK_TEST(test_buffers_of_odd_lengths),
		DISK_TEST(test_more_than_depth),
		DISK_TEST(test_flush_and_fua),
		DISK_TEST(test_discard_makes_a_hole),
		DISK_TEST(test_write_zeroes_unmap_makes_a_hole),
		DISK_TEST(test_write_zeroes_keeps_the_space),
		DISK_TEST(test_zeroes_are_written_where_nothing_else_works),
		DISK_TEST(test_shrunk_file_is_an_error),
		DISK_TEST(test_close_with_requests_in_flight),
		DISK_TEST(test_polling),
		DISK_TEST(test_bad_depth),
		cmocka_unit_test(test_tmpfs_works_buffered),
		cmocka_unit_test(test_full_file_system_is_an_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
