/* SPDX-License-Identifier: Apache-2.0 */
/* Streams over TLS: both ways at once, keys that change meanwhile, and a clear error for whatever does not fit. */
#include "wire_rig.h"

#include <signal.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/clock.h"
#include "wire/frame.h"

#define QUICK_TIMEOUT 300 /* where it is the deadline that ends a test's wait */

static const struct stream_key right_key = { "move/0", { 1, 2, 3, 4 } };

/* One end's handshake, on a thread of its own. */
struct shaker {
	int fd;
	enum stream_role role;
	struct stream_key key;
	unsigned int timeout_ms;
	int result;
	struct stream *stream; /* NULL unless it came about */
	struct error err;
	pthread_t thread;
};

static void *shaker_main(void *ctx)
{
	struct shaker *shaker = ctx;

	shaker->result = stream_tls(shaker->fd, shaker->role, &shaker->key, shaker->timeout_ms,
				    &shaker->stream, &shaker->err);
	return NULL;
}

static void shaker_start(struct shaker *shaker, int fd, enum stream_role role,
			 const struct stream_key *key)
{
	*shaker = (struct shaker){ .fd = fd, .role = role, .key = *key, .timeout_ms = RIG_TIMEOUT };
	assert_int_equal(pthread_create(&shaker->thread, NULL, shaker_main, shaker), 0);
}

static int shaker_join(struct shaker *shaker)
{
	pthread_join(shaker->thread, NULL);
	return shaker->result;
}

/* [0] connects, [1] accepts. */
static void shake(const struct stream_key *connects, const struct stream_key *accepts,
		  struct shaker ret_ends[2])
{
	int fds[2];

	tcp_pair(fds);
	shaker_start(&ret_ends[0], fds[0], STREAM_CONNECTS, connects);
	shaker_start(&ret_ends[1], fds[1], STREAM_ACCEPTS, accepts);
	shaker_join(&ret_ends[0]);
	shaker_join(&ret_ends[1]);
}

static void tls_pair(struct stream *ret_ends[2])
{
	struct shaker ends[2];

	shake(&right_key, &right_key, ends);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ends[i].result, 0);
		ret_ends[i] = ends[i].stream;
	}
}

static void bytes_come_out_as_they_went_in(void **state _unused_)
{
	static const size_t lengths[] = { 1, 24, 16383, 16384, 16385, 40000, 16384 * 3 };
	uint8_t bytes[16384 * 3];
	struct stream *ends[2];

	fill_pattern(bytes, sizeof(bytes), 1);
	tls_pair(ends);
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		const struct iovec iov[] = { { bytes, lengths[i] / 3 },
					     { bytes + lengths[i] / 3,
					       lengths[i] - lengths[i] / 3 } };
		struct receiver receiver;

		receiver_start(&receiver, ends[i % 2], lengths[i]);
		assert_int_equal(stream_send(ends[1 - i % 2], iov, 2, false), 0);
		receiver_expect(&receiver, bytes);
	}
	free_pair(ends);
}

static void held_bytes_go_with_the_next(void **state _unused_)
{
	struct stream *ends[2];
	char got[4];

	tls_pair(ends);
	assert_int_equal(send_bytes(ends[0], "ab", 2, true), 0);
	assert_int_equal(stream_wait(ends[1], 20), 0);
	assert_int_equal(send_bytes(ends[0], "c", 1, true), 0);
	assert_int_equal(stream_flush(ends[0]), 0);
	assert_int_equal(stream_wait(ends[1], RIG_TIMEOUT), 1);
	assert_int_equal(stream_receive(ends[1], got, 2), 0);
	assert_int_equal(stream_wait(ends[1], 0), 1);
	assert_int_equal(stream_receive(ends[1], got + 2, 1), 0);
	assert_memory_equal(got, "abc", 3);
	free_pair(ends);
}

static void frames_and_pages_go_over_tls(void **state _unused_)
{
	struct frame_writer writer = { 0 };
	const struct frame sent = { 5, 0, (uint32_t)MIB(1) };
	struct receiver receiver;
	struct stream *ends[2];
	struct ram ram;

	make_ram(&ram, MIB(1));
	tls_pair(ends);
	writer.stream = ends[0];
	receiver_start(&receiver, ends[1], FRAME_HEADER_BYTES + ram.len);
	assert_int_equal(frame_send_header(&writer, &sent), 0);
	assert_int_equal(stream_send_pages(ends[0], ram.map, ram.len), 0);
	assert_int_equal(stream_flush(ends[0]), 0);
	assert_int_equal(receiver_join(&receiver), 0);
	assert_memory_equal(receiver.bytes + FRAME_HEADER_BYTES, ram.map, ram.len);
	free(receiver.bytes);
	free_pair(ends);
	release_ram(&ram);
}

static void counts_tell_what_tls_adds(void **state _unused_)
{
	static const uint8_t bytes[100000];
	struct stream_counts sent, received;
	struct receiver receiver;
	struct stream *ends[2];

	tls_pair(ends);
	receiver_start(&receiver, ends[1], sizeof(bytes));
	assert_int_equal(send_bytes(ends[0], bytes, sizeof(bytes), false), 0);
	receiver_expect(&receiver, bytes);
	stream_counts(ends[0], &sent);
	stream_counts(ends[1], &received);
	assert_int_equal(sent.sent, sizeof(bytes));
	assert_int_equal(received.received, sizeof(bytes));
	assert_int_equal(sent.wire_sent, received.wire_received);
	assert_int_equal(sent.rekeys, 0);
	assert_in_range(sent.wire_sent, sizeof(bytes) + 7 * 22, sizeof(bytes) + 2000);
	free_pair(ends);
}

struct flood {
	struct stream *stream;
	const uint8_t *bytes;
	size_t len;
	int result;
};

/* In pieces of many lengths, some of them held. */
static void *flood_main(void *ctx)
{
	struct flood *flood = ctx;
	size_t done = 0;

	for (uint32_t seed = 1; done < flood->len && flood->result == 0;) {
		const size_t n = MIN(seed % 50000, flood->len - done);

		flood->result = send_bytes(flood->stream, flood->bytes + done, n, seed & 1);
		done += n;
		seed = (seed * 1664525 + 1013904223) >> 3;
	}
	if (flood->result == 0)
		flood->result = stream_flush(flood->stream);
	return NULL;
}

static void flood_both_ways(size_t len, uint64_t rekey_bytes, struct stream_counts ret_counts[2])
{
	uint8_t *bytes = malloc(len);
	struct receiver receivers[2];
	struct flood floods[2];
	struct stream *ends[2];
	pthread_t threads[2];

	fill_pattern(bytes, len, 9);
	tls_pair(ends);
	for (int i = 0; i < 2; i++) {
		if (rekey_bytes)
			stream_tls_set_rekey(ends[i], rekey_bytes);
		floods[i] = (struct flood){ ends[i], bytes, len, 0 };
		receiver_start(&receivers[i], ends[i], len);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, flood_main, &floods[i]), 0);
	for (int i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(floods[i].result, 0);
		receiver_expect(&receivers[i], bytes);
		stream_counts(ends[i], &ret_counts[i]);
	}
	free_pair(ends);
	free(bytes);
}

static void both_directions_flow_at_once(void **state _unused_)
{
	struct stream_counts counts[2];

	flood_both_ways(MIB(24), 0, counts);
	assert_int_equal(counts[0].received, MIB(24));
	assert_int_equal(counts[1].received, MIB(24));
	assert_int_equal(counts[0].rekeys + counts[1].rekeys, 0);
}

static void keys_change_while_both_directions_flow(void **state _unused_)
{
	struct stream_counts counts[2];

	flood_both_ways(MIB(8), KIB(64), counts);
	assert_true(counts[0].rekeys >= 128);
	assert_true(counts[1].rekeys >= 128);
}

static void short_records_count_as_long_ones_towards_a_new_key(void **state _unused_)
{
	struct stream_counts counts;
	struct stream *ends[2];
	char got[8];

	tls_pair(ends);
	stream_tls_set_rekey(ends[0], KIB(32));
	for (int i = 0; i < 8; i++)
		assert_int_equal(send_bytes(ends[0], "x", 1, false), 0);
	assert_int_equal(stream_receive(ends[1], got, 8), 0);
	stream_counts(ends[0], &counts);
	assert_int_equal(counts.rekeys, 4);
	free_pair(ends);
}

static void wrong_keys_are_refused_on_both_sides(void **state _unused_)
{
	struct stream_key other = right_key;
	struct shaker ends[2];

	other.secret[31] ^= 1;
	shake(&right_key, &other, ends);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ends[i].result, -EPROTO);
		assert_int_equal(ends[i].err.code, -EPROTO);
		assert_non_null(strstr(ends[i].err.message, "does not fit this move's key"));
		assert_null(ends[i].stream);
	}
}

static void wrong_identity_looks_like_a_wrong_key(void **state _unused_)
{
	struct stream_key other = right_key;
	struct shaker ends[2];

	strcpy(other.identity, "move/1");
	shake(&right_key, &other, ends);
	assert_int_equal(ends[0].result, -EPROTO);
	assert_int_equal(ends[1].result, -EPROTO);
	assert_string_equal(ends[0].err.message, ends[1].err.message);
}

static void identity_without_an_end_is_our_own_mistake(void **state _unused_)
{
	struct stream_key endless;
	struct stream *stream;
	int fds[2];

	memset(&endless, 'x', sizeof(endless));
	tcp_pair(fds);
	assert_int_equal(stream_tls(fds[0], STREAM_CONNECTS, &endless, RIG_TIMEOUT, &stream, NULL),
			 -EINVAL);
	close(fds[1]);
}

/* What a peer without TLS sends to either side. */
static void plaintext_and_garbage_are_refused(void **state _unused_)
{
	static const enum stream_role roles[] = { STREAM_CONNECTS, STREAM_ACCEPTS };
	uint8_t garbage[4096];

	fill_pattern(garbage, sizeof(garbage), 3);
	memcpy(garbage, "GET / HTTP/1.1\r\n", 16);
	for (size_t i = 0; i < 4; i++) {
		struct shaker shaker;
		int fds[2];

		tcp_pair(fds);
		shaker_start(&shaker, fds[0], roles[i % 2], &right_key);
		assert_int_equal(fd_write_all(fds[1], garbage + (i < 2 ? 0 : 64), 2048), 0);
		assert_int_equal(shaker_join(&shaker), -EPROTO);
		close(fds[1]);
	}
}

static void silent_peer_meets_the_deadline(void **state _unused_)
{
	struct stream *stream;
	struct error err = { 0 };
	int fds[2];

	tcp_pair(fds);
	assert_int_equal(stream_tls(fds[0], STREAM_ACCEPTS, &right_key, 50, &stream, &err),
			 -ETIMEDOUT);
	assert_non_null(strstr(err.message, "did not answer in time"));
	close(fds[1]);
}

/* A byte now and then must not keep a handshake alive. */
static void dripping_peer_meets_the_same_deadline(void **state _unused_)
{
	static const uint8_t drip[] = { 22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3 };
	const uint64_t begin = clock_now(&clock_host);
	struct shaker shaker;
	int fds[2];

	tcp_pair(fds);
	shaker = (struct shaker){ .fd = fds[0],
				  .role = STREAM_ACCEPTS,
				  .timeout_ms = QUICK_TIMEOUT };
	shaker.key = right_key;
	assert_int_equal(pthread_create(&shaker.thread, NULL, shaker_main, &shaker), 0);
	for (size_t i = 0; i < 1000 && clock_now(&clock_host) - begin < 400 * NSEC_PER_MSEC; i++) {
		if (i < sizeof(drip))
			(void)!send(fds[1], &drip[i], 1, MSG_NOSIGNAL);
		usleep(30000);
	}
	assert_int_equal(shaker_join(&shaker), -ETIMEDOUT);
	close(fds[1]);
}

static void peer_that_leaves_the_handshake_is_told(void **state _unused_)
{
	struct stream *stream;
	struct error err = { 0 };
	int fds[2];

	tcp_pair(fds);
	close(fds[1]);
	assert_int_equal(stream_tls(fds[0], STREAM_CONNECTS, &right_key, RIG_TIMEOUT, &stream,
				    &err),
			 -ECONNRESET);
	assert_non_null(strstr(err.message, "closed the connection"));
}

/* A certificate and no key of the move: whoever stands between two hosts can make one. */
struct impostor {
	int fd;
	SSL_CTX *context;
	pthread_t thread;
};

static void *impostor_main(void *ctx)
{
	struct impostor *impostor = ctx;
	SSL *ssl = SSL_new(impostor->context);

	SSL_set_fd(ssl, impostor->fd);
	SSL_accept(ssl);
	SSL_free(ssl);
	return NULL;
}

static SSL_CTX *certified_context(void)
{
	SSL_CTX *context = SSL_CTX_new(TLS_server_method());
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();

	assert_non_null(context);
	assert_non_null(key);
	X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_set_pubkey(certificate, key);
	assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
	assert_int_equal(SSL_CTX_use_certificate(context, certificate), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(context, key), 1);
	X509_free(certificate);
	EVP_PKEY_free(key);
	return context;
}

static void certificate_instead_of_the_key_is_refused(void **state _unused_)
{
	struct impostor impostor = { .context = certified_context() };
	struct stream *stream;
	struct error err = { 0 };
	int fds[2];

	tcp_pair(fds);
	impostor.fd = fds[1];
	assert_int_equal(pthread_create(&impostor.thread, NULL, impostor_main, &impostor), 0);
	assert_int_equal(stream_tls(fds[0], STREAM_CONNECTS, &right_key, RIG_TIMEOUT, &stream,
				    &err),
			 -EPROTO);
	pthread_join(impostor.thread, NULL);
	SSL_CTX_free(impostor.context);
	close(fds[1]);
}

static void end_is_told_from_a_cut(void **state _unused_)
{
	struct stream *ends[2];
	char got[4];

	tls_pair(ends);
	assert_int_equal(send_bytes(ends[0], "abc", 3, false), 0);
	stream_free(ends[0]);
	assert_int_equal(stream_receive(ends[1], got, 2), 0);
	assert_int_equal(stream_receive(ends[1], got, 2), -ECONNRESET);
	assert_int_equal(stream_wait(ends[1], 0), 1);
	assert_int_equal(stream_receive(ends[1], got, 1), -ENODATA);
	stream_free(ends[1]);
}

/* Between the ends of a stream stands a wire that can be cut and that can lie. */
struct wire {
	struct shaker ends[2];
	int fds[2]; /* [i] leads to ends[i] */
	size_t allowed; /* bytes from ends[0] that pass; then one is damaged, or it is the end. Atomic */
	bool damage;
	pthread_t threads[2];
};

/* How much of what came from ends[0] goes on. */
static size_t meddle(struct wire *wire, uint8_t *bytes, size_t n, size_t done)
{
	const size_t allowed = __atomic_load_n(&wire->allowed, __ATOMIC_SEQ_CST);

	if (done > allowed || n <= allowed - done)
		return n;
	if (!wire->damage)
		return allowed - done;
	bytes[allowed - done] ^= 4;
	return n;
}

static void pass_all(struct wire *wire, int from)
{
	size_t done = 0, passed;
	uint8_t bytes[4096];
	ssize_t n;

	do {
		n = recv(wire->fds[from], bytes, sizeof(bytes), 0);
		if (n <= 0)
			break;
		passed = from == 0 ? meddle(wire, bytes, (size_t)n, done) : (size_t)n;
		done += passed;
		if (fd_write_all(wire->fds[1 - from], bytes, passed) < 0)
			break;
	} while (passed == (size_t)n);
	shutdown(wire->fds[0], SHUT_RDWR);
	shutdown(wire->fds[1], SHUT_RDWR);
}

static void *pass_forth(void *wire)
{
	pass_all(wire, 0);
	return NULL;
}

static void *pass_back(void *wire)
{
	pass_all(wire, 1);
	return NULL;
}

static void wire_start(struct wire *wire, size_t allowed, bool damage)
{
	int near[2], far[2];

	tcp_pair(near);
	tcp_pair(far);
	*wire = (struct wire){ .fds = { near[1], far[1] }, .allowed = allowed, .damage = damage };
	assert_int_equal(pthread_create(&wire->threads[0], NULL, pass_forth, wire), 0);
	assert_int_equal(pthread_create(&wire->threads[1], NULL, pass_back, wire), 0);
	shaker_start(&wire->ends[0], near[0], STREAM_CONNECTS, &right_key);
	shaker_start(&wire->ends[1], far[0], STREAM_ACCEPTS, &right_key);
	shaker_join(&wire->ends[0]);
	shaker_join(&wire->ends[1]);
}

static void wire_end(struct wire *wire)
{
	stream_free(wire->ends[0].stream);
	stream_free(wire->ends[1].stream);
	for (int i = 0; i < 2; i++) {
		pthread_join(wire->threads[i], NULL);
		close(wire->fds[i]);
	}
}

static void damaged_bytes_are_found(void **state _unused_)
{
	static uint8_t bytes[100000];
	struct receiver receiver;
	struct wire wire;
	char got;

	wire_start(&wire, 50000, true);
	assert_int_equal(wire.ends[1].result, 0);
	receiver_start(&receiver, wire.ends[1].stream, sizeof(bytes));
	assert_int_equal(send_bytes(wire.ends[0].stream, bytes, sizeof(bytes), false), 0);
	assert_int_equal(receiver_join(&receiver), -EPROTO);
	free(receiver.bytes);
	assert_int_equal(stream_receive(wire.ends[1].stream, &got, 1), -EPROTO);
	/* The other side is told by an alert's code. */
	assert_int_equal(stream_receive(wire.ends[0].stream, &got, 1), -EPROTO);
	wire_end(&wire);
}

/* Between any two records, or inside one: never taken for the end. */
static void cut_is_never_an_end(void **state _unused_)
{
	static uint8_t bytes[16384 * 3];
	const size_t record = 16384 + 22;

	for (size_t k = 0; k < 6; k++) {
		struct stream_counts counts;
		struct receiver receiver;
		struct stream *ends[2];
		struct wire wire;

		wire_start(&wire, SIZE_MAX, false);
		ends[0] = wire.ends[0].stream;
		ends[1] = wire.ends[1].stream;
		stream_counts(ends[0], &counts);
		__atomic_store_n(&wire.allowed, counts.wire_sent + record * (k / 2) + (k % 2) * 100,
				 __ATOMIC_SEQ_CST);
		receiver_start(&receiver, ends[1], sizeof(bytes));
		(void)!send_bytes(ends[0], bytes, sizeof(bytes), false);
		assert_int_equal(receiver_join(&receiver), -ECONNRESET);
		free(receiver.bytes);
		wire_end(&wire);
	}
}

/* Each cut of the handshake ends both sides with an error. */
static void handshake_cut_anywhere_fails(void **state _unused_)
{
	for (size_t allowed = 0; allowed < 240; allowed += 23) {
		struct wire wire;

		wire_start(&wire, allowed, false);
		assert_true(wire.ends[1].result < 0);
		wire_end(&wire);
	}
}

static void handshake_damaged_anywhere_fails(void **state _unused_)
{
	for (size_t at = 0; at < 200; at += 17) {
		struct wire wire;

		wire_start(&wire, at, true);
		/* A flipped bit of the first record's version is ignored (RFC 8446, 5.1), and is nobody's loss. */
		if (at != 0)
			assert_true(wire.ends[1].result < 0);
		wire_end(&wire);
	}
}

static void *cancel_soon(void *stream)
{
	usleep(20000);
	stream_cancel(stream);
	return NULL;
}

static void cancel_wakes_both_threads(void **state _unused_)
{
	static const uint8_t bytes[65536];
	struct receiver receiver;
	struct stream *ends[2];
	pthread_t thread;
	int r = 0;

	tls_pair(ends);
	receiver_start(&receiver, ends[0], 1);
	assert_int_equal(pthread_create(&thread, NULL, cancel_soon, ends[0]), 0);
	while (r == 0)
		r = send_bytes(ends[0], bytes, sizeof(bytes), false);
	assert_int_equal(r, -ECANCELED);
	assert_int_equal(receiver_join(&receiver), -ECANCELED);
	assert_int_equal(send_bytes(ends[0], bytes, 1, false), -ECANCELED);
	free(receiver.bytes);
	pthread_join(thread, NULL);
	free_pair(ends);
}

static void sender_without_a_reader_meets_the_deadline(void **state _unused_)
{
	static const uint8_t bytes[65536];
	struct shaker ends[2];
	int fds[2], r = 0;

	tcp_pair(fds);
	shaker_start(&ends[0], fds[0], STREAM_CONNECTS, &right_key);
	ends[1] = (struct shaker){ .fd = fds[1], .role = STREAM_ACCEPTS, .key = right_key };
	ends[1].timeout_ms = QUICK_TIMEOUT;
	assert_null(shaker_main(&ends[1]));
	assert_int_equal(shaker_join(&ends[0]), 0);
	assert_int_equal(ends[1].result, 0);
	while (r == 0)
		r = send_bytes(ends[1].stream, bytes, sizeof(bytes), false);
	assert_int_equal(r, -ETIMEDOUT);
	stream_free(ends[0].stream);
	stream_free(ends[1].stream);
}

/* More than OpenSSL has numbers for, one after the other: nothing of a stream stays behind. */
static void streams_come_and_go(void **state _unused_)
{
	struct stream *ends[2];

	for (int i = 0; i < 150; i++) {
		tls_pair(ends);
		free_pair(ends);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_come_out_as_they_went_in),
		cmocka_unit_test(held_bytes_go_with_the_next),
		cmocka_unit_test(frames_and_pages_go_over_tls),
		cmocka_unit_test(counts_tell_what_tls_adds),
		cmocka_unit_test(both_directions_flow_at_once),
		cmocka_unit_test(keys_change_while_both_directions_flow),
		cmocka_unit_test(short_records_count_as_long_ones_towards_a_new_key),
		cmocka_unit_test(wrong_keys_are_refused_on_both_sides),
		cmocka_unit_test(wrong_identity_looks_like_a_wrong_key),
		cmocka_unit_test(identity_without_an_end_is_our_own_mistake),
		cmocka_unit_test(plaintext_and_garbage_are_refused),
		cmocka_unit_test(silent_peer_meets_the_deadline),
		cmocka_unit_test(dripping_peer_meets_the_same_deadline),
		cmocka_unit_test(peer_that_leaves_the_handshake_is_told),
		cmocka_unit_test(certificate_instead_of_the_key_is_refused),
		cmocka_unit_test(end_is_told_from_a_cut),
		cmocka_unit_test(damaged_bytes_are_found),
		cmocka_unit_test(cut_is_never_an_end),
		cmocka_unit_test(handshake_cut_anywhere_fails),
		cmocka_unit_test(handshake_damaged_anywhere_fails),
		cmocka_unit_test(cancel_wakes_both_threads),
		cmocka_unit_test(sender_without_a_reader_meets_the_deadline),
		cmocka_unit_test(streams_come_and_go),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
