/* SPDX-License-Identifier: Apache-2.0 */
/* covers: move/pages/missing.c */
/* The list of missing pages that a peer sends before a post-copy, and the pages that it wants in one. What is taken comes back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/endian.h"
#include "move/pages/missing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t word_at(const void *ctx, uint64_t word)
{
	return ((const struct missing *)ctx)->bits[word];
}

/* The same list, said again, is the same. */
static void say_again(const struct missing *missing)
{
	static uint8_t piece[MISSING_PIECE_BYTES];
	struct missing again;
	uint64_t word = 0;
	size_t len;

	if (missing_init(&again, missing->n_pages) < 0)
		abort();
	while ((len = missing_put(word_at, missing, missing->n_words, &word, piece)))
		if (missing_take(&again, piece, len, NULL) != 0)
			abort();
	if (memcmp(again.bits, missing->bits, missing->n_words * 8) != 0)
		abort();
	missing_release(&again);
}

static void walk(const struct missing *missing, uint64_t block)
{
	uint64_t at = 0, first, n, before = 0;

	while (missing_next(missing, block, &at, &first, &n)) {
		if (!n || first + n > missing->n_pages || at <= before)
			abort();
		before = at;
	}
}

static void take_wanted(const uint8_t *data, size_t size, uint64_t n_pages)
{
	uint8_t payload[WANTED_BYTES];
	uint64_t first;
	uint32_t n;

	if (wanted_take(data, size, n_pages, &first, &n) < 0)
		return;
	wanted_put(first, n, payload);
	if (size != sizeof(payload) || memcmp(payload, data, size) != 0 || first + n > n_pages)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };
	uint64_t n_pages = cursor_take_le(&in, 2) + 1;
	struct missing missing;
	int r = 0;

	if (missing_init(&missing, n_pages) < 0)
		abort();
	while (r == 0 && in.left && !in.bad) {
		uint64_t wish = cursor_take_le(&in, 1);
		size_t len = MIN(wish, in.left);
		const void *piece = cursor_take(&in, len);
		struct error err = { 0 };

		take_wanted(piece, len, n_pages);
		r = missing_take(&missing, piece, len, &err);
		if (r < 0 && !err.message[0])
			abort(); /* an error without words */
	}
	say_again(&missing);
	walk(&missing, 1);
	walk(&missing, 512);
	missing_release(&missing);
	return 0;
}
