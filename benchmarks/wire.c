/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams by themselves, for benchmarks/wire.py: what 1 KiB costs both ends together over loopback, in nanoseconds of CPU time.
 *
 *   wire stream     pages of a file, each MiB behind a small header, as a move sends them
 *   wire loop       the same bytes by send and recv
 *   wire tls        the first, over TLS
 *   wire openssl    the second, by SSL_write and SSL_read of 16 KiB with one cipher suite, as openssl's own tools do
 *   wire cipher     sealed and opened by that suite's cipher alone
 *
 * Prints one number: the median of several rounds.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>

#include "base/fd.h"
#include "wire/stream.h"
#include "wire/tls.h"

#define ROUNDS 5
#define RAM MIB(64)
#define RUN MIB(1)
#define PASSES 16 /* over all of RAM, in one round */
#define RECORD KIB(16)
#define HEADER 32
#define TIMEOUT 10000

struct end {
	int fd;
	enum stream_role role;
	uint8_t *ram;
	int file;
	void (*main)(struct end *end);
	struct stream *stream;
	SSL *ssl;
};

static const struct stream_key key = { "bench", { 1 } };

static void must(bool good, const char *what)
{
	if (good)
		return;
	fprintf(stderr, "wire: %s failed\n", what);
	exit(1);
}

/* --- one thread each for the end that sends and the one that receives --- */

static void give_stream(struct end *end)
{
	static const uint8_t header[HEADER];
	const struct iovec iov = { (void *)header, sizeof(header) };

	for (uint64_t at = 0; at < PASSES * RAM; at += RUN)
		must(stream_send(end->stream, &iov, 1, true) == 0 &&
			     stream_send_pages(end->stream, end->ram + at % RAM, RUN) == 0,
		     "stream_send");
	must(stream_flush(end->stream) == 0, "stream_flush");
}

static void take_stream(struct end *end)
{
	uint8_t header[HEADER];

	for (uint64_t at = 0; at < PASSES * RAM; at += RUN)
		must(stream_receive(end->stream, header, sizeof(header)) == 0 &&
			     stream_receive(end->stream, end->ram + at % RAM, RUN) == 0,
		     "stream_receive");
}

static void open_plain(struct end *end)
{
	must(stream_plain(end->fd, TIMEOUT, &end->stream) == 0, "stream_plain");
}

static void open_tls(struct end *end)
{
	must(stream_tls(end->fd, end->role, &key, TIMEOUT, &end->stream, NULL) == 0, "stream_tls");
}

static void give_loop(struct end *end)
{
	for (uint64_t at = 0; at < PASSES * RAM; at += RUN)
		must(fd_write_all(end->fd, end->ram + at % RAM, RUN) == 0, "send");
}

static void take_loop(struct end *end)
{
	for (uint64_t at = 0; at < PASSES * RAM; at += RUN)
		must(recv(end->fd, end->ram + at % RAM, RUN, MSG_WAITALL) == RUN, "recv");
}

static void open_openssl(struct end *end)
{
	must(tls_new(end->role, &key, &end->ssl) == 0, "tls_new");
	SSL_set_read_ahead(end->ssl, 0);
	must(SSL_set_fd(end->ssl, end->fd) == 1 && SSL_do_handshake(end->ssl) == 1, "handshake");
}

static void give_openssl(struct end *end)
{
	for (uint64_t at = 0; at < PASSES * RAM; at += RECORD)
		must(SSL_write(end->ssl, end->ram + at % RAM, RECORD) == RECORD, "SSL_write");
}

static void take_openssl(struct end *end)
{
	for (uint64_t at = 0; at < PASSES * RAM;) {
		int n = SSL_read(end->ssl, end->ram + at % RAM, (int)RECORD);

		must(n > 0, "SSL_read");
		at += (uint64_t)n;
	}
}

static void no_step(struct end *end _unused_)
{
}

/* Both ends' part of the cipher, on one of the threads. */
static void seal_and_open(struct end *end)
{
	static const uint8_t nonce[12], secret[16];
	uint8_t sealed[RECORD + 16];
	EVP_CIPHER_CTX *contexts[2] = { EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_new() };
	int n;

	for (int i = 0; i < 2; i++)
		must(EVP_CipherInit_ex(contexts[i], EVP_aes_128_gcm(), NULL, secret, nonce, i),
		     "cipher");
	for (uint64_t at = 0; at < PASSES * RAM; at += RECORD) {
		uint8_t *bytes = end->ram + at % RAM;

		must(EVP_CipherInit_ex(contexts[1], NULL, NULL, NULL, nonce, 1) &&
			     EVP_CipherUpdate(contexts[1], sealed, &n, bytes, RECORD) &&
			     EVP_CipherFinal_ex(contexts[1], sealed, &n) &&
			     EVP_CIPHER_CTX_ctrl(contexts[1], EVP_CTRL_AEAD_GET_TAG, 16,
						 sealed + RECORD),
		     "sealing");
		must(EVP_CipherInit_ex(contexts[0], NULL, NULL, NULL, nonce, 0) &&
			     EVP_CipherUpdate(contexts[0], bytes, &n, sealed, RECORD) &&
			     EVP_CIPHER_CTX_ctrl(contexts[0], EVP_CTRL_AEAD_SET_TAG, 16,
						 sealed + RECORD) &&
			     EVP_CipherFinal_ex(contexts[0], sealed, &n) > 0,
		     "opening");
	}
	EVP_CIPHER_CTX_free(contexts[0]);
	EVP_CIPHER_CTX_free(contexts[1]);
}

static const struct way {
	const char *name;
	void (*open)(struct end *end);
	void (*give)(struct end *end);
	void (*take)(struct end *end);
} ways[] = {
	{ "stream", open_plain, give_stream, take_stream },
	{ "loop", no_step, give_loop, take_loop },
	{ "tls", open_tls, give_stream, take_stream },
	{ "openssl", open_openssl, give_openssl, take_openssl },
	{ "cipher", no_step, seal_and_open, no_step },
};

/* --- --- */

static void connect_ends(struct end ends[2])
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	const int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(at);

	must(bind(listening, (struct sockaddr *)&at, len) == 0 && listen(listening, 1) == 0,
	     "listen");
	must(getsockname(listening, (struct sockaddr *)&at, &len) == 0, "getsockname");
	ends[0] = (struct end){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	must(connect(ends[0].fd, (struct sockaddr *)&at, len) == 0, "connect");
	ends[1] = (struct end){ .fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC) };
	must(ends[1].fd >= 0, "accept");
	fd_close(listening);
	ends[0].role = STREAM_CONNECTS;
	ends[1].role = STREAM_ACCEPTS;
}

static void make_ram(struct end *end)
{
	end->file = memfd_create("ram", MFD_CLOEXEC);
	must(end->file >= 0 && ftruncate(end->file, RAM) == 0, "memfd");
	end->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_SHARED, end->file, 0);
	must(end->ram != MAP_FAILED, "mmap");
	memset(end->ram, 0x5a, RAM);
}

static void release(struct end *end)
{
	SSL_free(end->ssl);
	if (end->stream)
		stream_free(end->stream);
	else
		fd_close(end->fd);
	munmap(end->ram, RAM);
	fd_close(end->file);
}

static void *end_main(void *ctx)
{
	struct end *end = ctx;

	end->main(end);
	return NULL;
}

static void run_both(struct end ends[2], void (*first)(struct end *end),
		     void (*second)(struct end *end))
{
	pthread_t thread;

	ends[1].main = second;
	must(pthread_create(&thread, NULL, end_main, &ends[1]) == 0, "pthread_create");
	first(&ends[0]);
	pthread_join(thread, NULL);
}

static double cpu_ns(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return 1e9 * (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
	       1e3 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

static double measure(const struct way *way)
{
	struct end ends[2];
	double begin, taken;

	connect_ends(ends);
	make_ram(&ends[0]);
	make_ram(&ends[1]);
	run_both(ends, way->open, way->open);
	begin = cpu_ns();
	run_both(ends, way->give, way->take);
	taken = cpu_ns() - begin;
	release(&ends[0]);
	release(&ends[1]);
	return taken / (PASSES * RAM / KIB(1));
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	double taken[ROUNDS];

	signal(SIGPIPE, SIG_IGN);
	for (unsigned int i = 0; argc == 2 && i < ARRAY_SIZE(ways); i++) {
		if (strcmp(argv[1], ways[i].name) != 0)
			continue;
		for (unsigned int round = 0; round < ROUNDS; round++)
			taken[round] = measure(&ways[i]);
		qsort(taken, ROUNDS, sizeof(taken[0]), compare);
		printf("%.2f\n", taken[ROUNDS / 2]);
		return 0;
	}
	fprintf(stderr, "usage: wire stream|loop|tls|openssl|cipher\n");
	return 2;
}
