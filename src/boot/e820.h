/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The memory map that a kernel is given: e820 for Linux, the same numbers for PVH. ACPI 6.4, 15.4. */

#include <stddef.h>
#include <stdint.h>

#include "boot/boot.h"
#include "memory/memory.h"

#define E820_MAX 128 /* what boot_params has room for */

enum e820_type { E820_RAM = 1, E820_RESERVED = 2 };

struct e820_range {
	uint64_t start, len;
	enum e820_type type;
};

struct e820_map {
	size_t n;
	struct e820_range ranges[E820_MAX]; /* sorted, without overlap */
};

/* RAM from the memory's banks, without a PC's hole below 1 MiB, and the reserved ranges, which win over RAM
 * where they overlap. -EINVAL when a reserved range wraps, -ENOSPC for too many ranges. */
_must_check_ int e820_build(const struct memory *memory, const struct boot_reserved *reserved,
			    size_t n_reserved, struct e820_map *ret_map);

/* Highest start of `len` bytes of RAM, aligned down to `align` (a power of two), that ends at or below `limit`
 * and starts at or above `floor`. -ENOSPC: there is none. */
_must_check_ int e820_find_high(const struct e820_map *map, uint64_t len, uint64_t align,
				uint64_t floor, uint64_t limit, uint64_t *ret_start);

/* Lowest such start. */
_must_check_ int e820_find_low(const struct e820_map *map, uint64_t len, uint64_t align,
			       uint64_t floor, uint64_t limit, uint64_t *ret_start);

/* True when [start, start + len) is RAM in one range of the map. */
bool e820_is_ram(const struct e820_map *map, uint64_t start, uint64_t len);
