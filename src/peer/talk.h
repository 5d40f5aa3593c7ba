/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The connection of two daemons: TLS 1.3, both with their certificates, one JSON object on each line.
 *
 *   us                                    the other
 *   TLS handshake: each proves that it has its key
 *              <------------------------- {"utsusu": "0.1.0", "host": "beta"}   or {"error": {...}}
 *   {"command": ...} ------------------>
 *              <------------------------- {"ok": true, ...}                     or {"error": {...}}
 *
 * After the handshake each looks for the other's key in its own list, before it sends or reads anything else. Whoever is not
 * in it is told so, with its fingerprint and the way out, and nothing that it sends is read. Blocking with deadlines. One thread.
 *
 * Errors: negative errno, and a line that names the host.
 */

#include <jansson.h>

#include "base/error.h"
#include "peer/identity.h"
#include "peer/peers.h"

#define TALK_KEY_BYTES 32
#define TALK_ANSWER_MS 15000 /* how long the other side may take for an ordinary answer */

struct talk;

/* Connects to `peer` and is sure that it is that one. */
_must_check_ int talk_connect(const struct identity *identity, const struct peer *peer,
			      struct talk **ret_talk, struct error *err);
/* Connects only to learn the fingerprint and the name of whoever is at the peer's address. */
_must_check_ int talk_probe(const struct identity *identity, const struct peer *peer,
			    char ret_fingerprint[PEER_FINGERPRINT_MAX],
			    char ret_host[PEER_NAME_MAX], struct error *err);
/* Serves a connection (`fd` is taken, also on failure) of one of `peers`, which outlive the talk. */
_must_check_ int talk_accept(const struct identity *identity, const struct peers *peers, int fd,
			     struct talk **ret_talk, struct error *err);
void talk_free(struct talk *talk);

const struct peer *talk_peer(const struct talk *talk); /* borrowed */
int talk_fd(const struct talk *talk);		       /* borrowed, for poll */

/* `message` stays the caller's. */
_must_check_ int talk_send(struct talk *talk, json_t *message);
/* The next line, at most LIMIT_PEER_LINE; -ENODATA at the connection's end, -ETIMEDOUT, -EPROTO. */
_must_check_ int talk_receive(struct talk *talk, unsigned int timeout_ms, json_t **ret_message);
/* Sends a request (its reference is taken) and waits for its answer; a refusal is an error with the other side's own words. */
_must_check_ int talk_call(struct talk *talk, json_t *request, unsigned int timeout_ms,
			   json_t **ret_answer, struct error *err);

/* The two halves of that. */
_must_check_ int talk_ask(struct talk *talk, json_t *request, struct error *err);
_must_check_ int talk_answer(struct talk *talk, unsigned int timeout_ms, json_t **ret_answer,
			     struct error *err);

/* Bytes between lines, all of them before `due_ns` (talk_due). */
_must_check_ int talk_send_bytes(struct talk *talk, const void *bytes, size_t len, uint64_t due_ns);
_must_check_ int talk_receive_bytes(struct talk *talk, void *bytes, size_t len, uint64_t due_ns);
/* When `len` bytes that begin now must be through, by the host's clock: a host that gives or takes one now and then is no better than
 * one that stands still. */
uint64_t talk_due(uint64_t len);

/* A key that both ends derive from this connection and `context` (RFC 8446, 7.5); it never travels. */
_must_check_ int talk_key(struct talk *talk, const char *context, uint8_t ret_key[TALK_KEY_BYTES]);
/* The same of a stream of the move that `context` names: what it begins with (peer/reservation.h). None tells of another, nor of the
 * key. */
_must_check_ int talk_stream_token(struct talk *talk, const char *context, uint32_t stream,
				   uint8_t ret_token[TALK_KEY_BYTES]);
