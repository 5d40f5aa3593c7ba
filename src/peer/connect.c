/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/cleanup.h"
#include "base/fd.h"

#define CONNECT_MS 5000
#define BACKLOG 64

static int resolve(const char *address, uint32_t port, int flags, struct addrinfo **ret_list,
		   struct error *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV };
	char text[16];
	int r;

	snprintf(text, sizeof(text), "%u", port);
	r = getaddrinfo(address, text, &hints, ret_list);
	if (r == 0)
		return 0;
	return error_set(err, -EHOSTUNREACH, EXIT_STATUS_RESOURCE,
			 "%.80s: no address is known for it: %s; give another name or its address",
			 address ? address : "this host", gai_strerror(r));
}

/* Waits for a connection that was begun. */
static int finish_connect(int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };
	socklen_t len = sizeof(int);
	int failure = 0, r;

	do {
		r = poll(&poll_fd, 1, CONNECT_MS);
	} while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r ? -errno : -ETIMEDOUT;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &len) < 0)
		return -errno;
	return -failure;
}

static int connect_one(const struct addrinfo *one, int *ret_fd)
{
	_cleanup_(fd_closep) int fd = socket(one->ai_family,
					     SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, one->ai_addr, one->ai_addrlen) < 0)
		r = errno == EINPROGRESS ? finish_connect(fd) : -errno;
	if (r < 0)
		return r;
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int connect_to(const char *address, uint32_t port, int *ret_fd, struct error *err)
{
	struct addrinfo *list = NULL;
	int r = resolve(address, port, 0, &list, err);

	if (r < 0)
		return r;
	r = -EHOSTUNREACH;
	for (struct addrinfo *one = list; one && r < 0; one = one->ai_next)
		r = connect_one(one, ret_fd);
	freeaddrinfo(list);
	return r;
}

static int listen_on(const struct addrinfo *one, int *ret_fd)
{
	_cleanup_(fd_closep) int fd = socket(one->ai_family,
					     SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1, off = 0;

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (one->ai_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	if (bind(fd, one->ai_addr, one->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* A socket of IPv6 takes IPv4 too; hosts without IPv6 get one of IPv4. */
int connect_listen(const char *address, uint32_t port, int *ret_fd, struct error *err)
{
	static const int families[] = { AF_INET6, AF_INET };
	struct addrinfo *list = NULL;
	int r = resolve(address, port, AI_PASSIVE, &list, err);

	if (r < 0)
		return r;
	r = -EADDRNOTAVAIL;
	for (size_t i = 0; i < ARRAY_SIZE(families) && r < 0; i++)
		for (struct addrinfo *one = list; one && r < 0; one = one->ai_next)
			if (one->ai_family == families[i])
				r = listen_on(one, ret_fd);
	freeaddrinfo(list);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "port %u: cannot be listened on: %s; give another --port", port,
				 strerror(-r));
	return 0;
}
