/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What both ends of a mirror's ring (block/mirror.h) reckon alike. */

#include "block/mirror.h"

static inline bool mirror_is_ring_size(uint64_t bytes)
{
	return bytes >= MIRROR_RING_MIN && bytes <= MIRROR_RING_MAX && !(bytes & (bytes - 1));
}

/* Bytes of the ring that an entry takes; 0: there is no such entry. */
static inline uint64_t mirror_entry_size(uint32_t kind, uint64_t len)
{
	if (!len)
		return 0;
	if (kind == MIRROR_ZEROES)
		return MIRROR_ALIGN;
	if (kind != MIRROR_WRITE || len > MIRROR_DATA_MAX)
		return 0;
	return MIRROR_ALIGN + ALIGN_UP(len, MIRROR_ALIGN);
}
