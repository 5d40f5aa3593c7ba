/* SPDX-License-Identifier: Apache-2.0 */

/* A disk that another is copied into: what is refused of it, a disk that has no room, one that does not hold what was written. */

#include "check.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/disks/frame.h"
#include "move/disks/target.h"

#define CHUNK KIB(64)
#define SIZE (4 * CHUNK + 512)

struct fixture {
	char path[64];
	int fd;
	struct disk_target *target;
	struct disk_hands *hands;
	struct digest *digest;
	uint8_t payload[DISK_HEAD - 4 + CHUNK];
	struct error err;
	bool stop;
};

static void make(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	snprintf(f->path, sizeof(f->path), "/var/tmp/utsusu-target-XXXXXX");
	f->fd = mkstemp(f->path);
	assert_true(f->fd >= 0);
	assert_int_equal(ftruncate(f->fd, SIZE), 0);
	assert_int_equal(pwrite(f->fd, "before", 6, CHUNK), 6);
	assert_int_equal(disk_target_new(0, f->fd, &f->target, &f->err), 0);
	assert_int_equal(disk_hands_new(&f->hands), 0);
	assert_int_equal(digest_new(&f->digest), 0);
}

static void end(struct fixture *f)
{
	disk_target_free(f->target);
	disk_hands_free(f->hands);
	digest_free(f->digest);
	close(f->fd);
	unlink(f->path);
}

static int put(struct fixture *f, uint64_t chunk, uint8_t byte)
{
	size_t len = MIN(SIZE - chunk * CHUNK, CHUNK);

	le_store(f->payload, 8, chunk * CHUNK);
	memset(f->payload + DISK_HEAD - 4, byte, len);
	assert_int_equal(digest_run(f->digest, f->payload + DISK_HEAD - 4, len, f->payload + 8), 0);
	return disk_target_apply(f->target, f->hands, MOVE_DISK, f->payload, DISK_HEAD - 4 + len,
				 &f->err);
}

static int put_hole(struct fixture *f, uint64_t offset, uint64_t len)
{
	uint8_t range[DISK_HOLE_RANGE];

	le_store(range, 8, offset);
	le_store(range + 8, 8, len);
	return disk_target_apply(f->target, f->hands, MOVE_DISK_HOLE, range, sizeof(range),
				 &f->err);
}

static int settle(struct fixture *f)
{
	int r = disk_target_sync(f->target, &f->stop, &f->err);

	while (r == 0 && disk_target_unchecked(f->target)) {
		int checked = disk_target_check(f->target, f->hands, &f->err);

		r = checked < 0 ? checked : 0;
	}
	disk_target_end_pass(f->target);
	return r;
}

static void assert_holds(struct fixture *f, uint64_t chunk, uint8_t byte)
{
	static uint8_t bytes[CHUNK];
	size_t len = MIN(SIZE - chunk * CHUNK, CHUNK);

	assert_int_equal(pread(f->fd, bytes, len, (off_t)(chunk * CHUNK)), len);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(bytes[i], byte);
}

static void what_comes_is_what_it_holds(void **state _unused_)
{
	struct fixture f;
	struct stat st;

	make(&f);
	assert_int_equal(put(&f, 0, 1), 0);
	assert_int_equal(put(&f, 4, 4), 0);
	assert_int_equal(put_hole(&f, CHUNK, 3 * CHUNK), 0);
	assert_int_equal(disk_target_unchecked(f.target), 5);
	assert_int_equal(settle(&f), 0);
	assert_holds(&f, 0, 1);
	assert_holds(&f, 1, 0); /* nothing of before */
	assert_holds(&f, 4, 4);
	/* A later pass: what was filled is a hole again. */
	assert_int_equal(put(&f, 2, 2), 0);
	assert_int_equal(put_hole(&f, 0, CHUNK), 0);
	assert_int_equal(settle(&f), 0);
	assert_holds(&f, 0, 0);
	assert_holds(&f, 2, 2);
	assert_int_equal(fstat(f.fd, &st), 0);
	assert_true((uint64_t)st.st_blocks * 512 <= 2 * CHUNK);
	end(&f);
}

static void what_is_none_of_it_is_refused(void **state _unused_)
{
	struct fixture f;

	make(&f);
	assert_int_equal(put(&f, 0, 1), 0);
	assert_int_equal(put(&f, 0, 1), -EBADMSG); /* twice in one pass */
	le_store(f.payload, 8, SIZE);
	assert_int_equal(disk_target_apply(f.target, f.hands, MOVE_DISK, f.payload, 100, &f.err),
			 -EBADMSG);
	le_store(f.payload, 8, CHUNK);
	assert_int_equal(disk_target_apply(f.target, f.hands, MOVE_DISK, f.payload, 100, &f.err),
			 -EBADMSG);
	assert_int_equal(put_hole(&f, 0, 2 * CHUNK), -EBADMSG); /* the first was there */
	assert_int_equal(put_hole(&f, CHUNK + 512, CHUNK), -EBADMSG);
	assert_int_equal(put_hole(&f, CHUNK, 512), -EBADMSG);
	assert_int_equal(put_hole(&f, CHUNK, SIZE), -EBADMSG);
	assert_int_equal(put_hole(&f, CHUNK, UINT64_MAX), -EBADMSG);
	assert_int_equal(put_hole(&f, CHUNK, 0), -EBADMSG);
	end(&f);
}

static void a_byte_that_changed_on_the_disk_is_found(void **state _unused_)
{
	struct fixture f;

	make(&f);
	assert_int_equal(put(&f, 2, 2), 0);
	assert_int_equal(put(&f, 3, 3), 0);
	assert_int_equal(pwrite(f.fd, "x", 1, 3 * CHUNK + 77), 1);
	assert_int_equal(settle(&f), -EIO);
	assert_non_null(strstr(f.err.message, "at byte 196608 reads back as something else"));
	assert_int_equal(put_hole(&f, 0, CHUNK), 0);
	assert_int_equal(pwrite(f.fd, "x", 1, 77), 1);
	assert_int_equal(settle(&f), -EIO);
	end(&f);
}

/* As far as a file may grow, in the place of a file system that is full. */
static void a_disk_without_room_is_named(void **state _unused_)
{
	struct rlimit before, little = { .rlim_cur = CHUNK, .rlim_max = RLIM_INFINITY };
	struct fixture f;
	int r;

	make(&f);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	little.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
	r = put(&f, 2, 2);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(r, -EFBIG);
	assert_int_equal(f.err.status, EXIT_STATUS_RESOURCE);
	assert_non_null(strstr(f.err.message, "disk[0]: cannot be written at byte 131072"));
	end(&f);
}

static void the_whole_is_judged_by_its_root(void **state _unused_)
{
	struct disk_tree *tree;
	struct fixture f;
	uint8_t root[DIGEST_BYTES];

	make(&f);
	assert_int_equal(disk_tree_new(SIZE, &tree), 0);
	assert_int_equal(disk_tree_root(tree, root), -ENODATA);
	for (uint64_t i = 0; i < 4; i++)
		disk_tree_set(tree, i, disk_tree_zero(tree, i));
	assert_int_equal(put_hole(&f, 0, 4 * CHUNK), 0);
	assert_int_equal(settle(&f), 0);
	memset(root, 0, sizeof(root));
	assert_int_equal(disk_target_judge(f.target, root, &f.err),
			 -ENODATA); /* the last is missing */
	assert_int_equal(put(&f, 4, 4), 0);
	disk_tree_set(tree, 4, f.payload + 8);
	assert_int_equal(disk_tree_root(tree, root), 0);
	assert_int_equal(disk_target_judge(f.target, root, &f.err),
			 -EBADMSG); /* not read back yet */
	assert_int_equal(settle(&f), 0);
	assert_int_equal(disk_target_judge(f.target, root, &f.err), 0);
	assert_true(disk_target_is_whole(f.target));
	root[0] ^= 1;
	assert_int_equal(put_hole(&f, 0, CHUNK), 0);
	assert_false(disk_target_is_whole(f.target));
	assert_int_equal(settle(&f), 0);
	assert_int_equal(disk_target_judge(f.target, root, &f.err), -EIO);
	disk_tree_free(tree);
	end(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_comes_is_what_it_holds),
		cmocka_unit_test(what_is_none_of_it_is_refused),
		cmocka_unit_test(a_byte_that_changed_on_the_disk_is_found),
		cmocka_unit_test(a_disk_without_room_is_named),
		cmocka_unit_test(the_whole_is_judged_by_its_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
