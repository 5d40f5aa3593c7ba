/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What etcd 3.4 is asked through its JSON gateway, and what it answers: text to structs and back, nothing else. All requests are POSTs;
 * keys and values are base64, 64-bit numbers are strings, and what is zero or false is left out (proto3's JSON form; etcd's
 * documentation, "gRPC gateway", and rpc.proto of v3.4).
 *
 *   /v3/auth/authenticate  name, password                                   -> token
 *   /v3/kv/range           key                                              -> header, kvs
 *   /v3/kv/txn             compare MOD revision; put, or else range         -> header, succeeded, responses
 *   /v3/watch              key, from a revision on; the answer does not end -> one object for each line
 *
 * Answers are untrusted: no more than LIMIT_ARBITER_ANSWER bytes are given here, each field that is used has its type and its
 * range, keys that are not used are let pass (a newer etcd has more of them). Pure; any thread.
 */

#include "base/error.h"
#include "base/limits.h"
#include "base/macros.h"

#define GATEWAY_AUTHENTICATE "/v3/auth/authenticate"
#define GATEWAY_RANGE "/v3/kv/range"
#define GATEWAY_TXN "/v3/kv/txn"
#define GATEWAY_WATCH "/v3/watch"

/* Bodies of requests; free() them. NULL when out of memory. */
char *gateway_authenticate(const char *user, const char *password);
char *gateway_range(const char *key);
/* Puts `value` if the key's last change was at `revision`, 0: if there is none; else tells what stands there. */
char *gateway_swap(const char *key, uint64_t revision, const char *value, size_t len);
char *gateway_watch(const char *key, uint64_t from_revision);

/* Of every answer: who answers, and how far it is. */
struct gateway_header {
	uint64_t cluster; /* the cluster's id, random when it was made */
	uint64_t
		revision; /* of the whole store, 1 .. INT64_MAX: higher with every change of any key */
};

/* What stands under the key. */
struct gateway_value {
	bool present;
	uint64_t revision; /* of its last change, at most the header's */
	size_t len;
	char bytes[LIMIT_OWNERSHIP_RECORD]; /* at most, without a NUL */
};

/* All of them: -EBADMSG when it is no such answer, and nothing is written. */
_must_check_ int gateway_read_range(const char *text, size_t len, const char *key,
				    struct gateway_header *ret_header,
				    struct gateway_value *ret_value);
/* `ret_value`: what stands there when it did not succeed; when it did, only its revision, that of this very change. */
_must_check_ int gateway_read_swap(const char *text, size_t len, const char *key,
				   struct gateway_header *ret_header, bool *ret_succeeded,
				   struct gateway_value *ret_value);
_must_check_ int gateway_read_token(const char *text, size_t len,
				    char ret_token[LIMIT_ARBITER_TOKEN]);

enum gateway_news {
	GATEWAY_NOTHING, /* it watches, or says that it still does */
	GATEWAY_CHANGED, /* the key, in whatever way */
	GATEWAY_ENDED,	 /* it watches no more: an error, a compaction */
};
_must_check_ int gateway_read_news(const char *text, size_t len, enum gateway_news *ret_news);

/* What etcd says in place of an answer. */
struct gateway_refusal {
	int code;	   /* of gRPC; -1 when there is none */
	char message[128]; /* as etcd wrote it; "" when there is none */
};
void gateway_read_refusal(const char *text, size_t len, struct gateway_refusal *ret_refusal);
/* Whether it is the token that etcd does not take (any more): nothing was done, and a new one may be had. */
bool gateway_wants_token(const struct gateway_refusal *refusal);
/* Whether etcd did not let this user do it: nothing was done. */
bool gateway_forbids(const struct gateway_refusal *refusal);
