/* SPDX-License-Identifier: Apache-2.0 */

/* Opening a raw file or block device: which kind, whose, how large, how aligned. */

#include "block/raw_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define MAX_TRANSFER GIB(1)
#define MAX_DISCARD MIB(256)
#define FILE_PHYSICAL_BLOCK 4096 /* what file systems write in */

static void raw_destroy(struct block *block)
{
	struct raw *raw = container_of(block, struct raw, block);

	if (raw->zeros)
		munmap((void *)raw->zeros, RAW_ZEROS);
	fd_close(raw->fd);
	free(raw->path);
	free(raw);
}

static const struct block_ops raw_ops = {
	.queue_open = raw_queue_open,
	.destroy = raw_destroy,
	.own = raw_own,
};

bool raw_is_direct(const struct block *block)
{
	return container_of(block, struct raw, block)->direct;
}

int raw_fd(const struct block *block)
{
	return container_of(block, struct raw, block)->fd;
}

static void raw_freep(struct raw **raw)
{
	if (*raw)
		raw_destroy(&(*raw)->block);
}

static int cannot(const char *path, const char *what, struct error *err)
{
	const char *way_out = "";

	if (errno == EACCES || errno == EPERM || errno == EROFS)
		way_out = "; ask for the right to it, or give readonly=on";
	else if (errno == ENOENT)
		way_out = "; create it first: truncate -s 10G FILE";
	return error_set(err, -errno, EXIT_STATUS_RESOURCE, "disk %s: cannot %s: %s%s", path, what,
			 strerror(errno), way_out);
}

/* Judged before opening as well: opening a FIFO waits, and opening a tape rewinds it. */
static int check_kind(const char *path, const struct stat *st, struct error *err)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return 0;
	return error_set(err, -ENOTBLK, EXIT_STATUS_RESOURCE,
			 "disk %s: neither a regular file nor a block device; name one of those",
			 path);
}

static int open_path(const struct raw_options *options, int *ret_fd, struct error *err)
{
	int flags = (options->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	struct stat st;
	int fd, r;

	if (stat(options->path, &st) < 0)
		return cannot(options->path, "be found", err);
	r = check_kind(options->path, &st, err);
	if (r < 0)
		return r;
	if (S_ISBLK(st.st_mode) && !options->readonly)
		flags |= O_EXCL;
	fd = open(options->path, flags);
	if (fd < 0 && errno == EBUSY) {
		_cleanup_(fd_closep) int other = open(options->path, O_RDONLY | O_CLOEXEC);

		return raw_busy(other, options->path, options->readonly, err);
	}
	if (fd < 0)
		return cannot(options->path, "be opened", err);
	*ret_fd = fd;
	return 0;
}

/* Puts the open file into the mode that requests rely on: O_NONBLOCK would make the ring refuse what has to
 * wait, O_APPEND would move every write. */
static int set_mode(struct raw *raw, const struct raw_options *options, struct error *err)
{
	int flags = fcntl(raw->fd, F_GETFL);

	if (flags < 0)
		return cannot(options->path, "be used", err);
	if (!options->readonly && (flags & O_ACCMODE) != O_RDWR) {
		errno = EACCES;
		return cannot(options->path, "be written", err);
	}
	raw->direct = options->direct && fcntl(raw->fd, F_SETFL, O_DIRECT) == 0;
	if (!raw->direct && fcntl(raw->fd, F_SETFL, 0) < 0)
		return cannot(options->path, "be used", err);
	return 0;
}

/* The smallest block that this file's O_DIRECT reads: tried, for kernels and file systems that do not tell. */
static uint32_t probe_alignment(int fd)
{
	_cleanup_(freep) void *buf = aligned_alloc(4096, 4096);

	if (buf && pread(fd, buf, 512, 0) >= 0)
		return 512;
	return 4096;
}

static void file_alignment(struct raw *raw, struct block_geometry *g)
{
	struct statx stx = { 0 };

	g->logical_block = 512;
	g->memory_alignment = 1;
	if (!raw->direct)
		return;
	if (statx(raw->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
	    (stx.stx_mask & STATX_DIOALIGN) && stx.stx_dio_offset_align) {
		g->logical_block = MAX(stx.stx_dio_offset_align, 512);
		g->memory_alignment = stx.stx_dio_mem_align;
		return;
	}
	g->logical_block = probe_alignment(raw->fd);
	g->memory_alignment = g->logical_block;
}

/* Beyond the end a hole changes nothing, and tells whether the file system can make one. */
static bool file_can_punch(int fd, uint64_t size)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)size, 4096) == 0;
}

static int file_geometry(struct raw *raw, const struct stat *st, struct block_geometry *g)
{
	g->size = (uint64_t)st->st_size;
	file_alignment(raw, g);
	g->physical_block = FILE_PHYSICAL_BLOCK;
	g->can_discard = !g->readonly && file_can_punch(raw->fd, g->size);
	return 0;
}

/* A number from the queue directory of a block device (of the whole disk, for a partition). */
static uint64_t device_limit(const struct stat *st, const char *name)
{
	static const char *const forms[] = { "/sys/dev/block/%u:%u/queue/%s",
					     "/sys/dev/block/%u:%u/../queue/%s" };
	unsigned long long value = 0;

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		char path[128];
		FILE *file;

		snprintf(path, sizeof(path), forms[i], major(st->st_rdev), minor(st->st_rdev),
			 name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fscanf(file, "%llu", &value) != 1)
			value = 0;
		fclose(file);
		break;
	}
	return value;
}

static int device_geometry(struct raw *raw, const struct stat *st, struct block_geometry *g)
{
	unsigned short rotational = 0;
	unsigned int physical = 0;
	int logical = 0, readonly = 0;

	if (ioctl(raw->fd, BLKGETSIZE64, &g->size) < 0 || ioctl(raw->fd, BLKSSZGET, &logical) < 0 ||
	    ioctl(raw->fd, BLKPBSZGET, &physical) < 0 || ioctl(raw->fd, BLKROGET, &readonly) < 0)
		return -errno;
	if (readonly && !g->readonly)
		return -EROFS;
	if (ioctl(raw->fd, BLKROTATIONAL, &rotational) == 0)
		g->rotational = rotational;
	g->logical_block = (uint32_t)logical;
	g->physical_block = MAX(physical, g->logical_block);
	g->memory_alignment = raw->direct ? g->logical_block : 1;
	/* A hole in a block device is a range of zeros that it may unmap; the kernel never writes them. */
	g->can_discard = !g->readonly && device_limit(st, "write_zeroes_max_bytes") > 0;
	return 0;
}

static int check_geometry(const char *path, const struct block_geometry *g, struct error *err)
{
	if (g->logical_block != 512 && g->logical_block != 4096)
		return error_set(err, -EOPNOTSUPP, EXIT_STATUS_RESOURCE,
				 "disk %s: blocks of %u bytes; only 512 and 4096 are supported",
				 path, g->logical_block);
	if (g->size == 0)
		return error_set(err, -EINVAL, EXIT_STATUS_RESOURCE,
				 "disk %s: empty; give it a size: truncate -s 10G FILE", path);
	if (!IS_ALIGNED(g->size, g->logical_block))
		return error_set(err, -EINVAL, EXIT_STATUS_RESOURCE,
				 "disk %s: its %llu bytes are not whole blocks of %u; "
				 "'truncate -s %%%u FILE' rounds it up",
				 path, (unsigned long long)g->size, g->logical_block,
				 g->logical_block);
	return 0;
}

static int read_geometry(struct raw *raw, const struct raw_options *options, struct error *err)
{
	struct block_geometry *g = &raw->block.geometry;
	struct stat st;
	int r;

	if (fstat(raw->fd, &st) < 0)
		return cannot(options->path, "be read", err);
	r = check_kind(options->path, &st, err);
	if (r < 0)
		return r;
	raw->is_device = S_ISBLK(st.st_mode);
	g->readonly = options->readonly;
	r = raw->is_device ? device_geometry(raw, &st, g) : file_geometry(raw, &st, g);
	if (r < 0) {
		errno = -r;
		return cannot(options->path, "be used", err);
	}
	g->can_write_zeroes = !g->readonly;
	g->max_transfer = MAX_TRANSFER;
	g->max_discard = MAX_DISCARD;
	return check_geometry(options->path, g, err);
}

static int raw_prepare(struct raw *raw, const struct raw_options *options, struct error *err)
{
	void *zeros;
	int r;

	r = set_mode(raw, options, err);
	if (r < 0)
		return r;
	if (!options->elsewhere)
		r = raw_lock(raw->fd, options->path, options->readonly, err);
	if (r < 0)
		return r;
	raw->path = strdup(options->path);
	if (!raw->path)
		return -ENOMEM;
	r = read_geometry(raw, options, err);
	if (r < 0)
		return r;
	zeros = mmap(NULL, RAW_ZEROS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (zeros == MAP_FAILED)
		return cannot(options->path, "get memory", err);
	raw->zeros = zeros;
	return 0;
}

int raw_open(const struct raw_options *options, struct block **ret_block, struct error *err)
{
	_cleanup_(raw_freep) struct raw *raw = calloc(1, sizeof(*raw));
	int r;

	if (!raw)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "disk %s: out of memory",
				 options->path);
	raw->block.ops = &raw_ops;
	raw->fd = options->fd;
	if (options->fd < 0) {
		r = open_path(options, &raw->fd, err);
		if (r < 0)
			return r;
	}
	r = raw_prepare(raw, options, err);
	if (r < 0) {
		if (options->fd >= 0)
			raw->fd = -1; /* still the caller's */
		return r;
	}
	*ret_block = &TAKE_PTR(raw)->block;
	return 0;
}
