/* SPDX-License-Identifier: Apache-2.0 */
#include "host/huge_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "host/namespace.h"

/* The one switch that is above that of a file system. */
static bool denied(void)
{
	_cleanup_(fd_closep) int fd = open(SHMEM_ENABLED, O_RDONLY | O_CLOEXEC);
	char text[128] = { 0 };

	return fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 || strstr(text, "[deny]");
}

/* A tmpfs that is nowhere in the tree of files: descriptor of its root. */
static int make_file_system(uint64_t size)
{
	_cleanup_(fd_closep) int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	char bytes[24];
	int root;

	snprintf(bytes, sizeof(bytes), "%llu", (unsigned long long)size);
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "huge", "always", 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "size", bytes, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	root = fsmount(fs, FSMOUNT_CLOEXEC,
		       MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID);
	return root < 0 ? -errno : root;
}

static int make_file(const char *name, uint64_t size)
{
	_cleanup_(fd_closep) int root = make_file_system(size);
	_cleanup_(fd_closep) int fd = -1;

	if (root < 0)
		return root;
	fd = openat(root, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || unlinkat(root, name, 0) < 0 || ftruncate(fd, (off_t)size) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int make_file_in_namespaces(const char *name, uint64_t size)
{
	int r = namespace_own_user();

	if (r == 0 && unshare(CLONE_NEWNS) < 0)
		r = -errno;
	return r < 0 ? r : make_file(name, size);
}

/* In a child, as this process is to stay in its namespaces. The child has our table of descriptors, so that
 * the file is ours when it has told the number. */
static int make_file_in_child(const char *name, uint64_t size)
{
	int told[2], result = -ECHILD;
	ssize_t n;
	pid_t pid;

	if (pipe2(told, O_CLOEXEC) < 0)
		return -errno;
	pid = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		result = make_file_in_namespaces(name, size);
		_exit(fd_write_all(told[1], &result, sizeof(result)) < 0);
	}
	if (pid < 0) {
		result = -errno;
	} else {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		(void)!fd_set_nonblocking(told[0]);
		n = read(told[0], &result, sizeof(result));
		if (n != sizeof(result))
			result = -ECHILD;
	}
	fd_close(told[0]);
	fd_close(told[1]);
	return result;
}

int huge_file_make(const char *name, uint64_t size)
{
	int fd;

	if (denied())
		return -EOPNOTSUPP;
	fd = make_file(name, size);
	return fd == -EPERM ? make_file_in_child(name, size) : fd;
}
