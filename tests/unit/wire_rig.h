/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Connected descriptors, a file of RAM, and a thread at the other end, for tests of src/wire. */

#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "wire/stream.h"

#define RIG_TIMEOUT 10000

static inline void unix_pair(int ret_fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret_fds), 0);
}

/* Connected over loopback. */
static inline void tcp_pair(int ret_fds[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(at);
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(listening >= 0);
	assert_int_equal(bind(listening, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listening, 1), 0);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&at, &len), 0);
	ret_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(ret_fds[0], (struct sockaddr *)&at, sizeof(at)), 0);
	ret_fds[1] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	assert_true(ret_fds[1] >= 0);
	close(listening);
}

static inline void plain_pair(void (*connect_pair)(int ret_fds[2]), struct stream *ret_ends[2])
{
	int fds[2];

	connect_pair(fds);
	for (int i = 0; i < 2; i++)
		assert_int_equal(stream_plain(fds[i], RIG_TIMEOUT, &ret_ends[i]), 0);
}

static inline void free_pair(struct stream *ends[2])
{
	stream_free(ends[0]);
	stream_free(ends[1]);
}

/* Bytes that differ everywhere: what is lost, doubled or moved is seen. */
static inline void fill_pattern(uint8_t *bytes, size_t len, uint64_t seed)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15 + 1;

	for (size_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		bytes[i] = (uint8_t)x;
	}
}

struct ram {
	int fd;
	uint8_t *map;
	size_t len;
};

static inline void make_ram(struct ram *ram, size_t len)
{
	*ram = (struct ram){ .fd = memfd_create("ram", MFD_CLOEXEC), .len = len };
	assert_true(ram->fd >= 0);
	assert_int_equal(ftruncate(ram->fd, (off_t)len), 0);
	ram->map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, ram->fd, 0);
	assert_ptr_not_equal(ram->map, MAP_FAILED);
	fill_pattern(ram->map, len, 7);
}

static inline void release_ram(struct ram *ram)
{
	munmap(ram->map, ram->len);
	close(ram->fd);
}

static inline int send_bytes(struct stream *stream, const void *bytes, size_t len, bool more)
{
	const struct iovec iov = { (void *)bytes, len };

	return stream_send(stream, &iov, 1, more);
}

/* Receives on a thread of its own; what came is the caller's to free. */
struct receiver {
	struct stream *stream;
	size_t len;
	uint8_t *bytes;
	int result;
	pthread_t thread;
};

static inline void *receiver_main(void *ctx)
{
	struct receiver *receiver = ctx;

	receiver->result = stream_receive(receiver->stream, receiver->bytes, receiver->len);
	return NULL;
}

static inline void receiver_start(struct receiver *receiver, struct stream *stream, size_t len)
{
	*receiver = (struct receiver){ .stream = stream, .len = len, .bytes = malloc(len + 1) };
	assert_int_equal(pthread_create(&receiver->thread, NULL, receiver_main, receiver), 0);
}

/* The result of the receive; the bytes stay until receiver_release. */
static inline int receiver_join(struct receiver *receiver)
{
	pthread_join(receiver->thread, NULL);
	return receiver->result;
}

static inline void receiver_expect(struct receiver *receiver, const void *bytes)
{
	assert_int_equal(receiver_join(receiver), 0);
	assert_memory_equal(receiver->bytes, bytes, receiver->len);
	free(receiver->bytes);
}
