/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Storage (protect/storage.h) in memory that keeps all: what lies beyond its size is asserted never to be asked for. Who includes this says
 * before by MEMORY_STORAGE_BYTES how large the largest is. */

#include <assert.h>
#include <string.h>

#include "base/buffer.h"
#include "protect/storage.h"

struct memory_storage {
	struct storage storage;
	uint8_t bytes[MEMORY_STORAGE_BYTES];
};

static inline uint8_t *memory_place(struct storage *storage, uint64_t offset, uint64_t len)
{
	assert(range_fits(offset, len, storage->size));
	return container_of(storage, struct memory_storage, storage)->bytes + offset;
}

static inline int memory_storage_read(struct storage *storage, void *buf, size_t len,
				      uint64_t offset)
{
	memcpy(buf, memory_place(storage, offset, len), len);
	return 0;
}

static inline int memory_storage_write(struct storage *storage, const void *buf, size_t len,
				       uint64_t offset)
{
	memcpy(memory_place(storage, offset, len), buf, len);
	return 0;
}

static inline int memory_storage_zero(struct storage *storage, uint64_t offset, uint64_t len,
				      bool unmap _unused_)
{
	memset(memory_place(storage, offset, len), 0, len);
	return 0;
}

static inline int memory_storage_sync(struct storage *storage _unused_)
{
	return 0;
}

static const struct storage_ops memory_storage_ops = {
	.read = memory_storage_read,
	.write = memory_storage_write,
	.zero = memory_storage_zero,
	.sync = memory_storage_sync,
};
