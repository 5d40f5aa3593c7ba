/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/disk_copy.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define EDGE MIB(1) /* of a device, at both ends: tables, superblocks and labels are there */

static int cannot(const struct list_disk *here, const char *what, int r, struct error *err)
{
	return error_set(err, r, EXIT_STATUS_RESOURCE, "disk %s: %s cannot be %s: %s", here->name,
			 here->path, what, strerror(-r));
}

static int judge_size(const struct list_disk *here, const struct peer_disk *ours,
		      const struct peer_disk *theirs, struct error *err)
{
	if (ours->size == theirs->size || (!ours->device && ours->size == 0))
		return 0;
	return error_set(
		err, -EINVAL, EXIT_STATUS_RESOURCE,
		"disk %s: has %llu bytes there and %llu here (%s): a copy needs the same size%s",
		here->name, (unsigned long long)theirs->size, (unsigned long long)ours->size,
		here->path, ours->device ? "" : ", or an empty file: truncate -s 0 FILE");
}

/* The same one under two names would be overwritten with itself while it changes. */
static int judge_use(const struct list_disk *here, int fd, const struct peer_disk *ours,
		     const struct peer_disk *theirs, struct error *err)
{
	if (ours->identity[0] && strcmp(ours->identity, theirs->identity) == 0)
		return error_set(err, -EINVAL, EXIT_STATUS_RESOURCE,
				 "disk %s: %s is the very disk that the VM has there (%s): take "
				 "\"copy\" out of this host's list",
				 here->name, here->path, ours->identity);
	if (disk_is_locked(fd) || (ours->device && disk_is_in_use(here->path)))
		return error_set(
			err, -EBUSY, EXIT_STATUS_BUSY,
			"disk %s: %s is in use (mounted, or a VM's, here or on a host that shares "
			"it); set it free",
			here->name, here->path);
	return 0;
}

static int edge_is_empty(int fd, uint64_t offset, size_t len)
{
	_cleanup_(freep) uint8_t *bytes = malloc(EDGE);
	int r = bytes ? fd_read_at(fd, bytes, len, offset) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < len; i++)
		if (bytes[i])
			return 0;
	return r < 0 ? r : 1;
}

/* 1, 0, or negative errno. */
static int is_empty(int fd, const struct peer_disk *ours)
{
	size_t edge = MIN(ours->size, (uint64_t)EDGE);
	off_t data;
	int r;

	if (!ours->device) {
		data = lseek(fd, 0, SEEK_DATA);
		return data >= 0 ? 0 : errno == ENXIO ? 1 : -errno;
	}
	r = edge_is_empty(fd, 0, edge);
	return r != 1 ? r : edge_is_empty(fd, ours->size - edge, edge);
}

static int judge_content(const struct list_disk *here, int fd, const struct peer_disk *ours,
			 struct error *err)
{
	int r = is_empty(fd, ours);

	if (r < 0)
		return cannot(here, "read", r, err);
	return r ? 0
		 : error_set(err, -ENOTEMPTY, EXIT_STATUS_RESOURCE,
			     "disk %s: %s holds something already; if that may be lost, add "
			     "\"overwrite\": true to it in %.200s",
			     here->name, here->path, lists_path());
}

static int judge_room(const struct list_disk *here, int fd, const struct peer_disk *ours,
		      const struct peer_disk *theirs, struct error *err)
{
	struct statvfs room;
	uint64_t free_bytes;

	if (ours->device || fstatvfs(fd, &room) < 0)
		return 0;
	free_bytes = (uint64_t)room.f_bavail * room.f_frsize + ours->allocated;
	if (free_bytes >= theirs->allocated)
		return 0;
	return error_set(err, -ENOSPC, EXIT_STATUS_RESOURCE,
			 "disk %s: holds %llu MiB there and %s has room for %llu MiB; free some",
			 here->name, (unsigned long long)(theirs->allocated / MIB(1)), here->path,
			 (unsigned long long)(free_bytes / MIB(1)));
}

static int open_kind(const char *path, int flags, struct stat *ret_stat)
{
	_cleanup_(fd_closep) int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 || fstat(fd, ret_stat) < 0)
		return -errno;
	if (!S_ISREG(ret_stat->st_mode) && !S_ISBLK(ret_stat->st_mode))
		return -ENOTBLK;
	/* Whoever gets it waits for the disk. */
	if (fcntl(fd, F_SETFL, 0) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int disk_copy_judge(const struct list_disk *here, const struct peer_disk *theirs, bool incomplete,
		    struct error *err)
{
	struct peer_disk ours;
	struct stat st;
	_cleanup_(fd_closep) int fd = open_kind(here->path, O_RDWR, &st);
	int r = fd < 0 ? fd : disk_look(here->path, &ours);

	if (r == -ENOENT)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "disk %s: %s is not there; make it: truncate -s %llu %s",
				 here->name, here->path, (unsigned long long)theirs->size,
				 here->path);
	if (r < 0)
		return cannot(here, "opened to be written", r, err);
	r = judge_size(here, &ours, theirs, err);
	if (r == 0)
		r = judge_use(here, fd, &ours, theirs, err);
	if (r == 0 && !here->overwrite && !incomplete && ours.size)
		r = judge_content(here, fd, &ours, err);
	return r < 0 ? r : judge_room(here, fd, &ours, theirs, err);
}

int disk_copy_open(const struct list_disk *here, const struct peer_disk *theirs, int *ret_fd,
		   struct error *err)
{
	struct stat st;
	_cleanup_(fd_closep) int fd = open_kind(here->path, O_RDWR, &st);
	int r;

	if (fd < 0)
		return cannot(here, "opened to be written", fd, err);
	r = fd_lock(fd, F_WRLCK);
	if (r < 0)
		return cannot(here, "locked", r, err);
	if (S_ISREG(st.st_mode) && st.st_size == 0 && ftruncate(fd, (off_t)theirs->size) < 0)
		return cannot(here, "made as large as the VM's", -errno, err);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int disk_copy_read(const char *path, int *ret_fd, struct error *err)
{
	struct stat st;
	_cleanup_(fd_closep) int fd = open_kind(path, O_RDONLY, &st);

	if (fd < 0)
		return error_set(err, fd, EXIT_STATUS_RESOURCE,
				 "disk %s: cannot be opened to be copied: %s", path, strerror(-fd));
	/* The running VM holds its lock. */
	if (!disk_is_locked(fd))
		return error_set(
			err, -ESTALE, EXIT_STATUS_RESOURCE,
			"disk %s: is not what the VM has by this name; put the VM's own file back "
			"there",
			path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}
