/* SPDX-License-Identifier: Apache-2.0 */

/* Which files become disks, how large and aligned they are, and who may have them at once. */

#include "block_rig.h"

#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define DISK MIB(4)

static int setup(void **state)
{
	static struct rig rig;

	rig_make_file(&rig, "/var/tmp", DISK);
	*state = &rig;
	return 0;
}

static int teardown(void **state)
{
	struct rig *rig = *state;

	unlink(rig->path);
	return 0;
}

static int open_disk(const char *path, bool readonly, struct block **ret_block, struct error *err)
{
	const struct raw_options options = {
		.path = path,
		.fd = -1,
		.readonly = readonly,
		.direct = true,
	};

	*err = (struct error){ 0 };
	return raw_open(&options, ret_block, err);
}

/* Opening fails with `code` and a message that holds `path` and `words`. */
static void assert_refused(const char *path, bool readonly, int code, const char *words)
{
	struct block *block;
	struct error err;

	assert_int_equal(open_disk(path, readonly, &block, &err), code);
	if (!strstr(err.message, path) || !strstr(err.message, words))
		fail_msg("'%s' lacks '%s' or '%s'", err.message, path, words);
}

static void test_geometry_of_a_file(void **state)
{
	struct rig *rig = *state;
	struct block *block;
	struct error err;

	assert_int_equal(open_disk(rig->path, false, &block, &err), 0);
	assert_int_equal(block->geometry.size, DISK);
	assert_true(block->geometry.logical_block == 512 || block->geometry.logical_block == 4096);
	assert_true(block->geometry.physical_block >= block->geometry.logical_block);
	assert_true(block->geometry.memory_alignment >= 1);
	assert_false(block->geometry.readonly);
	assert_true(block->geometry.can_write_zeroes);
	block_free(block);
}

static void test_geometry_of_a_readonly_file(void **state)
{
	struct rig *rig = *state;
	struct block *block;
	struct error err;

	assert_int_equal(open_disk(rig->path, true, &block, &err), 0);
	assert_true(block->geometry.readonly);
	assert_false(block->geometry.can_write_zeroes);
	assert_false(block->geometry.can_discard);
	block_free(block);
}

static void test_missing_file(void **state _unused_)
{
	assert_refused("/var/tmp/utsusu-no-such-disk", false, -ENOENT, "create it");
}

static void test_only_files_and_devices(void **state)
{
	struct rig *rig = *state;

	assert_refused("/var/tmp", false, -ENOTBLK, "block device");
	assert_refused("/dev/null", false, -ENOTBLK, "block device");
	unlink(rig->path);
	assert_int_equal(mkfifo(rig->path, 0600), 0);
	assert_refused(rig->path, true, -ENOTBLK, "block device");
}

static void test_sizes(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(truncate(rig->path, 1000), 0);
	assert_refused(rig->path, false, -EINVAL, "truncate -s %");
	assert_int_equal(truncate(rig->path, 0), 0);
	assert_refused(rig->path, false, -EINVAL, "empty");
}

static void test_second_writer_is_refused_by_name(void **state)
{
	struct rig *rig = *state;
	struct block *first, *second;
	char words[64];
	struct error err;

	assert_int_equal(open_disk(rig->path, false, &first, &err), 0);
	snprintf(words, sizeof(words), "process %d (", getpid());
	assert_refused(rig->path, false, -EBUSY, words);
	assert_refused(rig->path, true, -EBUSY, words);
	block_free(first);
	assert_int_equal(open_disk(rig->path, false, &second, &err), 0);
	block_free(second);
}

static void test_readers_share_and_keep_writers_out(void **state)
{
	struct rig *rig = *state;
	struct block *first, *second;
	struct error err;

	assert_int_equal(open_disk(rig->path, true, &first, &err), 0);
	assert_int_equal(open_disk(rig->path, true, &second, &err), 0);
	assert_refused(rig->path, false, -EBUSY, "readonly=on");
	block_free(first);
	block_free(second);
}

static void test_handed_descriptor(void **state)
{
	struct rig *rig = *state;
	struct raw_options options = { .path = rig->path, .direct = true };
	struct error err = { 0 };
	int fd = open(rig->path, O_RDWR | O_NONBLOCK | O_APPEND | O_CLOEXEC);
	_cleanup_(freep) uint8_t *out = rig_buffer(4096, 1), *in = rig_buffer(4096, 2);

	options.fd = fd;
	assert_int_equal(raw_open(&options, &rig->block, &err), 0);
	rig_open_queue(rig);
	assert_int_equal(rig_write(rig, 4096, out, 4096), 0);
	assert_int_equal(rig_read(rig, 4096, in, 4096), 0);
	assert_memory_equal(in, out, 4096);
	block_queue_close(rig->queue);
	block_free(rig->block);
	loop_free(rig->loop);
	assert_int_equal(fcntl(fd, F_GETFD), -1); /* ownership passed */
}

static void test_handed_descriptor_of_the_wrong_kind(void **state)
{
	struct rig *rig = *state;
	_cleanup_(fd_closep) int fd = open(rig->path, O_RDONLY | O_CLOEXEC);
	struct raw_options options = { .path = rig->path, .fd = fd };
	struct error err = { 0 };
	struct block *block;

	assert_int_equal(raw_open(&options, &block, &err), -EACCES);
	assert_non_null(strstr(err.message, "readonly=on"));
	assert_true(fcntl(fd, F_GETFD) >= 0); /* still ours */
}

/* A loop device on the rig's file; false where this user or host has none. */
static bool make_device(const struct rig *rig, char *device, size_t size, int *ret_fd)
{
	_cleanup_(fd_closep) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	_cleanup_(fd_closep) int file = open(rig->path, O_RDWR | O_CLOEXEC);
	struct loop_config config = {
		.fd = (uint32_t)file,
		.block_size = 4096,
		.info.lo_flags = LO_FLAGS_AUTOCLEAR,
	};
	int number = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
	int fd;

	if (number < 0 || file < 0)
		return false;
	snprintf(device, size, "/dev/loop%d", number);
	fd = open(device, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, &config) < 0) {
		fd_close(fd);
		return false;
	}
	*ret_fd = fd;
	return true;
}

static void test_block_device(void **state)
{
	struct rig *rig = *state;
	_cleanup_(freep) uint8_t *out = rig_buffer(8192, 1), *in = rig_buffer(8192, 2);
	struct rig_request zero = {
		.request = { .op = BLOCK_WRITE_ZEROES, .len = 4096, .unmap = true, .fua = true },
	};
	char device[32];
	struct error err;
	int fd = -1;

	if (!make_device(rig, device, sizeof(device), &fd))
		skip();
	if (open_disk(device, false, &rig->block, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(rig->block->geometry.size, DISK);
	assert_int_equal(rig->block->geometry.logical_block, 4096);
	assert_true(raw_is_direct(rig->block));
	assert_refused(device, false, -EBUSY, "process");
	assert_refused(device, true, -EBUSY, "process");
	rig_open_queue(rig);
	assert_int_equal(rig_write(rig, 0, out, 8192), 0);
	assert_int_equal(rig_do(rig, &zero), 0);
	memset(out, 0, 4096);
	assert_int_equal(rig_read(rig, 0, in, 8192), 0);
	assert_memory_equal(in, out, 8192);
	block_queue_close(rig->queue);
	block_free(rig->block);
	loop_free(rig->loop);
	fd_close(fd);
}

#define DISK_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		DISK_TEST(test_geometry_of_a_file),
		DISK_TEST(test_geometry_of_a_readonly_file),
		cmocka_unit_test(test_missing_file),
		DISK_TEST(test_only_files_and_devices),
		DISK_TEST(test_sizes),
		DISK_TEST(test_second_writer_is_refused_by_name),
		DISK_TEST(test_readers_share_and_keep_writers_out),
		DISK_TEST(test_handed_descriptor),
		DISK_TEST(test_handed_descriptor_of_the_wrong_kind),
		DISK_TEST(test_block_device),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
