/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A file or disk as what must survive a power cut sees it: blocking, and with one promise only. What was written before a sync that
 * returned 0 is there after a cut; of all else each sector is what it was, what was written, or anything in between. A test's
 * loses, reorders and tears; a real one is pread, pwrite and fdatasync.
 *
 * It waits for a device: for worker threads, never for a VM's control loop. Different ranges may be used by different threads at once.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

#define STORAGE_SECTOR 512U

struct storage;

struct storage_ops {
	int (*read)(struct storage *storage, void *buf, size_t len, uint64_t offset);
	int (*write)(struct storage *storage, const void *buf, size_t len, uint64_t offset);
	/* Reads as zeroes afterwards. `unmap`: its place may be given back to the host. */
	int (*zero)(struct storage *storage, uint64_t offset, uint64_t len, bool unmap);
	int (*sync)(struct storage *storage);
};

struct storage {
	const struct storage_ops *ops;
	uint64_t size; /* bytes; never asked for more than lies below */
};

/* Each returns 0 or a negative errno, after which any part of it may have been done. */
_must_check_ static inline int storage_read(struct storage *storage, void *buf, size_t len,
					    uint64_t offset)
{
	return storage->ops->read(storage, buf, len, offset);
}

_must_check_ static inline int storage_write(struct storage *storage, const void *buf, size_t len,
					     uint64_t offset)
{
	return storage->ops->write(storage, buf, len, offset);
}

_must_check_ static inline int storage_zero(struct storage *storage, uint64_t offset, uint64_t len,
					    bool unmap)
{
	return storage->ops->zero(storage, offset, len, unmap);
}

/* After a failure nobody knows what of the writes before it is durable, and asking again tells nothing: the kernel has forgotten
 * what it could not write. They are to be written again, or the storage is given up. */
_must_check_ static inline int storage_sync(struct storage *storage)
{
	return storage->ops->sync(storage);
}

struct storage_file {
	struct storage storage;
	int fd; /* borrowed */
};

/* A regular file or block device, open for reading and writing without O_DIRECT; `size`: of it. */
void storage_file_init(struct storage_file *file, int fd, uint64_t size);
