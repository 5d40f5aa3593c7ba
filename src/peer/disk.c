/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/disk.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/cleanup.h"
#include "base/fd.h"

/* Below /sys/dev/block/MAJOR:MINOR, the surest first. */
static const char *const identities[] = {
	"wwid",	       /* NVMe: NGUID, EUI-64 */
	"device/wwid", /* SCSI: WWN */
	"dm/uuid",     /* device mapper: multipath and LVM have lasting ones */
	"serial",      /* virtio */
	"device/serial",
};

static bool read_word(const char *path, char *ret_text, size_t size)
{
	_cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;

	if (fd < 0 || fd_read_all(fd, ret_text, size - 1, &len) < 0)
		return false;
	ret_text[len] = '\0';
	/* One line; what follows the last letter is padding. */
	ret_text[strcspn(ret_text, "\n")] = '\0';
	for (len = strlen(ret_text); len && isspace((unsigned char)ret_text[len - 1]); len--)
		ret_text[len - 1] = '\0';
	for (size_t i = 0; ret_text[i]; i++)
		if (!isprint((unsigned char)ret_text[i]))
			ret_text[i] = '?';
	return ret_text[0];
}

/* Of the whole disk in the folder `sys`; a partition's whole disk is one above. */
static void find_identity(const char *sys, char *ret_text, size_t size)
{
	ret_text[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(identities) && !ret_text[0]; i++) {
		char path[128];

		snprintf(path, sizeof(path), "%s/%s", sys, identities[i]);
		if (!read_word(path, ret_text, size))
			ret_text[0] = '\0';
	}
}

static void device_identity(dev_t device, char ret_text[PEER_DISK_IDENTITY])
{
	char sys[64], path[96], part[16], whole[PEER_DISK_IDENTITY - 24];

	snprintf(sys, sizeof(sys), "/sys/dev/block/%u:%u", major(device), minor(device));
	snprintf(path, sizeof(path), "%s/partition", sys);
	if (!read_word(path, part, sizeof(part))) {
		find_identity(sys, ret_text, PEER_DISK_IDENTITY);
		return;
	}
	snprintf(path, sizeof(path), "%s/..", sys);
	find_identity(path, whole, sizeof(whole));
	ret_text[0] = '\0';
	if (whole[0])
		snprintf(ret_text, PEER_DISK_IDENTITY, "%s-part%s", whole, part);
}

static int open_disk(const char *path, int flags, struct stat *ret_stat)
{
	_cleanup_(fd_closep) int fd = open(path,
					   flags | O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 || fstat(fd, ret_stat) < 0)
		return -errno;
	if (!S_ISREG(ret_stat->st_mode) && !S_ISBLK(ret_stat->st_mode))
		return -EINVAL;
	return TAKE_FD(fd);
}

static int look(int fd, const struct stat *st, struct peer_disk *ret_disk)
{
	struct peer_disk disk = { .device = S_ISBLK(st->st_mode) };

	disk.size = (uint64_t)st->st_size;
	disk.allocated = (uint64_t)st->st_blocks * 512;
	if (disk.device && ioctl(fd, BLKGETSIZE64, &disk.size) < 0)
		return -errno;
	if (disk.device)
		disk.allocated = disk.size;
	if (disk.device)
		device_identity(st->st_rdev, disk.identity);
	*ret_disk = disk;
	return 0;
}

int disk_look(const char *path, struct peer_disk *ret_disk)
{
	struct stat st;
	_cleanup_(fd_closep) int fd = open_disk(path, 0, &st);

	return fd < 0 ? fd : look(fd, &st, ret_disk);
}

bool disk_is_locked(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/* A device whose VM is on another host is free here. */
bool disk_is_in_use(const char *path)
{
	int fd = open(path, O_RDONLY | O_EXCL | O_CLOEXEC | O_NONBLOCK);
	bool busy = fd < 0 && errno == EBUSY;

	fd_close(fd);
	return busy;
}

static int other_disk(const char *name, const char *path, const struct peer_disk *ours,
		      const struct peer_disk *theirs, struct error *err)
{
	if (ours->device != theirs->device)
		return error_set(
			err, -EINVAL, EXIT_STATUS_RESOURCE,
			"disk %s: is %s there and %s (%s) here; let both lists name the same disk",
			name, theirs->device ? "a device" : "a file",
			ours->device ? "a device" : "a file", path);
	if (ours->size != theirs->size)
		return error_set(
			err, -EINVAL, EXIT_STATUS_RESOURCE,
			"disk %s: has %llu bytes there and %llu here (%s): these are two disks; "
			"let both lists name the same one",
			name, (unsigned long long)theirs->size, (unsigned long long)ours->size,
			path);
	return error_set(
		err, -EINVAL, EXIT_STATUS_RESOURCE,
		"disk %s: is %s there and %s here (%s): these are two disks; let both lists "
		"name the same one",
		name, theirs->identity[0] ? theirs->identity : "without a serial",
		ours->identity[0] ? ours->identity : "without a serial", path);
}

static int compare(const char *name, const char *path, int fd, const struct peer_disk *ours,
		   const struct peer_disk *theirs, bool readonly, struct error *err)
{
	if (ours->device != theirs->device || ours->size != theirs->size ||
	    strcmp(ours->identity, theirs->identity) != 0)
		return other_disk(name, path, ours, theirs, err);
	if (ours->device && !readonly && disk_is_in_use(path))
		return error_set(
			err, -EBUSY, EXIT_STATUS_BUSY,
			"disk %s: %s is in use here (mounted, or another VM's); set it free", name,
			path);
	if (!ours->device && !disk_is_locked(fd))
		return error_set(
			err, -EINVAL, EXIT_STATUS_RESOURCE,
			"disk %s: the lock of the running VM is not seen on %s: it is another "
			"file, or on a file system whose locks do not reach over hosts (NFS: "
			"local_lock, nolock); put the disk where both hosts see one file",
			name, path);
	return 0;
}

int disk_compare(const char *name, const char *path, const struct peer_disk *theirs, bool readonly,
		 struct error *err)
{
	struct stat st;
	_cleanup_(fd_closep) int fd = open_disk(path, 0, &st);
	struct peer_disk ours;
	int r = fd < 0 ? fd : look(fd, &st, &ours);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "disk %s: %s: %s; make it seen here, or correct this host's list",
				 name, path, strerror(-r));
	return compare(name, path, fd, &ours, theirs, readonly, err);
}
