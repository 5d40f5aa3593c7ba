/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "boot/e820.h"

/* A guest of 4 GiB whose RAM is cut by the hole for devices. */
static const struct memory memory = {
	.n_banks = 2,
	.banks = {
		{ .start = { 0 }, .len = 0xb0000000 },
		{ .start = { GIB(4) }, .len = 0x50000000 },
	},
	.size = GIB(4),
};
static const struct boot_reserved ecam = { 0xb0000000, 0x10000000 };

static struct e820_map build(const struct boot_reserved *reserved, size_t n)
{
	struct e820_map map;

	assert_int_equal(e820_build(&memory, reserved, n, &map), 0);
	return map;
}

static void assert_range(const struct e820_range *range, uint64_t start, uint64_t end,
			 enum e820_type type)
{
	assert_int_equal(range->start, start);
	assert_int_equal(range->start + range->len, end);
	assert_int_equal(range->type, type);
}

static void test_map_of_a_pc(void **unused _unused_)
{
	struct e820_map map = build(&ecam, 1);

	assert_int_equal(map.n, 6);
	assert_range(&map.ranges[0], 0, 0x9fc00, E820_RAM);
	assert_range(&map.ranges[1], 0x9fc00, 0xa0000, E820_RESERVED);
	assert_range(&map.ranges[2], 0xe0000, 0x100000, E820_RESERVED);
	assert_range(&map.ranges[3], 0x100000, 0xb0000000, E820_RAM);
	assert_range(&map.ranges[4], 0xb0000000, 0xc0000000, E820_RESERVED);
	assert_range(&map.ranges[5], GIB(4), GIB(4) + 0x50000000, E820_RAM);
}

static void test_reserved_range_wins_over_ram(void **unused _unused_)
{
	const struct boot_reserved hole = { MIB(2), MIB(1) };
	struct e820_map map = build(&hole, 1);

	assert_range(&map.ranges[3], MIB(1), MIB(2), E820_RAM);
	assert_range(&map.ranges[4], MIB(2), MIB(3), E820_RESERVED);
	assert_range(&map.ranges[5], MIB(3), 0xb0000000, E820_RAM);
	assert_false(e820_is_ram(&map, MIB(2), 1));
	assert_false(e820_is_ram(&map, MIB(1), MIB(2)));
	assert_true(e820_is_ram(&map, MIB(1), MIB(1)));
}

static void test_ranges_do_not_overlap(void **unused _unused_)
{
	const struct boot_reserved reserved[] = { { MIB(2), MIB(4) },
						  { MIB(3), MIB(1) },
						  { 0x9f000, MIB(1) } };
	struct e820_map map = build(reserved, ARRAY_SIZE(reserved));

	for (size_t i = 1; i < map.n; i++)
		assert_true(map.ranges[i - 1].start + map.ranges[i - 1].len <= map.ranges[i].start);
}

static void test_range_that_wraps_is_refused(void **unused _unused_)
{
	const struct boot_reserved wraps = { UINT64_MAX - 4095, 8192 };
	struct e820_map map;

	assert_int_equal(e820_build(&memory, &wraps, 1, &map), -EINVAL);
}

static void test_too_many_ranges_are_refused(void **unused _unused_)
{
	struct boot_reserved reserved[E820_MAX];
	struct e820_map map;

	for (size_t i = 0; i < E820_MAX; i++)
		reserved[i] = (struct boot_reserved){ MIB(2 + 2 * i), MIB(1) };
	assert_int_equal(e820_build(&memory, reserved, E820_MAX, &map), -ENOSPC);
}

static void test_find_high_stays_below_the_limit(void **unused _unused_)
{
	struct e820_map map = build(&ecam, 1);
	uint64_t at;

	assert_int_equal(e820_find_high(&map, MIB(3) + 5, 4096, MIB(64), GIB(2), &at), 0);
	assert_int_equal(at, GIB(2) - MIB(3) - 8192 + 4096);
	assert_int_equal(e820_find_high(&map, MIB(3), 4096, MIB(64), GIB(4), &at), 0);
	assert_int_equal(at, 0xb0000000 - MIB(3));
	assert_int_equal(e820_find_high(&map, MIB(3), 4096, MIB(64), MIB(66), &at), -ENOSPC);
}

static void test_find_low_starts_at_the_floor(void **unused _unused_)
{
	struct e820_map map = build(&ecam, 1);
	uint64_t at;

	assert_int_equal(e820_find_low(&map, MIB(1), MIB(2), MIB(1), GIB(4), &at), 0);
	assert_int_equal(at, MIB(2));
	assert_int_equal(e820_find_low(&map, MIB(1), MIB(2), 0xaff00001, GIB(4), &at), -ENOSPC);
	assert_int_equal(e820_find_low(&map, UINT64_MAX, MIB(2), 0, UINT64_MAX, &at), -ENOSPC);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_of_a_pc),
		cmocka_unit_test(test_reserved_range_wins_over_ram),
		cmocka_unit_test(test_ranges_do_not_overlap),
		cmocka_unit_test(test_range_that_wraps_is_refused),
		cmocka_unit_test(test_too_many_ranges_are_refused),
		cmocka_unit_test(test_find_high_stays_below_the_limit),
		cmocka_unit_test(test_find_low_starts_at_the_floor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
