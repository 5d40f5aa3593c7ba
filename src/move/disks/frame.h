/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How chunks of disks stand in frames (move/protocol.h), for both ends. */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "block/log.h"
#include "move/pages/map.h"
#include "move/pages/zero.h"
#include "move/protocol.h"
#include "wire/digest.h"

#define DISK_CHUNK_MAX (1UL << BLOCK_CHUNK_SHIFT_MAX)
#define DISK_HEAD (4 + 8 + DIGEST_BYTES) /* of DISK and DISK_PACKED: disk, offset, hash */
#define DISK_HOLE_HEAD 4
#define DISK_HOLE_RANGE 16UL
#define DISK_PASS_BYTES 5
#define DISK_PASSED_BYTES 12
#define DISK_HASH_BYTES (4 + DIGEST_BYTES)

/* `bytes` are aligned to 64; the last page may be shorter. */
static inline bool disk_bytes_are_zero(const uint8_t *bytes, size_t len)
{
	size_t at = 0;

	for (; at + PAGE_BYTES <= len; at += PAGE_BYTES)
		if (!page_is_zero(bytes + at))
			return false;
	for (; at < len; at++)
		if (bytes[at])
			return false;
	return true;
}
