/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pages_rig.h"

#define TIMEOUT_MS 10000

static uint8_t *open_memory(unsigned int flags, int *ret_fd)
{
	void *at;

	*ret_fd = memfd_create("rig", MFD_CLOEXEC | flags);
	if (*ret_fd < 0 || ftruncate(*ret_fd, RIG_BYTES) < 0)
		return NULL;
	at = mmap(NULL, RIG_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, *ret_fd, 0);
	return at == MAP_FAILED ? NULL : at;
}

static void tcp_pair(int fds[2])
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_return_code(bind(listener, (struct sockaddr *)&address, len), errno);
	assert_return_code(listen(listener, 1), errno);
	assert_return_code(getsockname(listener, (struct sockaddr *)&address, &len), errno);
	fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_return_code(connect(fds[0], (struct sockaddr *)&address, len), errno);
	fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(fds[1] >= 0);
	close(listener);
}

struct far_end {
	int fd;
	const struct stream_key *key;
	struct stream *stream;
};

static void *accept_tls(void *arg)
{
	struct far_end *far = arg;

	assert_int_equal(
		stream_tls(far->fd, STREAM_ACCEPTS, far->key, TIMEOUT_MS, &far->stream, NULL), 0);
	return NULL;
}

static void tls_pair(int fds[2], struct stream **ret_near, struct stream **ret_far)
{
	const struct stream_key key = { .identity = "rig", .secret = { 1, 2, 3 } };
	struct far_end far = { .fd = fds[1], .key = &key };
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, accept_tls, &far), 0);
	assert_int_equal(stream_tls(fds[0], STREAM_CONNECTS, &key, TIMEOUT_MS, ret_near, NULL), 0);
	pthread_join(thread, NULL);
	*ret_far = far.stream;
}

static void open_stream(struct pages_rig *rig, uint32_t i)
{
	int fds[2];

	if (rig->options.wire == RIG_SOCKETPAIR)
		assert_return_code(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), errno);
	else
		tcp_pair(fds);
	if (rig->options.wire == RIG_TLS) {
		tls_pair(fds, &rig->near[i], &rig->far[i]);
	} else {
		assert_int_equal(stream_plain(fds[0], TIMEOUT_MS, &rig->near[i]), 0);
		assert_int_equal(stream_plain(fds[1], TIMEOUT_MS, &rig->far[i]), 0);
	}
	rig->writers[i] = (struct frame_writer){ .stream = rig->near[i] };
	frame_reader_init(&rig->readers[i], rig->far[i]);
}

bool rig_open(struct pages_rig *rig, const struct rig_options *options)
{
	*rig = (struct pages_rig){ .options = *options };
	rig->from = open_memory(options->memfd_flags, &rig->from_fd);
	rig->to = open_memory(options->memfd_flags, &rig->to_fd);
	if (!rig->from || !rig->to)
		return false;
	for (uint32_t i = 0; i < options->n_streams; i++)
		open_stream(rig, i);
	return true;
}

static void *receive(void *arg)
{
	struct pages_rig *rig = arg;
	struct pages_round round = { 0 };
	struct frame frame;

	while (!round.last) {
		rig->far_result = pages_receive_round(rig->receiver, &round, &frame,
						      &rig->far_error);
		if (rig->far_result != 1)
			return NULL;
		__atomic_fetch_add(&rig->far_rounds, 1, __ATOMIC_RELEASE);
	}
	return NULL;
}

void rig_start(struct pages_rig *rig)
{
	const struct rig_options *options = &rig->options;
	struct error err = { 0 };

	line_init(&rig->line);
	assert_int_equal(page_map_new(rig->from_fd, RIG_BYTES, rig->dirty, &rig->map, &err), 0);
	assert_int_equal(page_map_add_populated(rig->map, &err), 0);
	assert_int_equal(pages_send_new(
				 &(struct pages_send_settings){
					 .map = rig->map,
					 .writers = rig->writers,
					 .n_streams = options->n_streams,
					 .line = &rig->line,
					 .compress = options->compress,
					 .max_bandwidth = options->max_bandwidth,
					 .sums = options->wire != RIG_TLS && !options->no_sums,
					 .clock = &clock_host,
				 },
				 &rig->sender, &err),
			 0);
	assert_int_equal(pages_target_new(rig->to_fd, RIG_BYTES, true, &rig->target, &err), 0);
	assert_int_equal(pages_receive_new(
				 &(struct pages_receive_settings){
					 .target = rig->target,
					 .readers = rig->readers,
					 .n_streams = options->n_streams,
					 .idle_ms = TIMEOUT_MS,
				 },
				 &rig->receiver, &err),
			 0);
	assert_int_equal(pthread_create(&rig->far_thread, NULL, receive, rig), 0);
}

void rig_close(struct pages_rig *rig)
{
	pages_send_free(rig->sender);
	pages_receive_free(rig->receiver);
	pages_target_free(rig->target);
	page_map_free(rig->map);
	line_release(&rig->line);
	for (uint32_t i = 0; i < rig->options.n_streams; i++) {
		frame_reader_release(&rig->readers[i]);
		stream_free(rig->near[i]);
		stream_free(rig->far[i]);
	}
	if (rig->from)
		munmap(rig->from, RIG_BYTES);
	if (rig->to)
		munmap(rig->to, RIG_BYTES);
	close(rig->from_fd);
	close(rig->to_fd);
}

uint64_t rig_random(uint64_t *seed)
{
	uint64_t z = *seed += 0x9e3779b97f4a7c15; /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

void rig_mark(struct pages_rig *rig, uint64_t page)
{
	__atomic_fetch_or(&rig->log[page / 64], 1ULL << (page % 64), __ATOMIC_RELEASE);
}

void rig_fill(struct pages_rig *rig, uint64_t page, uint8_t byte)
{
	memset(rig->from + page * PAGE_BYTES, byte, PAGE_BYTES);
	rig_mark(rig, page);
}

void rig_fill_random(struct pages_rig *rig, uint64_t page, uint64_t *seed)
{
	uint64_t *words = (uint64_t *)(rig->from + page * PAGE_BYTES);

	for (size_t i = 0; i < PAGE_BYTES / sizeof(*words); i++)
		words[i] = rig_random(seed);
	rig_mark(rig, page);
}

void rig_collect(struct pages_rig *rig)
{
	for (size_t i = 0; i < RIG_PAGES / 64; i++)
		__atomic_fetch_or(&rig->dirty[i],
				  __atomic_exchange_n(&rig->log[i], 0, __ATOMIC_ACQ_REL),
				  __ATOMIC_RELEASE);
}

static void receive_last(struct pages_rig *rig)
{
	pthread_join(rig->far_thread, NULL);
	assert_string_equal(rig->far_error.message, "");
	assert_int_equal(rig->far_rounds, rig->rounds);
}

void rig_round(struct pages_rig *rig, bool last)
{
	struct error err = { 0 };
	int r = 0;

	pages_send_begin(rig->sender, ++rig->rounds, last);
	while (r == 0)
		r = pages_send_wait(rig->sender, 100, &err);
	assert_string_equal(err.message, "");
	assert_int_equal(r, 1);
	if (last)
		receive_last(rig);
}

void rig_rest(struct pages_rig *rig, void *(*wanted)(void *rig))
{
	uint8_t payload[5] = { 0, 0, 0, 0, true };
	struct error err = { 0 };
	pthread_t thread;
	int r = 0;

	page_map_settle(rig->map, false);
	pages_send_rest(rig->sender, ++rig->rounds);
	assert_int_equal(pthread_create(&thread, NULL, wanted, rig), 0);
	while (r == 0)
		r = pages_send_wait(rig->sender, 100, &err);
	assert_string_equal(err.message, "");
	pthread_join(thread, NULL);
	payload[0] = (uint8_t)rig->rounds;
	assert_int_equal(frame_send(&rig->writers[0], MOVE_ROUND, payload, sizeof(payload)), 0);
	receive_last(rig);
}

void rig_wait(const struct pages_rig *rig)
{
	struct timespec pause = { .tv_nsec = 1000000 };

	while (__atomic_load_n(&rig->far_rounds, __ATOMIC_ACQUIRE) < rig->rounds)
		nanosleep(&pause, NULL);
}

uint64_t rig_compare(const struct pages_rig *rig)
{
	for (uint64_t page = 0; page < RIG_PAGES; page++)
		if (memcmp(rig->from + page * PAGE_BYTES, rig->to + page * PAGE_BYTES,
			   PAGE_BYTES) != 0)
			return page;
	return RIG_PAGES;
}

uint64_t rig_populated(int fd)
{
	struct stat st;

	assert_return_code(fstat(fd, &st), errno);
	return (uint64_t)st.st_blocks * 512 / PAGE_BYTES;
}
