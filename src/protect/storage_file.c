/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include "base/fd.h"
#include "protect/storage.h"

#define ZEROES_BYTES KIB(64)

static int fd_of(struct storage *storage)
{
	return container_of(storage, struct storage_file, storage)->fd;
}

static int file_read(struct storage *storage, void *buf, size_t len, uint64_t offset)
{
	return fd_read_at(fd_of(storage), buf, len, offset);
}

static int file_write(struct storage *storage, const void *buf, size_t len, uint64_t offset)
{
	return fd_write_at(fd_of(storage), buf, len, offset);
}

static int write_zeroes(int fd, uint64_t offset, uint64_t len)
{
	static const uint8_t zeroes[ZEROES_BYTES];
	int r = 0;

	for (uint64_t at = 0; r == 0 && at < len; at += sizeof(zeroes))
		r = fd_write_at(fd, zeroes, MIN(len - at, (uint64_t)sizeof(zeroes)), offset + at);
	return r;
}

/* Block devices know both ways, too; what neither file system nor device knows is written. */
static int file_zero(struct storage *storage, uint64_t offset, uint64_t len, bool unmap)
{
	int fd = fd_of(storage), way = unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

	if (fallocate(fd, way | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EINVAL && errno != ENODEV)
		return -errno;
	return write_zeroes(fd, offset, len);
}

static int file_sync(struct storage *storage)
{
	return fdatasync(fd_of(storage)) < 0 ? -errno : 0;
}

static const struct storage_ops ops = {
	.read = file_read,
	.write = file_write,
	.zero = file_zero,
	.sync = file_sync,
};

void storage_file_init(struct storage_file *file, int fd, uint64_t size)
{
	*file = (struct storage_file){ .storage = { .ops = &ops, .size = size }, .fd = fd };
}
