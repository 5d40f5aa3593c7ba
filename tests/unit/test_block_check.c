/* SPDX-License-Identifier: Apache-2.0 */

/* Which requests a disk takes. */

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "block/block.h"

static struct block disk(void)
{
	return (struct block){ .geometry = {
				       .size = MIB(1),
				       .logical_block = 512,
				       .can_discard = true,
				       .can_write_zeroes = true,
				       .max_discard = KIB(64),
				       .max_transfer = KIB(128),
			       } };
}

static int judge(const struct block *block, enum block_op op, uint64_t offset, uint64_t len)
{
	struct iovec iov = { .iov_len = len };
	struct block_request request = {
		.op = op,
		.offset = offset,
		.len = len,
		.iov = &iov,
		.n_iov = 1,
	};

	return block_check(block, &request);
}

static void test_ranges(void **state _unused_)
{
	static const struct {
		uint64_t offset, len;
		int expected;
	} cases[] = {
		{ 0, 512, 0 },
		{ MIB(1) - 512, 512, 0 },
		{ 0, KIB(128), 0 },
		{ 0, 0, -EINVAL },
		{ 0, KIB(128) + 512, -EINVAL },
		{ 1, 512, -EINVAL },
		{ 0, 511, -EINVAL },
		{ MIB(1), 512, -EINVAL },
		{ MIB(1) - 512, 1024, -EINVAL },
		{ UINT64_MAX - 511, 512, -EINVAL },
		{ UINT64_MAX - 511, 1024, -EINVAL },
	};
	struct block block = disk();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(judge(&block, BLOCK_READ, cases[i].offset, cases[i].len),
				 cases[i].expected);
		assert_int_equal(judge(&block, BLOCK_WRITE, cases[i].offset, cases[i].len),
				 cases[i].expected);
	}
}

static void test_4k_blocks(void **state _unused_)
{
	struct block block = disk();

	block.geometry.logical_block = 4096;
	assert_int_equal(judge(&block, BLOCK_READ, 0, 512), -EINVAL);
	assert_int_equal(judge(&block, BLOCK_READ, 512, 4096), -EINVAL);
	assert_int_equal(judge(&block, BLOCK_READ, 4096, 4096), 0);
}

static void test_readonly_disk(void **state _unused_)
{
	struct block block = disk();

	block.geometry.readonly = true;
	assert_int_equal(judge(&block, BLOCK_READ, 0, 512), 0);
	assert_int_equal(judge(&block, BLOCK_FLUSH, 0, 0), 0);
	assert_int_equal(judge(&block, BLOCK_WRITE, 0, 512), -EROFS);
	assert_int_equal(judge(&block, BLOCK_DISCARD, 0, 512), -EROFS);
	assert_int_equal(judge(&block, BLOCK_WRITE_ZEROES, 0, 512), -EROFS);
}

static void test_what_the_disk_lacks(void **state _unused_)
{
	struct block block = disk();

	assert_int_equal(judge(&block, BLOCK_DISCARD, 0, KIB(64)), 0);
	assert_int_equal(judge(&block, BLOCK_DISCARD, 0, KIB(128)), -EINVAL);
	block.geometry.can_discard = false;
	assert_int_equal(judge(&block, BLOCK_DISCARD, 0, 512), -EOPNOTSUPP);
	assert_int_equal(judge(&block, BLOCK_WRITE_ZEROES, 0, 512), 0);
	block.geometry.can_write_zeroes = false;
	assert_int_equal(judge(&block, BLOCK_WRITE_ZEROES, 0, 512), -EOPNOTSUPP);
	assert_int_equal(judge(&block, (enum block_op)77, 0, 512), -EINVAL);
}

static int judge_iov(const struct iovec *iov, unsigned int n, uint64_t len)
{
	struct block block = disk();
	struct block_request request = { .op = BLOCK_READ, .len = len, .iov = iov, .n_iov = n };

	return block_check(&block, &request);
}

static void test_buffers_hold_the_length(void **state _unused_)
{
	const struct iovec iov[] = { { NULL, 512 }, { NULL, 512 }, { NULL, SIZE_MAX } };

	assert_int_equal(judge_iov(iov, 2, 1024), 0);
	assert_int_equal(judge_iov(iov, 2, 512), -EINVAL);
	assert_int_equal(judge_iov(iov, 2, 1536), -EINVAL);
	assert_int_equal(judge_iov(iov, 3, 1024), -EINVAL);
	assert_int_equal(judge_iov(iov, 0, 512), -EINVAL);
	assert_int_equal(judge_iov(iov, IOV_MAX + 1, 1024), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_4k_blocks),
		cmocka_unit_test(test_readonly_disk),
		cmocka_unit_test(test_what_the_disk_lacks),
		cmocka_unit_test(test_buffers_hold_the_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
