/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Post-copy: which pages the destination lacks, or has in an older version, as the source tells when its VM stands. A list comes
 * in pieces, of ascending numbers, and an empty piece ends it:
 *
 *    0             8
 *   +-------------+-------------+- - -
 *   | first page  | 64 pages, a | the next 64
 *   | (of 64)     | bit for each|
 *   +-------------+-------------+- - -
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/macros.h"

#define MISSING_WORDS 4096 /* of 64 pages, in one piece */
#define MISSING_PIECE_BYTES (8 + 8 * MISSING_WORDS)

/* The receiver's. One thread. */
struct missing {
	uint64_t n_pages, n_words;
	uint64_t next; /* word that the next piece may begin with */
	uint64_t *bits;
};

_must_check_ int missing_init(struct missing *missing, uint64_t n_pages);
void missing_release(struct missing *missing);

/* A piece that a peer sent: 1 when it was the empty one, else 0; -EBADMSG. */
_must_check_ int missing_take(struct missing *missing, const void *payload, size_t len,
			      struct error *err);

/* The next run of missing pages from `*at` on, which then is behind it. With a `block` of more than one page: the whole blocks that
 * some are missing of. False: there is none. */
_must_check_ bool missing_next(const struct missing *missing, uint64_t block, uint64_t *at,
			       uint64_t *ret_first, uint64_t *ret_n);

/*
 * The sender's: puts the next piece into `payload` (MISSING_PIECE_BYTES), of what word_at() says of words from `*word` on, which then
 * is behind it. Its length; 0: nothing is missing from there on.
 */
size_t missing_put(uint64_t (*word_at)(const void *ctx, uint64_t word), const void *ctx,
		   uint64_t n_words, uint64_t *word, uint8_t *payload);

/* FAULT: somebody waits for the pages [first, first + n), of one block. */
#define WANTED_BYTES 12
#define WANTED_PAGES_MAX 512
void wanted_put(uint64_t first, uint32_t n, uint8_t ret_payload[WANTED_BYTES]);
/* What a peer sent: -EBADMSG. */
_must_check_ int wanted_take(const void *payload, size_t len, uint64_t n_pages, uint64_t *ret_first,
			     uint32_t *ret_n);
