/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The first frame of each stream, both ways, checked. Little-endian; what a newer version appends is skipped.
 *
 *    0          8         10        12     13         14       15        16      32         40
 *   +----------+---------+---------+------+----------+--------+---------+-------+----------+- - -
 *   | "utsusu" | lowest  | highest | role | reserved | stream | streams | token | features |
 *   | 0 0      | version | version |      | 0        |        |         |       | (bits)   |
 *   +----------+---------+---------+------+----------+--------+---------+-------+----------+- - -
 *
 * Both sides compute the same answer: the version is the lower of the two highest, the features are those that both have. Where
 * the ranges do not meet, each side refuses, naming both.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/macros.h"

#define HELLO_BYTES 40
#define HELLO_BYTES_MAX 256 /* with what a newer version may append */
#define HELLO_TOKEN_BYTES 16

enum hello_role { HELLO_GIVES = 1, HELLO_TAKES = 2 };

struct hello {
	uint16_t version_min, version_max; /* 1 <= min <= max */
	enum hello_role role;
	uint8_t stream, n_streams;	  /* this one's number, from 0, and how many there are */
	uint8_t token[HELLO_TOKEN_BYTES]; /* which move */
	uint64_t features;		  /* bits that the caller gives a meaning */
};

/* What both sides may use from now on. */
struct hello_agreed {
	uint16_t version;
	uint64_t features;
};

void hello_encode(const struct hello *hello, uint8_t ret_bytes[HELLO_BYTES]);
/* Decodes what a peer sent and judges it by itself: -EBADMSG. */
_must_check_ int hello_parse(const void *bytes, size_t len, struct hello *ret_hello,
			     struct error *err);
/* Judges it beside ours: -EPROTONOSUPPORT (versions), -EPROTO (it belongs to another move or stream, or plays our own part). */
_must_check_ int hello_agree(const struct hello *own, const struct hello *peer,
			     struct hello_agreed *ret_agreed, struct error *err);
