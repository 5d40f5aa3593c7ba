/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"

void fd_close(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
}

int fd_read_at(int fd, void *buf, size_t len, uint64_t offset)
{
	char *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int fd_read_blocks(int fd, void *buf, size_t len, uint64_t offset)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = pread(fd, (char *)buf + at, ALIGN_UP(len - at, FD_BLOCK_BYTES),
				  (off_t)(offset + at));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ENODATA;
		at += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int fd_read_all(int fd, void *buf, size_t len, size_t *ret_len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (char *)buf + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*ret_len = done;
	return 0;
}

int fd_write_at(int fd, const void *buf, size_t len, uint64_t offset)
{
	const char *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static ssize_t write_some(int fd, const void *buf, size_t len)
{
	ssize_t n = send(fd, buf, len, MSG_NOSIGNAL);

	if (n < 0 && errno == ENOTSOCK)
		n = write(fd, buf, len);
	return n;
}

int fd_write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = write_some(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int fd_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

bool fd_peer_is(int sock, uid_t owner)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == owner || peer.uid == 0);
}

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b; /* descriptors and -1: no overflow */
}

void fd_close_others(const int *kept, size_t n)
{
	int sorted[64];
	unsigned int from = STDERR_FILENO + 1;

	n = MIN(n, ARRAY_SIZE(sorted));
	if (n) /* `kept` may be NULL else, which memcpy must not be given */
		memcpy(sorted, kept, n * sizeof(*kept));
	qsort(sorted, n, sizeof(*sorted), compare_fds);
	for (size_t i = 0; i < n; i++) {
		if (sorted[i] < (int)from)
			continue;
		if (sorted[i] > (int)from)
			close_range(from, (unsigned int)sorted[i] - 1, 0);
		from = (unsigned int)sorted[i] + 1;
	}
	close_range(from, UINT_MAX, 0);
}

union control_buffer {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(LIMIT_DESCRIPTORS_SENT * sizeof(int))];
};

int fd_send(int sock, const void *buf, size_t len, const int *fds, size_t n_fds)
{
	union control_buffer control = { 0 };
	struct iovec iov = { .iov_base = (void *)buf, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t n;

	if (n_fds > LIMIT_DESCRIPTORS_SENT)
		return -E2BIG;
	if (n_fds) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do {
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* Moves received descriptors to `fds`; those beyond `max` are closed. */
static size_t collect_descriptors(struct msghdr *msg, int *fds, size_t max)
{
	size_t count = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		size_t n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (count < max)
				fds[count++] = fd;
			else
				fd_close(fd);
		}
	}
	return count;
}

int fd_receive(int sock, void *buf, size_t len, size_t *ret_len, int *fds, size_t max_fds,
	       size_t *ret_n_fds)
{
	union control_buffer control = { 0 };
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	size_t count;
	ssize_t n;

	do {
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	count = collect_descriptors(&msg, fds, max_fds);
	if (n == 0 || (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		while (count)
			fd_close(fds[--count]);
		return n == 0 ? -ECONNRESET : -EMSGSIZE;
	}
	*ret_len = (size_t)n;
	*ret_n_fds = count;
	return 0;
}

int fd_lock(int fd, short type)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET };

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

int fd_new_event(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

void fd_signal_event(int fd)
{
	uint64_t one = 1;

	/* EAGAIN means that the counter is full: the event is pending anyway. */
	if (write(fd, &one, sizeof(one)) < 0)
		return;
}

void fd_clear_event(int fd)
{
	uint64_t count;

	/* EAGAIN means that nothing was pending. */
	if (read(fd, &count, sizeof(count)) < 0)
		return;
}

int fd_wait_readable(int fd, uint64_t due_ns)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	uint64_t now = clock_now(&clock_host);
	int r, left = due_ns == UINT64_MAX ? -1 : (int)((due_ns - now) / NSEC_PER_MSEC) + 1;

	if (due_ns != UINT64_MAX && now >= due_ns)
		return -ETIMEDOUT;
	r = poll(&poll_fd, 1, left);
	if (r < 0)
		return errno == EINTR ? 0 : -errno;
	return r ? 1 : -ETIMEDOUT;
}
