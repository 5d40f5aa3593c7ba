/* SPDX-License-Identifier: Apache-2.0 */
#include "view/export/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fd.h"

#define STREAM_BYTES 65536
#define STREAM_MODE 0600 /* it holds what a guest sends and stores */

struct export_stream {
	int fd; /* owned */
	int failure;
	size_t len;
	uint8_t data[STREAM_BYTES];
};

/* Whether writing to what is there loses nothing. */
static int judge(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode))
		return st.st_size ? -EEXIST : 0;
	return S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode) ? 0 : -EEXIST;
}

static int open_file(const char *path)
{
	_cleanup_(fd_closep) int fd = -1;
	int r;

	if (!strcmp(path, "-")) {
		fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
		return fd < 0 ? -errno : TAKE_FD(fd);
	}
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, STREAM_MODE);
	if (fd < 0)
		return -errno;
	r = judge(fd);
	return r < 0 ? r : TAKE_FD(fd);
}

/* Takes the descriptor. */
static int make(int fd, struct export_stream **ret_stream)
{
	struct export_stream *stream = malloc(sizeof(*stream));

	if (!stream) {
		fd_close(fd);
		return -ENOMEM;
	}
	stream->fd = fd;
	stream->failure = 0;
	stream->len = 0;
	*ret_stream = stream;
	return 0;
}

int export_stream_open(const char *path, struct export_stream **ret_stream, struct error *err)
{
	int r = open_file(path);

	if (r == -EEXIST)
		return error_set(err, r, EXIT_STATUS_RESOURCE,
				 "%s: there is something already, and an export replaces nothing; "
				 "name another file, or delete it",
				 path);
	if (r >= 0)
		r = make(r, ret_stream);
	if (r >= 0)
		return 0;
	return error_set(err, r, EXIT_STATUS_RESOURCE,
			 "%s: cannot be made: %s; name a file that you may write", path,
			 strerror(-r));
}

int export_stream_open_at(int dir_fd, const char *name, struct export_stream **ret_stream)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, STREAM_MODE);

	return fd < 0 ? -errno : make(fd, ret_stream);
}

int export_stream_flush(struct export_stream *stream)
{
	size_t len = stream->len;

	stream->len = 0;
	if (!stream->failure && len)
		stream->failure = fd_write_all(stream->fd, stream->data, len);
	return stream->failure;
}

int export_stream_write(struct export_stream *stream, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	while (len && !stream->failure) {
		size_t n = MIN(len, STREAM_BYTES - stream->len);

		memcpy(stream->data + stream->len, bytes, n);
		stream->len += n;
		bytes += n;
		len -= n;
		if (stream->len == STREAM_BYTES)
			stream->failure = export_stream_flush(stream);
	}
	return stream->failure;
}

int export_stream_close(struct export_stream *stream)
{
	int r;

	if (!stream)
		return 0;
	r = export_stream_flush(stream);
	/* Where a file system tells only now that there was no room. */
	if (close(stream->fd) < 0 && !r)
		r = -errno;
	free(stream);
	return r;
}
