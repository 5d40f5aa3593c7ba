/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams over TLS. An SSL object takes one thread at a time, yet a stream has a sender and a receiver:
 *
 *   sender   --> [ lock: encrypt one record, give it to the socket ] --> poll for room, unlocked
 *   receiver --> [ lock: take from the socket, decrypt one record  ] --> poll for bytes, unlocked
 *
 * Nobody waits while holding the lock. What the socket does not take at once is spilled into memory, so OpenSSL never meets a
 * write that has to be repeated, whichever thread (an answer to the peer's key update, an alert) made it; before the next
 * record the sender waits until the spill is gone.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "wire/stream_private.h"
#include "wire/tls.h"

#define RECORD_BYTES KIB(16) /* the longest plaintext of a record; RFC 8446, 5.1 */
#define SPILL_BYTES KIB(64)  /* a record, and whatever small OpenSSL says by itself */

struct tls_stream {
	struct stream stream;
	struct stream_key key; /* wiped after the handshake */
	BIO_METHOD *method;
	bool settled; /* the handshake is over */

	pthread_mutex_t lock; /* a leaf; `ssl` and all of this is under it */
	SSL *ssl;
	bool more;    /* another record follows the one that is being written */
	bool ended;   /* the socket said so */
	int io_error; /* the socket's first */
	uint64_t
		keyed; /* bytes since the last change of the sending key, each record counted as a full one */
	uint64_t rekey_bytes;
	size_t spill_begin, spill_end;
	uint8_t spill[SPILL_BYTES];

	/* the sending thread's: the beginning of a record */
	size_t n_held;
	uint8_t held[RECORD_BYTES];
};

static struct tls_stream *to_tls(struct stream *stream)
{
	return container_of(stream, struct tls_stream, stream);
}

/* --- what OpenSSL reads from and writes to; under the lock --- */

static int fail_io(struct tls_stream *tls, ssize_t error)
{
	if (tls->io_error == 0)
		tls->io_error = (int)error;
	return tls->io_error;
}

static ssize_t give(struct tls_stream *tls, const void *bytes, size_t len, int flags)
{
	const struct iovec iov = { (void *)bytes, len };
	ssize_t n = channel_send(&tls->stream.channel, &iov, 1, flags);

	if (n > 0)
		stream_count(&tls->stream.counts.wire_sent, (uint64_t)n);
	return n == -EAGAIN ? 0 : n;
}

/* As much of the spill as the socket takes. */
static int drain_locked(struct tls_stream *tls)
{
	while (tls->spill_begin < tls->spill_end) {
		ssize_t n = give(tls, tls->spill + tls->spill_begin,
				 tls->spill_end - tls->spill_begin, 0);

		if (n < 0)
			return fail_io(tls, n);
		if (n == 0)
			return 0;
		tls->spill_begin += (size_t)n;
	}
	tls->spill_begin = tls->spill_end = 0;
	return 0;
}

static bool is_spilled(const struct tls_stream *tls)
{
	return tls->spill_begin < tls->spill_end;
}

static int spill(struct tls_stream *tls, const char *bytes, size_t len)
{
	if (len > SPILL_BYTES - tls->spill_end)
		return fail_io(tls, -ENOBUFS);
	memcpy(tls->spill + tls->spill_end, bytes, len);
	tls->spill_end += len;
	return 0;
}

static int bio_write(BIO *bio, const char *bytes, size_t len, size_t *ret_len)
{
	struct tls_stream *tls = BIO_get_data(bio);
	ssize_t n = is_spilled(tls) ? 0 : give(tls, bytes, len, tls->more ? MSG_MORE : 0);

	BIO_clear_retry_flags(bio);
	if (n < 0) {
		fail_io(tls, n);
		return 0;
	}
	if (spill(tls, bytes + n, len - (size_t)n) < 0)
		return 0;
	*ret_len = len;
	return 1;
}

static int bio_read(BIO *bio, char *bytes, size_t len, size_t *ret_len)
{
	struct tls_stream *tls = BIO_get_data(bio);
	struct iovec iov = { bytes, len };
	ssize_t n = channel_receive(&tls->stream.channel, &iov, 1);

	BIO_clear_retry_flags(bio);
	if (n > 0) {
		stream_count(&tls->stream.counts.wire_received, (uint64_t)n);
		*ret_len = (size_t)n;
		return 1;
	}
	if (n == -EAGAIN)
		BIO_set_retry_read(bio);
	else if (n == 0)
		tls->ended = true;
	else
		fail_io(tls, n);
	return 0;
}

static long bio_control(BIO *bio, int command, long number _unused_, void *pointer _unused_)
{
	const struct tls_stream *tls = BIO_get_data(bio);

	switch (command) {
	case BIO_CTRL_FLUSH:
		return 1;
	case BIO_CTRL_EOF:
		return tls->ended;
	default:
		return 0;
	}
}

static int attach(struct tls_stream *tls)
{
	BIO *bio;

	/* A type without a number of its own: OpenSSL has 127 of them for the whole process. */
	tls->method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream");
	if (!tls->method || !BIO_meth_set_write_ex(tls->method, bio_write) ||
	    !BIO_meth_set_read_ex(tls->method, bio_read) ||
	    !BIO_meth_set_ctrl(tls->method, bio_control))
		return -ENOMEM;
	bio = BIO_new(tls->method);
	if (!bio)
		return -ENOMEM;
	BIO_set_data(bio, tls);
	BIO_set_init(bio, 1);
	SSL_set_bio(tls->ssl, bio, bio);
	return 0;
}

/* --- one call of OpenSSL; under the lock --- */

/* Why a call gave `result`: -EAGAIN (it wants bytes), -ENODATA (the peer ended the stream), and those of stream.h. */
static int reason_locked(struct tls_stream *tls, int result)
{
	const int error = SSL_get_error(tls->ssl, result);

	ERR_clear_error();
	if (error == SSL_ERROR_WANT_READ)
		return -EAGAIN;
	if (error == SSL_ERROR_ZERO_RETURN)
		return -ENODATA;
	if (channel_cancelled(&tls->stream.channel))
		return -ECANCELED;
	if (tls->io_error)
		return tls->io_error;
	return tls->ended ? -ECONNRESET : -EPROTO;
}

static int rekey_locked(struct tls_stream *tls)
{
	int r = SSL_key_update(tls->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);

	if (r == 1)
		r = SSL_do_handshake(tls->ssl);
	if (r != 1)
		return reason_locked(tls, r);
	tls->keyed = 0;
	stream_count(&tls->stream.counts.rekeys, 1);
	return 0;
}

static int write_locked(struct tls_stream *tls, const void *bytes, size_t len)
{
	size_t n;
	int r = SSL_write_ex(tls->ssl, bytes, len, &n);

	if (r != 1)
		return reason_locked(tls, r);
	tls->keyed += RECORD_BYTES;
	return tls->keyed >= tls->rekey_bytes ? rekey_locked(tls) : 0;
}

/* --- sending --- */

/* Waits until the socket has taken the spill. */
static int drain(struct tls_stream *tls)
{
	for (;;) {
		bool left;
		int r;

		pthread_mutex_lock(&tls->lock);
		r = drain_locked(tls);
		left = is_spilled(tls);
		pthread_mutex_unlock(&tls->lock);
		if (r < 0 || !left)
			return r;
		r = channel_wait_peer(&tls->stream.channel, POLLOUT);
		if (r < 0)
			return r;
	}
}

static int send_record(struct tls_stream *tls, const void *bytes, size_t len, bool more)
{
	int r = drain(tls);

	if (r < 0)
		return r;
	pthread_mutex_lock(&tls->lock);
	tls->more = more;
	r = write_locked(tls, bytes, len);
	tls->more = false;
	pthread_mutex_unlock(&tls->lock);
	return r;
}

static int send_held(struct tls_stream *tls, bool more)
{
	int r = tls->n_held ? send_record(tls, tls->held, tls->n_held, more) : 0;

	tls->n_held = 0;
	return r;
}

/* Full records: from where the bytes lie, or from what was held when they complete it. */
static int send_some(struct tls_stream *tls, const uint8_t *bytes, size_t len)
{
	int r = 0;

	while (len && r == 0) {
		size_t n = MIN(len, RECORD_BYTES - tls->n_held);

		if (n == RECORD_BYTES) {
			r = send_record(tls, bytes, n, true);
		} else {
			memcpy(tls->held + tls->n_held, bytes, n);
			tls->n_held += n;
			if (tls->n_held == RECORD_BYTES)
				r = send_held(tls, true);
		}
		bytes += n;
		len -= n;
	}
	return r;
}

static int tls_flush(struct stream *stream)
{
	struct tls_stream *tls = to_tls(stream);
	int r = send_held(tls, false);

	if (r == 0)
		r = drain(tls);
	if (r < 0)
		return r;
	pthread_mutex_lock(&tls->lock);
	channel_push(&stream->channel);
	pthread_mutex_unlock(&tls->lock);
	return 0;
}

static int tls_send(struct stream *stream, const struct iovec *iov, unsigned int n_iov, bool more)
{
	int r = 0;

	for (unsigned int i = 0; i < n_iov && r == 0; i++)
		r = send_some(to_tls(stream), iov[i].iov_base, iov[i].iov_len);
	return r == 0 && !more ? tls_flush(stream) : r;
}

/* OpenSSL copies a record before it encrypts it, so bytes that change meanwhile do no harm. */
static int tls_send_pages(struct stream *stream, const uint8_t *bytes, uint64_t len)
{
	return send_some(to_tls(stream), bytes, len);
}

/* --- receiving --- */

/* One try: 1 with bytes, or reason_locked's. `*ret_events`: what to wait for before the next. */
static int read_once(struct tls_stream *tls, void *buf, size_t len, size_t *ret_len, bool peek,
		     short *ret_events)
{
	int r;

	pthread_mutex_lock(&tls->lock);
	r = peek ? SSL_peek_ex(tls->ssl, buf, len, ret_len)
		 : SSL_read_ex(tls->ssl, buf, len, ret_len);
	if (r != 1)
		r = reason_locked(tls, r);
	if (is_spilled(tls) && drain_locked(tls) < 0 && r == -EAGAIN)
		r = tls->io_error;
	*ret_events = is_spilled(tls) ? POLLIN | POLLOUT : POLLIN;
	pthread_mutex_unlock(&tls->lock);
	return r;
}

/* Of `len` bytes, what the wire has yet to bring: OpenSSL may hold all but the end of a record. */
static size_t still_to_come(size_t len, short events)
{
	return len > 2 * RECORD_BYTES && events == POLLIN ? len - 2 * RECORD_BYTES : 1;
}

static int tls_receive(struct stream *stream, void *buf, size_t len, size_t *ret_len)
{
	struct channel *channel = &stream->channel;

	for (;;) {
		short events;
		int r = read_once(to_tls(stream), buf, len, ret_len, false, &events);

		if (r == -ENODATA)
			*ret_len = 0;
		if (r == 1 || r == -ENODATA)
			return 0;
		if (r == -EAGAIN)
			r = channel_wait_message(channel, events, still_to_come(len, events));
		if (r < 0)
			return r;
	}
}

static int tls_wait(struct stream *stream, unsigned int timeout_ms)
{
	const uint64_t deadline = clock_now(&clock_host) + timeout_ms * NSEC_PER_MSEC;

	for (;;) {
		const uint64_t now = clock_now(&clock_host);
		uint8_t byte;
		size_t n;
		short events;
		int r = read_once(to_tls(stream), &byte, 1, &n, true, &events);

		if (r != -EAGAIN)
			return r == -ENODATA ? 1 : r;
		if (now > deadline)
			return 0;
		r = channel_wait_bytes(&stream->channel, events, 1,
				       (unsigned int)((deadline - now) / NSEC_PER_MSEC));
		if (r <= 0)
			return r;
	}
}

/* --- beginning and end --- */

static int shake_hands(struct tls_stream *tls, uint64_t deadline)
{
	struct channel *channel = &tls->stream.channel;

	for (;;) {
		const uint64_t now = clock_now(&clock_host);
		int r = SSL_do_handshake(tls->ssl);

		if (r == 1)
			return 0;
		r = reason_locked(tls, r);
		if (r != -EAGAIN)
			return r == -ENODATA ? -ECONNRESET : r;
		r = drain(tls);
		if (r == 0 && now < deadline)
			r = channel_wait(channel, POLLIN,
					 (unsigned int)((deadline - now) / NSEC_PER_MSEC));
		if (r <= 0)
			return r == 0 ? -ETIMEDOUT : r;
	}
}

/* All of the handshake together has one deadline: a peer that drips bytes gains nothing. */
static int establish(struct tls_stream *tls)
{
	const uint64_t timeout = tls->stream.channel.timeout_ms * NSEC_PER_MSEC;
	int r = shake_hands(tls, clock_now(&clock_host) + timeout);

	if (r == 0)
		r = drain(tls);
	if (r == 0 && !tls_is_ours(tls->ssl))
		r = -EPROTO;
	OPENSSL_cleanse(&tls->key, sizeof(tls->key));
	tls->settled = r == 0;
	return r;
}

/* The peer is told that this is the end and no cut, if the socket takes it now. */
static void say_goodbye(struct tls_stream *tls)
{
	const struct stream *stream = &tls->stream;

	if (!tls->settled || stream->send_error < 0 || tls->io_error < 0 || is_spilled(tls) ||
	    channel_cancelled(&stream->channel))
		return;
	SSL_shutdown(tls->ssl);
	ERR_clear_error();
}

static void tls_release(struct stream *stream)
{
	struct tls_stream *tls = to_tls(stream);

	if (tls->ssl)
		say_goodbye(tls);
	SSL_free(tls->ssl);
	BIO_meth_free(tls->method);
	OPENSSL_cleanse(&tls->key, sizeof(tls->key));
	OPENSSL_cleanse(tls->held, sizeof(tls->held));
}

static const struct stream_ops tls_ops = {
	.send = tls_send,
	.send_pages = tls_send_pages,
	.flush = tls_flush,
	.receive = tls_receive,
	.wait = tls_wait,
	.release = tls_release,
};

static const struct {
	int code;
	const char *text;
} causes[] = {
	{ -ETIMEDOUT, "the peer did not answer in time; is it reachable, and not overloaded?" },
	{ -ECONNRESET, "the peer closed the connection before it was secured; its log says why" },
	{ -EPROTO, "what the peer sent does not fit this move's key; begin the move again" },
	{ -ECANCELED, "cancelled" },
};

static int explain(struct error *err, int r)
{
	for (size_t i = 0; i < ARRAY_SIZE(causes); i++)
		if (causes[i].code == r)
			return error_set(err, r, EXIT_STATUS_FAILED, "stream: %s", causes[i].text);
	return error_set(err, r, EXIT_STATUS_FAILED, "stream: cannot be secured: %s", strerror(-r));
}

static int open_stream(struct tls_stream *tls, enum stream_role role)
{
	int r = tls_new(role, &tls->key, &tls->ssl);

	if (r == 0)
		r = attach(tls);
	return r == 0 ? establish(tls) : r;
}

int stream_tls(int fd, enum stream_role role, const struct stream_key *key, unsigned int timeout_ms,
	       struct stream **ret_stream, struct error *err)
{
	struct tls_stream *tls = calloc(1, sizeof(*tls));
	int r;

	if (!tls) {
		fd_close(fd);
		return explain(err, -ENOMEM);
	}
	tls->stream.ops = &tls_ops;
	tls->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
	tls->rekey_bytes = STREAM_REKEY_BYTES;
	tls->key = *key;
	r = channel_open(&tls->stream.channel, fd, timeout_ms);
	if (r == 0)
		r = open_stream(tls, role);
	if (r < 0) {
		stream_free(&tls->stream);
		return explain(err, r);
	}
	*ret_stream = &tls->stream;
	return 0;
}

void stream_tls_set_rekey(struct stream *stream, uint64_t bytes)
{
	to_tls(stream)->rekey_bytes = bytes;
}
