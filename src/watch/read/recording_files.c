/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/read/recording_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "watch/read/recording.h"

#define SUFFIX ".utsusu"

/* NAME.utsusu is NAME.3.utsusu, anything else gets a .3; 0 is the path itself. NULL: out of memory. */
static char *path_of(const struct recording_files *files, uint32_t number)
{
	const size_t len = strlen(files->path);
	const size_t suffix = strlen(SUFFIX);
	const bool has_suffix = len > suffix && strcmp(files->path + len - suffix, SUFFIX) == 0;
	const int stem = (int)(has_suffix ? len - suffix : len);
	char *path;

	if (!number)
		return strdup(files->path);
	if (asprintf(&path, "%.*s.%u%s", stem, files->path, number, has_suffix ? SUFFIX : "") < 0)
		return NULL;
	return path;
}

static bool is_recording(const char *path)
{
	_cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	uint64_t magic = 0;
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	       fd_read_at(fd, &magic, sizeof(magic), 0) == 0 && magic == RECORDING_MAGIC;
}

/* 1: there was a file, and it is gone; 0: there was none. */
static int clear(const char *path, bool replace, struct error *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0
				       : error_set(err, -errno, EXIT_STATUS_RESOURCE, "%s: %s",
						   path, strerror(errno));
	if (!is_recording(path))
		return error_set(err, -EEXIST, EXIT_STATUS_RESOURCE,
				 "%s: there is a file that is no recording; name another", path);
	if (!replace)
		return error_set(
			err, -EEXIST, EXIT_STATUS_RESOURCE,
			"%s: there is a recording already; name another file, or delete it", path);
	if (unlink(path) < 0)
		return error_set(err, -errno, EXIT_STATUS_RESOURCE, "%s: cannot replace it: %s",
				 path, strerror(errno));
	return 1;
}

int recording_files_claim(struct recording_files *files, const char *path, bool replace,
			  struct error *err)
{
	int r = 1;

	files->path = strdup(path);
	for (uint32_t i = 0; r > 0 || i == 1; i++) {
		_cleanup_(freep) char *name = files->path ? path_of(files, i) : NULL;

		r = name ? clear(name, replace, err)
			 : error_set(err, -ENOMEM, EXIT_STATUS_HOST, "%s: out of memory", path);
		if (r < 0)
			return r;
	}
	return 0;
}

void recording_files_release(struct recording_files *files)
{
	free(files->path);
	files->path = NULL;
}

int recording_files_create(const struct recording_files *files)
{
	int fd = open(files->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

/* Never over a file that somebody else put there meanwhile. */
static int move(const struct recording_files *files, uint32_t from, uint32_t to)
{
	_cleanup_(freep) char *old = path_of(files, from);
	_cleanup_(freep) char *new = path_of(files, to);

	if (!old || !new)
		return -ENOMEM;
	if (renameat2(AT_FDCWD, old, AT_FDCWD, new, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS) /* file systems that do not know the flag */
		return -errno;
	return rename(old, new) < 0 ? -errno : 0;
}

static int delete_oldest(struct recording_files *files)
{
	_cleanup_(freep) char *path = path_of(files, files->older);

	if (!path)
		return -ENOMEM;
	if (unlink(path) < 0 && errno != ENOENT)
		return -errno;
	files->older--;
	return 0;
}

/* A file that its owner took away leaves a gap, no more. */
static int move_up(const struct recording_files *files)
{
	for (uint32_t i = files->older + 1; i-- > 0;) {
		int r = move(files, i, i + 1);

		if (r < 0 && !(r == -ENOENT && i))
			return r;
	}
	return 0;
}

int recording_files_shift(struct recording_files *files, uint32_t keep)
{
	_cleanup_(freep) char *path = NULL;
	int r = 0;

	if (keep == 1) {
		path = path_of(files, 0);
		return !path ? -ENOMEM : unlink(path) < 0 ? -errno : 0;
	}
	while (r == 0 && keep && files->older + 1 >= keep)
		r = delete_oldest(files);
	if (r == 0)
		r = move_up(files);
	if (r == 0)
		files->older++;
	return r;
}
