/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A byte stream between two processes of a move: plain (TCP, UNIX, a pipe) or TLS 1.3 with a pre-shared key. Blocking, with a
 * deadline on each wait and on each whole that is sent or expected, so a peer that stands still, or lets a byte through now and then,
 * is an error and not a hang. One thread may send while another
 * receives; nothing else is shared.
 *
 *   mover's thread -> stream_send / stream_send_pages -> kernel -> wire -> stream_receive
 *
 * Errors: negative errno; -ETIMEDOUT when a wait was too long, -ECONNRESET when the peer has gone, -EPROTO for TLS that does
 * not fit (wrong key, damaged bytes: never told apart to the peer), -ECANCELED after stream_cancel. After a send that failed
 * every later one fails alike. A program that sends into a pipe ignores SIGPIPE; sockets raise none.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/macros.h"

#define STREAM_KEY_BYTES 32
#define STREAM_IDENTITY_MAX 64 /* bytes with the NUL */

struct stream;

enum stream_role { STREAM_CONNECTS, STREAM_ACCEPTS };

/* The one-use key of one move. Both ends have it from their daemons; wiped by whoever holds a copy. */
struct stream_key {
	char identity
		[STREAM_IDENTITY_MAX]; /* says which: the move's token and the stream's number */
	uint8_t secret[STREAM_KEY_BYTES];
};

struct stream_counts {
	uint64_t sent, received; /* payload bytes */
	uint64_t wire_sent,
		wire_received; /* with TLS records; equal to the above on plain streams */
	uint64_t rekeys;       /* of the sending direction */
};

/* Takes `fd` (connected; also on failure). `timeout_ms`: the longest single wait for the peer. */
_must_check_ int stream_plain(int fd, unsigned int timeout_ms, struct stream **ret_stream);
/* The same over TLS 1.3 (TLS_AES_128_GCM_SHA256, or TLS_CHACHA20_POLY1305_SHA256 where either side's CPU has no instructions
 * for AES), its handshake done when it returns, all of it within `timeout_ms`. Each direction changes its key every
 * STREAM_REKEY_BYTES. `key` may be wiped afterwards; `err` is for this side's people only. */
_must_check_ int stream_tls(int fd, enum stream_role role, const struct stream_key *key,
			    unsigned int timeout_ms, struct stream **ret_stream, struct error *err);
#define STREAM_REKEY_BYTES                                                                         \
	(1ULL << 34) /* 2^20 records: far below AES-GCM's limit of 2^24.5 (RFC 8446, 5.5) */
void stream_tls_set_rekey(struct stream *stream,
			  uint64_t bytes); /* for tests, before anything is sent */
void stream_free(struct stream *stream);   /* closes; NULL is accepted */

/* Sends all of it; `iov` is the caller's again when this returns. `more`: something follows soon, so the last bytes (at most
 * 256 KiB) may be held back until the next call without `more`, until stream_flush, or until there are more of them. */
_must_check_ int stream_send(struct stream *stream, const struct iovec *iov, unsigned int n_iov,
			     bool more);
/*
 * Sends pages of RAM, `len` bytes of a shared mapping: without a copy where the kernel can. The bytes may change between this call
 * and the wire: only for pages that are sent again if dirtied. As with `more`, the last of them may be held back. stream_flush
 * sends what is held and returns when the kernel has unpinned all pages; until then they stay mapped.
 */
_must_check_ int stream_send_pages(struct stream *stream, const void *pages, uint64_t len);
_must_check_ int stream_flush(struct stream *stream);

/* Receiving thread: `len` bytes, which make a whole, come next. All of them must have come after the longest wait for a peer and the
 * time that they take at 16 KiB a second; until the next call what is received counts as theirs. Without any call each wait counts
 * by itself. */
void stream_expect(struct stream *stream, uint64_t len);
/* Receives exactly `len` bytes; -ECONNRESET when the stream ends before, -ENODATA when it ends at its very beginning. */
_must_check_ int stream_receive(struct stream *stream, void *buf, size_t len);
/* Whether something can be received within `timeout_ms` (0: now): 1, 0, or negative errno. */
_must_check_ int stream_wait(struct stream *stream, unsigned int timeout_ms);
/*
 * From now on no wait for the peer is too long: only the end of the connection ends it, which over TCP is `dead_ms` without any sign of
 * the other host. What was written and cannot go yet is kept short, so that what is written next soon goes. Any thread.
 */
void stream_be_patient(struct stream *stream, unsigned int dead_ms);
/* Any thread: whoever waits on the stream comes back with -ECANCELED, and so does all that follows. */
void stream_cancel(struct stream *stream);
void stream_counts(const struct stream *stream, struct stream_counts *ret_counts); /* any thread */
