/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/reservation.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/endian.h"
#include "base/fd.h"
#include "base/hex.h"
#include "move/protocol.h"

static const char magic[8] = { 'U', 'T', 'S', 'U', 'J', 'O', 'I', 'N' };

#define OUR_SECONDS 5 /* for a process of ours */

static struct sockaddr_un address_of(int folder_fd, const char *id)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%.64s", folder_fd,
		 id);
	return address;
}

int reservation_make(int folder_fd, struct reservation *ret_reservation)
{
	struct reservation reservation = { .folder_fd = folder_fd };
	_cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
					     0);
	uint8_t bytes[RESERVATION_BYTES];
	struct sockaddr_un address;

	if (fd < 0)
		return -errno;
	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -EIO;
	hex_encode(bytes, sizeof(bytes), reservation.id);
	address = address_of(folder_fd, reservation.id);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    fchmodat(folder_fd, reservation.id, 0600, 0) < 0 || listen(fd, MOVE_STREAMS_MAX) < 0)
		return -errno;
	reservation.listen_fd = TAKE_FD(fd);
	*ret_reservation = reservation;
	return 0;
}

void reservation_release(struct reservation *reservation)
{
	if (reservation->listen_fd < 0)
		return;
	unlinkat(reservation->folder_fd, reservation->id, 0);
	fd_close(TAKE_FD(reservation->listen_fd));
}

static bool is_abandoned(int folder_fd, const char *id)
{
	struct sockaddr_un address = address_of(folder_fd, id);
	_cleanup_(fd_closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
					     0);

	return fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 &&
	       errno == ECONNREFUSED;
}

void reservation_forget(int folder_fd)
{
	int copy = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	uint8_t bytes[RESERVATION_BYTES];
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (hex_decode(entry->d_name, bytes, sizeof(bytes)) &&
		    is_abandoned(folder_fd, entry->d_name))
			unlinkat(folder_fd, entry->d_name, 0);
	if (dir)
		closedir(dir);
	else
		fd_close(copy);
}

/* What goes with a stream's descriptor over the reservation's socket. */
struct card {
	uint32_t index;
	uint8_t token[STREAM_TOKEN_BYTES];
};

/* One stream from one process of ours, which looked at nothing. A token that comes twice was the first's. */
static int take_stream(int listen_fd, const uint8_t (*tokens)[STREAM_TOKEN_BYTES], int *streams,
		       uint32_t n, uint32_t *n_there)
{
	_cleanup_(fd_closep) int client = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	_cleanup_(fd_closep) int stream = -1;
	struct timeval limit = { .tv_sec = OUR_SECONDS };
	struct card card;
	size_t len, n_fds = 0;
	int r;

	if (client < 0)
		return errno == EAGAIN || errno == ECONNABORTED ? 0 : -errno;
	(void)setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	r = fd_receive(client, &card, sizeof(card), &len, &stream, 1, &n_fds);
	if (r < 0 || len != sizeof(card) || n_fds != 1 || card.index >= n ||
	    streams[card.index] >= 0 ||
	    CRYPTO_memcmp(card.token, tokens[card.index], STREAM_TOKEN_BYTES) != 0)
		return 0;
	streams[card.index] = TAKE_FD(stream);
	*n_there += 1;
	return 0;
}

static int collect(struct reservation *reservation, const uint8_t (*tokens)[STREAM_TOKEN_BYTES],
		   int *streams, uint32_t n, uint64_t due_ns)
{
	uint32_t n_there = 0;

	while (n_there < n) {
		int r = fd_wait_readable(reservation->listen_fd, due_ns);

		if (r == 1)
			r = take_stream(reservation->listen_fd, tokens, streams, n, &n_there);
		if (r < 0)
			return r;
	}
	return 0;
}

int reservation_collect(struct reservation *reservation,
			const uint8_t (*tokens)[STREAM_TOKEN_BYTES], int *ret_streams, uint32_t n,
			unsigned int timeout_ms)
{
	int streams[MOVE_STREAMS_MAX], r;

	if (n > MOVE_STREAMS_MAX)
		return -E2BIG;
	for (uint32_t i = 0; i < MOVE_STREAMS_MAX; i++)
		streams[i] = -1;
	r = collect(reservation, tokens, streams, n,
		    clock_now(&clock_host) + timeout_ms * NSEC_PER_MSEC);
	for (uint32_t i = 0; i < n; i++) {
		if (r < 0)
			fd_close(streams[i]);
		else
			ret_streams[i] = streams[i];
	}
	return r;
}

/* Where the preamble's fields stand. */
enum {
	AT_ID = sizeof(magic),
	AT_INDEX = AT_ID + RESERVATION_BYTES,
	AT_TOKEN = AT_INDEX + 4,
};
static_assert(AT_TOKEN + STREAM_TOKEN_BYTES == PREAMBLE_BYTES, "a preamble ends with its token");

int reservation_begin_stream(int fd, const struct preamble *preamble)
{
	uint8_t bytes[PREAMBLE_BYTES];

	memcpy(bytes, magic, sizeof(magic));
	if (!hex_decode(preamble->id, bytes + AT_ID, RESERVATION_BYTES))
		return -EINVAL;
	le_store(bytes + AT_INDEX, 4, preamble->index);
	memcpy(bytes + AT_TOKEN, preamble->token, STREAM_TOKEN_BYTES);
	return fd_write_all(fd, bytes, sizeof(bytes));
}

int preamble_decode(const uint8_t bytes[PREAMBLE_BYTES], struct preamble *ret_preamble)
{
	struct preamble preamble = { .index = (uint32_t)le_load(bytes + AT_INDEX, 4) };

	if (memcmp(bytes, magic, sizeof(magic)) != 0 || preamble.index >= MOVE_STREAMS_MAX)
		return -EBADMSG;
	hex_encode(bytes + AT_ID, RESERVATION_BYTES, preamble.id);
	memcpy(preamble.token, bytes + AT_TOKEN, STREAM_TOKEN_BYTES);
	*ret_preamble = preamble;
	return 0;
}

/* Exactly the preamble: what follows is the stream's. */
static int read_preamble(int fd, unsigned int timeout_ms, uint8_t bytes[PREAMBLE_BYTES])
{
	const uint64_t due_ns = clock_now(&clock_host) + timeout_ms * NSEC_PER_MSEC;

	for (size_t done = 0; done < PREAMBLE_BYTES;) {
		int r = fd_wait_readable(fd, due_ns);
		ssize_t n;

		if (r < 0)
			return r;
		n = r ? recv(fd, bytes + done, PREAMBLE_BYTES - done, MSG_DONTWAIT) : 0;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (r && n == 0)
			return -ENODATA;
		done += (size_t)MAX(n, 0);
	}
	return 0;
}

int reservation_hand_in(int folder_fd, int fd, unsigned int timeout_ms)
{
	_cleanup_(fd_closep) int to = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct timeval limit = { .tv_sec = OUR_SECONDS };
	uint8_t bytes[PREAMBLE_BYTES];
	struct preamble preamble;
	struct sockaddr_un address;
	struct card card;
	int r = to < 0 ? -errno : read_preamble(fd, timeout_ms, bytes);

	if (r == 0)
		r = preamble_decode(bytes, &preamble);
	if (r < 0)
		return r;
	card.index = preamble.index;
	memcpy(card.token, preamble.token, sizeof(card.token));
	address = address_of(folder_fd, preamble.id);
	/* As many as there is room for wait to be taken; whoever comes then waits here, but not for ever. */
	(void)setsockopt(to, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(to, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return fd_send(to, &card, sizeof(card), &fd, 1);
}
