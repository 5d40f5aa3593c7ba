/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How the connections of a move find the handler that waits for them. Each begins with a preamble, which says of which reservation
 * it is and the how manieth; whichever process the daemon gave it to hands its descriptor on, over a UNIX socket in the daemon's
 * folder that has the reservation's number for its name. The number is seen by whoever listens on the wire, so it opens nothing:
 * each stream has a token of its own, which both daemons derive from their connection (talk_stream_token), which is taken once, and
 * from which no other's follows. What comes over the stream is authenticated by its own key (wire/stream.h).
 *
 *   0          8                               40        44                              76
 *   +----------+-------------------------------+---------+-------------------------------+
 *   | UTSUJOIN | 32 random bytes               | index   | the stream's token            |   index: little-endian
 *   +----------+-------------------------------+---------+-------------------------------+
 */

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define RESERVATION_BYTES 32
#define RESERVATION_TEXT (2 * RESERVATION_BYTES + 1)
#define PREAMBLE_BYTES 76
#define STREAM_TOKEN_BYTES 32
#define PREAMBLE_FIRST 'U' /* TLS begins with 0x16 */

struct reservation {
	char id[RESERVATION_TEXT];
	int folder_fd; /* borrowed */
	int listen_fd; /* -1: none */
};

struct preamble {
	char id[RESERVATION_TEXT]; /* of the reservation */
	uint32_t index;		   /* of the stream, from 0 */
	uint8_t token[STREAM_TOKEN_BYTES];
};

/* A number of its own, and the socket. */
_must_check_ int reservation_make(int folder_fd, struct reservation *ret_reservation);
/* Removes the socket. */
void reservation_release(struct reservation *reservation);
/* Waits until all of 0 .. n - 1 are there with their `tokens`, at most `timeout_ms`. They are the caller's. Whoever comes with
 * another token is shut out and changes nothing. */
_must_check_ int reservation_collect(struct reservation *reservation,
				     const uint8_t (*tokens)[STREAM_TOKEN_BYTES], int *ret_streams,
				     uint32_t n, unsigned int timeout_ms);

/* Removes sockets whose handler was killed. */
void reservation_forget(int folder_fd);

/* The source's end: the preamble on a new connection. */
_must_check_ int reservation_begin_stream(int fd, const struct preamble *preamble);
/* Reads the preamble, all of it within `timeout_ms`, and hands `fd` on, which stays the caller's. -ENOENT: no such reservation. */
_must_check_ int reservation_hand_in(int folder_fd, int fd, unsigned int timeout_ms);

/* The preamble's fields. -EBADMSG. */
_must_check_ int preamble_decode(const uint8_t bytes[PREAMBLE_BYTES],
				 struct preamble *ret_preamble);
