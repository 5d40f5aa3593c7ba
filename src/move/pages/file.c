/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/map_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "move/pages/zero.h"

#define READ_BYTES KIB(64) /* at once, when holes are found by reading */

static int check_size(int fd, uint64_t bytes, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set(err, -errno, EXIT_STATUS_FAILED, "move: memory's file: %s",
				 strerror(errno));
	/* Whole words of the bitmap, and so no bit that stands for nothing. */
	if (!bytes || bytes > LIMIT_MEMORY || !IS_ALIGNED(bytes, 64 * PAGE_BYTES) ||
	    (uint64_t)st.st_size < bytes)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "move: memory's file does not hold %llu bytes of memory",
				 (unsigned long long)bytes);
	return 0;
}

int page_file_open(int fd, uint64_t bytes, struct page_file *ret_file, struct error *err)
{
	struct statfs fs;
	void *ram;
	int r = check_size(fd, bytes, err);

	if (r < 0)
		return r;
	if (fstatfs(fd, &fs) < 0)
		return error_set(err, -errno, EXIT_STATUS_FAILED, "move: memory's file: %s",
				 strerror(errno));
	ram = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (ram == MAP_FAILED)
		return error_set(err, -errno, EXIT_STATUS_HOST, "move: cannot map memory: %s",
				 strerror(errno));
	(void)!madvise(ram, bytes, MADV_DONTDUMP); /* the guest's secrets */
	*ret_file = (struct page_file){
		.fd = fd,
		.bytes = bytes,
		.hugetlb = fs.f_type == HUGETLBFS_MAGIC,
		.block = (uint64_t)fs.f_bsize,
		.ram = ram,
	};
	return 0;
}

void page_file_close(struct page_file *file)
{
	if (file->ram)
		munmap((void *)file->ram, file->bytes);
	file->ram = NULL;
}

/* tmpfs: the file system knows. */
static int walk_seek(struct page_file *file, int (*found)(void *ctx, uint64_t start, uint64_t end),
		     void *ctx)
{
	off_t start, end = 0;

	while ((uint64_t)end < file->bytes) {
		int r;

		start = lseek(file->fd, end, SEEK_DATA);
		if (start < 0)
			return errno == ENXIO ? 0 : -errno;
		if ((uint64_t)start >= file->bytes)
			return 0;
		end = lseek(file->fd, start, SEEK_HOLE);
		if (end < 0)
			return -errno;
		r = found(ctx, (uint64_t)start, MIN((uint64_t)end, file->bytes));
		if (r < 0)
			return r;
	}
	return 0;
}

/* A userfaultfd over our mapping that has the kernel tell apart a page that only this mapping lacks from one that there is not.
 * For user faults only, so nobody needs a privilege; negative errno where there is none. */
static int probe_open(struct page_file *file)
{
	_cleanup_(fd_closep) int fd = (int)syscall(SYS_userfaultfd,
						   O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MINOR_HUGETLBFS };
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)file->ram, .len = file->bytes },
		.mode = UFFDIO_REGISTER_MODE_MINOR,
	};

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0 || ioctl(fd, UFFDIO_REGISTER, &range) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* 1: there is a page at `offset` (and our mapping has it now), 0: a hole. */
static int probe(int fd, const struct page_file *file, uint64_t offset)
{
	struct uffdio_continue page = {
		.range = { .start = (uintptr_t)file->ram + offset, .len = file->block },
	};
	int r;

	do
		r = ioctl(fd, UFFDIO_CONTINUE, &page);
	while (r < 0 && (errno == EAGAIN || errno == EINTR));
	if (r == 0 || errno == EEXIST)
		return 1;
	return errno == EFAULT ? 0 : -errno;
}

/* Reads the file's page at `offset` until something is not zero: 1, else 0. */
static int read_page(const struct page_file *file, uint64_t offset, uint8_t *buf)
{
	for (uint64_t at = offset; at < offset + file->block; at += READ_BYTES) {
		ssize_t n = pread(file->fd, buf, READ_BYTES, (off_t)at);

		if (n != READ_BYTES)
			return n < 0 ? -errno : -EIO;
		for (size_t i = 0; i < READ_BYTES; i += PAGE_BYTES)
			if (!page_is_zero(buf + i))
				return 1;
	}
	return 0;
}

/* hugetlbfs: page by page, asked through a userfaultfd, or read. */
static int walk_pages(struct page_file *file, int (*found)(void *ctx, uint64_t start, uint64_t end),
		      void *ctx)
{
	_cleanup_(fd_closep) int fd = probe_open(file);
	_cleanup_(freep) uint8_t *buf = aligned_alloc(PAGE_BYTES, READ_BYTES);

	if (!buf)
		return -ENOMEM;
	for (uint64_t at = 0; at < file->bytes; at += file->block) {
		int r = fd >= 0 ? probe(fd, file, at) : -EOPNOTSUPP;

		if (r < 0)
			r = read_page(file, at, buf);
		if (r > 0)
			r = found(ctx, at, MIN(at + file->block, file->bytes));
		if (r < 0)
			return r;
	}
	return 0;
}

int page_file_walk(struct page_file *file, int (*found)(void *ctx, uint64_t start, uint64_t end),
		   void *ctx)
{
	return file->hugetlb ? walk_pages(file, found, ctx) : walk_seek(file, found, ctx);
}
