/* SPDX-License-Identifier: Apache-2.0 */
#include "host/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"

#define WAY_OUT "make it, or set UTSUSU_STATE_DIR to a directory of yours"

static int state_path(char *ret_path, size_t size, struct error *err)
{
	const char *own = getenv("UTSUSU_STATE_DIR"), *xdg = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	int len;

	if (own && own[0])
		len = snprintf(ret_path, size, "%s", own);
	else if (geteuid() == 0)
		len = snprintf(ret_path, size, "/var/lib/utsusu");
	else if (xdg && xdg[0])
		len = snprintf(ret_path, size, "%s/utsusu", xdg);
	else
		len = snprintf(ret_path, size, "%s/.local/state/utsusu", home ? home : "");
	if (len >= (int)size || ret_path[0] != '/')
		return error_set(err, -EINVAL, EXIT_STATUS_HOST,
				 "state directory: %.200s is not an absolute path; set "
				 "UTSUSU_STATE_DIR to one",
				 ret_path);
	return 0;
}

bool state_dir_is_there(void)
{
	char path[4096];

	return state_path(path, sizeof(path), NULL) == 0 && access(path, F_OK) == 0;
}

/* Its parents too: a user's may have none yet. */
static int make_path(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		int r;

		*slash = '\0';
		r = mkdir(path, 0755) < 0 && errno != EEXIST ? -errno : 0;
		*slash = '/';
		if (r < 0)
			return r;
	}
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static bool is_ours_alone(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & (S_IWGRP | S_IWOTH));
}

int state_dir_open(int *ret_fd, struct error *err)
{
	_cleanup_(fd_closep) int fd = -1;
	char path[4096];
	int r = state_path(path, sizeof(path), err);

	if (r < 0)
		return r;
	r = make_path(path);
	if (r == 0)
		fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r < 0 || fd < 0) {
		r = r < 0 ? r : -errno;
		return error_set(err, r, EXIT_STATUS_HOST, "state directory: %.200s: %s; " WAY_OUT,
				 path, strerror(-r));
	}
	if (!is_ours_alone(fd))
		return error_set(
			err, -EPERM, EXIT_STATUS_HOST,
			"state directory: %.200s is not yours alone; chown it to yourself and chmod it to "
			"0700, or set UTSUSU_STATE_DIR to another",
			path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int state_dir_folder(int state_fd, const char *name, int *ret_fd)
{
	_cleanup_(fd_closep) int fd = -1;

	if (mkdirat(state_fd, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(state_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fsync(state_fd) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int write_new(int dir_fd, const char *name, const void *data, size_t len, mode_t mode)
{
	_cleanup_(fd_closep) int fd =
		openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_at(fd, data, len, 0);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r;
}

int state_dir_write(int dir_fd, const char *name, const void *data, size_t len, mode_t mode)
{
	char other[300];
	int r;

	snprintf(other, sizeof(other), ".%.255s.%d", name, (int)getpid());
	unlinkat(dir_fd, other, 0);
	r = write_new(dir_fd, other, data, len, mode);
	if (r == 0 && renameat(dir_fd, other, dir_fd, name) < 0)
		r = -errno;
	if (r == 0 && fsync(dir_fd) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dir_fd, other, 0);
	return r;
}

int state_dir_read(int dir_fd, const char *name, size_t limit, char **ret_text, size_t *ret_len)
{
	_cleanup_(fd_closep) int fd = openat(dir_fd, name,
					     O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	_cleanup_(freep) char *text = NULL;
	struct stat st;
	size_t len;
	int r;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if ((uint64_t)st.st_size > limit)
		return -EFBIG;
	text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	r = fd_read_all(fd, text, (size_t)st.st_size, &len);
	if (r < 0)
		return r;
	text[len] = '\0';
	*ret_text = TAKE_PTR(text);
	*ret_len = len;
	return 0;
}
