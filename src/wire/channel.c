/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/channel.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"

#define PROBE_S 10
#define UNSENT_BYTES KIB(256) /* beyond what is on the wire */
#define UNIX_BUFFER MIB(1)    /* TCP's buffers grow by themselves, and stop doing so when set */

static bool socket_option(int fd, int name, int *ret_value)
{
	socklen_t len = sizeof(*ret_value);

	return getsockopt(fd, SOL_SOCKET, name, ret_value, &len) == 0;
}

/* None of these is needed for right results: what the kernel refuses is left as it was. */
static void tune(struct channel *channel)
{
	const int on = 1, bytes = UNIX_BUFFER;

	if (channel->tcp) {
		setsockopt(channel->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		return;
	}
	if (setsockopt(channel->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(channel->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static int prepare(struct channel *channel)
{
	int type, domain, r;

	channel->socket = socket_option(channel->fd, SO_TYPE, &type);
	if (channel->socket) {
		if (type != SOCK_STREAM)
			return -EPROTOTYPE;
		channel->tcp = socket_option(channel->fd, SO_DOMAIN, &domain) && domain != AF_UNIX;
		tune(channel);
	}
	r = fd_set_nonblocking(channel->fd);
	if (r < 0)
		return r;
	channel->bell = fd_new_event();
	return channel->bell < 0 ? channel->bell : zerocopy_init(&channel->zerocopy, channel->fd);
}

int channel_open(struct channel *channel, int fd, unsigned int timeout_ms)
{
	int r;

	*channel =
		(struct channel){ .fd = fd, .bell = -1, .expected = 1, .timeout_ms = timeout_ms };
	channel->zerocopy.freed = -1;
	r = prepare(channel);
	if (r < 0)
		channel_close(channel);
	return r;
}

void channel_close(struct channel *channel)
{
	zerocopy_release(&channel->zerocopy);
	fd_close(TAKE_FD(channel->bell));
	fd_close(TAKE_FD(channel->fd));
}

/* The flag first: whoever the bell or the shutdown wakes reads it. The shutdown tells the peer at once. */
void channel_cancel(struct channel *channel)
{
	__atomic_store_n(&channel->cancelled, true, __ATOMIC_RELEASE);
	fd_signal_event(channel->bell);
	if (channel->socket)
		shutdown(channel->fd, SHUT_RDWR);
}

bool channel_cancelled(const struct channel *channel)
{
	return __atomic_load_n(&channel->cancelled, __ATOMIC_ACQUIRE);
}

/* Unset, TCP gives up after some 15 minutes with something to send, and never without. */
void channel_be_patient(struct channel *channel, unsigned int dead_ms)
{
	const int on = 1, dead = (int)dead_ms, probe_s = PROBE_S, unsent = UNSENT_BYTES;

	__atomic_store_n(&channel->timeout_ms, CHANNEL_PATIENT, __ATOMIC_RELAXED);
	if (!channel->tcp)
		return;
	setsockopt(channel->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(channel->fd, IPPROTO_TCP, TCP_KEEPIDLE, &probe_s, sizeof(probe_s));
	setsockopt(channel->fd, IPPROTO_TCP, TCP_KEEPINTVL, &probe_s, sizeof(probe_s));
	setsockopt(channel->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead, sizeof(dead));
	setsockopt(channel->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
}

static int milliseconds_until(uint64_t deadline)
{
	const uint64_t now = clock_now(&clock_host);

	if (now >= deadline)
		return 0;
	return (int)MIN((deadline - now + NSEC_PER_MSEC - 1) / NSEC_PER_MSEC, 60000U);
}

int channel_wait(struct channel *channel, short events, unsigned int timeout_ms)
{
	const uint64_t deadline = clock_now(&clock_host) + timeout_ms * NSEC_PER_MSEC;
	struct pollfd fds[] = { { channel->fd, events, 0 }, { channel->bell, POLLIN, 0 } };

	for (;;) {
		const int left = milliseconds_until(deadline);
		const int r = poll(fds, ARRAY_SIZE(fds), left);

		if (channel_cancelled(channel))
			return -ECANCELED;
		if (r < 0 && errno != EINTR)
			return -errno;
		if (r == 0 && left == 0)
			return 0;
		if (r <= 0)
			continue;
		/* An error alone is a note about zero copy, or else what the next call will tell. */
		if (fds[0].revents != POLLERR ||
		    zerocopy_reap(&channel->zerocopy, channel->fd) == 0)
			return 1;
	}
}

/* Slower than this is as good as gone: whoever sends a byte now and then would hold us for ever. */
#define FLOOR_BYTES KIB(16) /* a second */

uint64_t channel_due(const struct channel *channel, uint64_t len)
{
	return clock_now(&clock_host) + channel_timeout(channel) * NSEC_PER_MSEC +
	       len * NSEC_PER_SEC / FLOOR_BYTES;
}

/* Also since a wait began: it goes on then. */
static bool is_patient(const struct channel *channel)
{
	return channel_timeout(channel) == CHANNEL_PATIENT;
}

/* For one wait, when all must be over at `due_ns`; 0: it is. */
static unsigned int patience(const struct channel *channel, uint64_t due_ns)
{
	const unsigned int timeout_ms = channel_timeout(channel);

	if (!due_ns || timeout_ms == CHANNEL_PATIENT)
		return timeout_ms;
	return MIN(timeout_ms, (unsigned int)milliseconds_until(due_ns));
}

int channel_wait_peer(struct channel *channel, short events)
{
	int r;

	do {
		const unsigned int ms = patience(channel, channel->send_due_ns);

		r = ms ? channel_wait(channel, events, ms) : 0;
	} while (r == 0 && is_patient(channel));
	return r == 0 ? -ETIMEDOUT : MIN(r, 0);
}

#define EXPECTED_MAX KIB(128)
#define EXPECTED_MIN KIB(16) /* below, a message comes in one piece anyway */

/* The kernel wakes for the end and for errors all the same, and for less where its buffer is too small (tcp(7), SO_RCVLOWAT). */
static void expect(struct channel *channel, size_t len)
{
	const int expected = len < EXPECTED_MIN ? 1 : (int)MIN(len, EXPECTED_MAX);

	if (!channel->tcp || channel->expected == expected)
		return;
	if (setsockopt(channel->fd, SOL_SOCKET, SO_RCVLOWAT, &expected, sizeof(expected)) == 0)
		channel->expected = expected;
}

int channel_wait_bytes(struct channel *channel, short events, size_t len, unsigned int timeout_ms)
{
	int r;

	expect(channel, len);
	r = channel_wait(channel, events, timeout_ms);
	if (r == 0 && channel->expected > 1) {
		expect(channel, 1);
		r = channel_wait(channel, events, 0);
	}
	return r;
}

int channel_wait_message(struct channel *channel, short events, size_t len)
{
	int r;

	do {
		const unsigned int ms = patience(channel, channel->receive_due_ns);

		r = ms ? channel_wait_bytes(channel, events, len, ms) : 0;
	} while (r == 0 && is_patient(channel));
	return r == 0 ? -ETIMEDOUT : MIN(r, 0);
}

int channel_wait_freed(struct channel *channel)
{
	struct pollfd fds[] = {
		{ channel->fd, 0, 0 }, /* notes are an error, which poll always tells */
		{ channel->bell, POLLIN, 0 },
		{ channel->zerocopy.freed, POLLIN, 0 },
	};
	const unsigned int ms = patience(channel, channel->send_due_ns);
	const int r = poll(fds, ARRAY_SIZE(fds), (int)MIN(ms, 60000U));
	int error;

	if (channel_cancelled(channel))
		return -ECANCELED;
	if (r <= 0)
		return r == 0 ? (is_patient(channel) ? 0 : -ETIMEDOUT)
			      : (errno == EINTR ? 0 : -errno);
	if (fds[2].revents)
		fd_clear_event(channel->zerocopy.freed);
	if (zerocopy_reap(&channel->zerocopy, channel->fd) || fds[2].revents)
		return 0;
	/* Another thread took the note off, or it is an error in earnest. */
	if (socket_option(channel->fd, SO_ERROR, &error) && error)
		return -error;
	return fds[0].revents & POLLHUP ? -ECONNRESET : 0;
}

/* After a failed call. A peer that has gone has one name, whichever way it is met. */
static ssize_t failure(const struct channel *channel)
{
	const int error = errno;

	if (channel_cancelled(channel))
		return -ECANCELED;
	return error == EPIPE ? -ECONNRESET : -error;
}

ssize_t channel_send(struct channel *channel, const struct iovec *iov, unsigned int n_iov,
		     int flags)
{
	const struct msghdr msg = { .msg_iov = (struct iovec *)iov, .msg_iovlen = n_iov };
	ssize_t n;

	do {
		n = channel->socket ? sendmsg(channel->fd, &msg, flags | MSG_NOSIGNAL)
				    : writev(channel->fd, iov, (int)n_iov);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return failure(channel);
	channel->corked = flags & MSG_MORE;
	return n;
}

/* Setting TCP_NODELAY, though set already, sends what waits. */
void channel_push(struct channel *channel)
{
	const int on = 1;

	if (channel->tcp && channel->corked)
		setsockopt(channel->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	channel->corked = false;
}

ssize_t channel_receive(struct channel *channel, struct iovec *iov, unsigned int n_iov)
{
	ssize_t n;

	do {
		n = readv(channel->fd, iov, (int)n_iov);
	} while (n < 0 && errno == EINTR);
	if (n == 0 && channel_cancelled(channel))
		return -ECANCELED;
	return n < 0 ? failure(channel) : n;
}
