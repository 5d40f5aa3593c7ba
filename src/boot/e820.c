/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/e820.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "boot/layout.h"

static int add(struct e820_map *map, uint64_t start, uint64_t end, enum e820_type type)
{
	if (start >= end)
		return 0;
	if (map->n == E820_MAX)
		return -ENOSPC;
	map->ranges[map->n++] = (struct e820_range){ start, end - start, type };
	return 0;
}

/* Cuts [start, end) out of every range and adds it with its own type. */
static int carve(struct e820_map *map, uint64_t start, uint64_t end, enum e820_type type)
{
	struct e820_map old = *map;
	int r;

	map->n = 0;
	for (size_t i = 0; i < old.n; i++) {
		const struct e820_range *range = &old.ranges[i];
		uint64_t range_end = range->start + range->len;

		r = add(map, range->start, MIN(range_end, start), range->type);
		if (r == 0)
			r = add(map, MAX(range->start, end), range_end, range->type);
		if (r < 0)
			return r;
	}
	return add(map, start, end, type);
}

static int compare_ranges(const void *a, const void *b)
{
	const struct e820_range *left = a, *right = b;

	return left->start < right->start ? -1 : left->start > right->start;
}

static int add_banks(struct e820_map *map, const struct memory *memory)
{
	int r = 0;

	for (size_t i = 0; i < memory->n_banks && r == 0; i++) {
		uint64_t start = memory->banks[i].start.v;

		r = add(map, start, start + memory->banks[i].len, E820_RAM);
	}
	return r;
}

/* A PC has a hole between 640 KiB and 1 MiB: the RAM behind it is not told, but for the places of the
 * BIOS, which are said to be taken. */
static int carve_pc_hole(struct e820_map *map)
{
	int r;

	r = carve(map, BOOT_EBDA, BOOT_HIGH, E820_RESERVED);
	if (r < 0)
		return r;
	map->n--; /* the last one added: again, in two pieces */
	r = add(map, BOOT_EBDA, BOOT_HOLE, E820_RESERVED);
	if (r == 0)
		r = add(map, BOOT_BIOS, BOOT_HIGH, E820_RESERVED);
	return r;
}

int e820_build(const struct memory *memory, const struct boot_reserved *reserved, size_t n_reserved,
	       struct e820_map *ret_map)
{
	struct e820_map map = { 0 };
	int r;

	r = add_banks(&map, memory);
	if (r == 0)
		r = carve_pc_hole(&map);
	for (size_t i = 0; i < n_reserved && r == 0; i++) {
		uint64_t end;

		if (reserved[i].len == 0)
			continue;
		if (__builtin_add_overflow(reserved[i].start, reserved[i].len, &end))
			return -EINVAL;
		r = carve(&map, reserved[i].start, end, E820_RESERVED);
	}
	if (r < 0)
		return r;
	qsort(map.ranges, map.n, sizeof(map.ranges[0]), compare_ranges);
	*ret_map = map;
	return 0;
}

/* The part of a RAM range that [floor, limit) leaves: false when it has less than `len` bytes. */
static bool usable(const struct e820_range *range, uint64_t len, uint64_t floor, uint64_t limit,
		   uint64_t *ret_start, uint64_t *ret_end)
{
	uint64_t start = MAX(range->start, floor), end = MIN(range->start + range->len, limit);

	if (range->type != E820_RAM || start > end || end - start < len)
		return false;
	*ret_start = start;
	*ret_end = end;
	return true;
}

int e820_find_high(const struct e820_map *map, uint64_t len, uint64_t align, uint64_t floor,
		   uint64_t limit, uint64_t *ret_start)
{
	for (size_t i = map->n; i-- > 0;) {
		uint64_t start, end;

		if (!usable(&map->ranges[i], len, floor, limit, &start, &end))
			continue;
		end = ALIGN_DOWN(end - len, align);
		if (end < start)
			continue;
		*ret_start = end;
		return 0;
	}
	return -ENOSPC;
}

int e820_find_low(const struct e820_map *map, uint64_t len, uint64_t align, uint64_t floor,
		  uint64_t limit, uint64_t *ret_start)
{
	for (size_t i = 0; i < map->n; i++) {
		uint64_t start, end;

		if (!usable(&map->ranges[i], len, floor, limit, &start, &end))
			continue;
		if (start > UINT64_MAX - align)
			continue;
		start = ALIGN_UP(start, align);
		if (start > end || end - start < len)
			continue;
		*ret_start = start;
		return 0;
	}
	return -ENOSPC;
}

bool e820_is_ram(const struct e820_map *map, uint64_t start, uint64_t len)
{
	for (size_t i = 0; i < map->n; i++) {
		const struct e820_range *range = &map->ranges[i];

		if (range->type == E820_RAM && start >= range->start &&
		    range_fits(start - range->start, len, range->len))
			return true;
	}
	return false;
}
