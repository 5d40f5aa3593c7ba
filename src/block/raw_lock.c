/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Who has the disk. An OFD lock belongs to an open file, not to a process, so the kernel does not tell a
 * PID: the processes that this user may look into are asked instead, on the way to an error message only.
 */

#include "block/raw_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

struct holder {
	char target[4096]; /* what /proc says that the disk's descriptor points to */
	int self;	   /* our own descriptor, which is not the holder */
	long pid;
	char name[32];
};

static void dir_closep(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static bool read_text(const char *path, char *text, size_t size)
{
	_cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len;

	if (fd < 0 || fd_read_all(fd, text, size - 1, &len) < 0)
		return false;
	text[len] = '\0';
	return true;
}

static bool read_target(const char *path, char *target, size_t size)
{
	ssize_t len = readlink(path, target, size - 1);

	if (len < 0)
		return false;
	target[len] = '\0';
	return true;
}

/* Whether descriptor `fd` of process `pid` is the disk, and locked. */
static bool descriptor_holds(const struct holder *holder, long pid, long fd)
{
	char path[64], target[sizeof(holder->target)], info[4096];

	if (pid == getpid() && fd == holder->self)
		return false;
	snprintf(path, sizeof(path), "/proc/%ld/fd/%ld", pid, fd);
	if (!read_target(path, target, sizeof(target)) || strcmp(target, holder->target) != 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%ld/fdinfo/%ld", pid, fd);
	return read_text(path, info, sizeof(info)) && strstr(info, "\nlock:");
}

static bool process_holds(const struct holder *holder, long pid)
{
	_cleanup_(dir_closep) DIR *dir = NULL;
	const struct dirent *entry;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%ld/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		char *end;
		long fd = strtol(entry->d_name, &end, 10);

		if (!*end && descriptor_holds(holder, pid, fd))
			return true;
	}
	return false;
}

static bool find_holder(struct holder *holder)
{
	_cleanup_(dir_closep) DIR *dir = NULL;
	const struct dirent *entry;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", holder->self);
	if (!read_target(path, holder->target, sizeof(holder->target)))
		return false;
	dir = opendir("/proc");
	while (dir && (entry = readdir(dir))) {
		char *end;
		long pid = strtol(entry->d_name, &end, 10);

		if (*end || !process_holds(holder, pid))
			continue;
		holder->pid = pid;
		snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
		if (!read_text(path, holder->name, sizeof(holder->name)))
			return false;
		holder->name[strcspn(holder->name, "\n")] = '\0';
		return true;
	}
	return false;
}

int raw_busy(int fd, const char *path, bool readonly, struct error *err)
{
	struct holder holder = { .self = fd };
	char who[96] = "another process or the kernel (a mount, LVM, ...)";

	if (fd >= 0 && find_holder(&holder))
		snprintf(who, sizeof(who), "process %ld (%s)", holder.pid, holder.name);
	return error_set(err, -EBUSY, EXIT_STATUS_BUSY, "disk %s: %s is using it%s", path, who,
			 readonly ? " for writing; wait until it has ended"
				  : "; stop that first, or give readonly=on to every user of it");
}

int raw_own(struct block *block, bool own, struct error *err)
{
	struct raw *raw = container_of(block, struct raw, block);
	int r = fd_lock(raw->fd, !own ? F_UNLCK : block->geometry.readonly ? F_RDLCK : F_WRLCK);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_BUSY,
				 "disk %s: cannot be taken over: %s; see who has it on the hosts "
				 "that share it",
				 raw->path, r == -EBUSY ? "another has it" : strerror(-r));
	/* What this host read before is of a time when another wrote. Where nothing is cached this does nothing. */
	if (own)
		(void)posix_fadvise(raw->fd, 0, 0, POSIX_FADV_DONTNEED);
	return 0;
}

int raw_lock(int fd, const char *path, bool readonly, struct error *err)
{
	int r = fd_lock(fd, readonly ? F_RDLCK : F_WRLCK);

	if (r == -EBUSY)
		return raw_busy(fd, path, readonly, err);
	if (r < 0)
		return error_set(
			err, r, EXIT_STATUS_RESOURCE,
			"disk %s: cannot be locked: %s; a file system with locks is needed", path,
			strerror(-r));
	return 0;
}
