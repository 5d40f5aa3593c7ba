/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/zerocopy.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

#define COPIED_ENOUGH 8 /* notes: a packet capture may make the kernel copy a few */

static bool socket_has_zerocopy(int fd)
{
	const int on = 1;

	return setsockopt(fd, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)) == 0;
}

int zerocopy_init(struct zerocopy *z, int fd)
{
	*z = (struct zerocopy){ .lock = PTHREAD_MUTEX_INITIALIZER, .freed = -1 };
	if (!socket_has_zerocopy(fd))
		return 0;
	z->freed = fd_new_event();
	return MIN(z->freed, 0);
}

void zerocopy_release(struct zerocopy *z)
{
	fd_close(TAKE_FD(z->freed));
}

bool zerocopy_usable(struct zerocopy *z)
{
	bool usable;

	if (z->freed < 0)
		return false;
	pthread_mutex_lock(&z->lock);
	usable = z->copied < COPIED_ENOUGH;
	pthread_mutex_unlock(&z->lock);
	return usable;
}

bool zerocopy_has_room(struct zerocopy *z, uint32_t len)
{
	bool room;

	pthread_mutex_lock(&z->lock);
	room = z->pinned + len <= ZEROCOPY_PINNED_MAX &&
	       z->bytes[z->next % ZEROCOPY_CALLS_MAX] == 0;
	pthread_mutex_unlock(&z->lock);
	return room;
}

void zerocopy_begin(struct zerocopy *z, uint32_t len)
{
	pthread_mutex_lock(&z->lock);
	z->bytes[z->next++ % ZEROCOPY_CALLS_MAX] = len;
	z->calls++;
	z->pinned += len;
	pthread_mutex_unlock(&z->lock);
}

void zerocopy_end(struct zerocopy *z, uint32_t len)
{
	uint32_t *bytes;

	pthread_mutex_lock(&z->lock);
	bytes = &z->bytes[(z->next - 1) % ZEROCOPY_CALLS_MAX];
	if (len == 0) {
		z->next--;
		z->calls--;
	}
	if (*bytes) { /* not over already */
		z->pinned -= *bytes - len;
		*bytes = len;
	}
	pthread_mutex_unlock(&z->lock);
}

bool zerocopy_idle(struct zerocopy *z)
{
	bool idle;

	if (z->freed < 0)
		return true;
	pthread_mutex_lock(&z->lock);
	idle = z->calls == 0;
	pthread_mutex_unlock(&z->lock);
	return idle;
}

/* Calls `first` to `last` are over. The numbers wrap; the kernel names none twice. */
static void finish_calls(struct zerocopy *z, uint32_t first, uint32_t last, bool copied)
{
	const uint32_t n = last - first + 1;

	if (n > z->calls)
		return;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t *bytes = &z->bytes[(first + i) % ZEROCOPY_CALLS_MAX];

		z->pinned -= *bytes;
		*bytes = 0;
	}
	z->calls -= n;
	z->copied = copied ? z->copied + n : 0;
}

static const struct sock_extended_err *find_note(struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c))
		if ((c->cmsg_level == SOL_IP && c->cmsg_type == IP_RECVERR) ||
		    (c->cmsg_level == SOL_IPV6 && c->cmsg_type == IPV6_RECVERR))
			return (const struct sock_extended_err *)CMSG_DATA(c);
	return NULL;
}

static bool reap_one(struct zerocopy *z, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[256];
	} control;
	struct msghdr msg = { .msg_control = &control, .msg_controllen = sizeof(control) };
	const struct sock_extended_err *note;

	if (recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
		return false;
	note = find_note(&msg);
	if (note && note->ee_origin == SO_EE_ORIGIN_ZEROCOPY)
		finish_calls(z, note->ee_info, note->ee_data,
			     note->ee_code & SO_EE_CODE_ZEROCOPY_COPIED);
	return true;
}

unsigned int zerocopy_reap(struct zerocopy *z, int fd)
{
	unsigned int n = 0;

	if (z->freed < 0)
		return 0;
	pthread_mutex_lock(&z->lock);
	while (n < ZEROCOPY_CALLS_MAX && reap_one(z, fd))
		n++;
	pthread_mutex_unlock(&z->lock);
	if (n)
		fd_signal_event(z->freed);
	return n;
}
