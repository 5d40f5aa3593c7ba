/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/missing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/endian.h"

#define WORD_PAGES 64U

int missing_init(struct missing *missing, uint64_t n_pages)
{
	*missing = (struct missing){
		.n_pages = n_pages,
		.n_words = (n_pages + WORD_PAGES - 1) / WORD_PAGES,
	};
	missing->bits = calloc(missing->n_words, sizeof(uint64_t));
	return missing->bits ? 0 : -ENOMEM;
}

void missing_release(struct missing *missing)
{
	free(TAKE_PTR(missing->bits));
}

static int bad(struct error *err, const char *what, uint64_t value)
{
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED, "move: missing pages: %s: %llu", what,
			 (unsigned long long)value);
}

/* None beyond the end of memory. */
static bool fits(const struct missing *missing, uint64_t word, uint64_t bits)
{
	uint64_t left = missing->n_pages - word * WORD_PAGES;

	return left >= WORD_PAGES || !(bits >> left);
}

int missing_take(struct missing *missing, const void *payload, size_t len, struct error *err)
{
	struct cursor in = { .data = payload, .left = len };
	uint64_t first, n;

	if (!len)
		return 1;
	first = cursor_take_le(&in, 8);
	n = in.left / 8;
	if (in.bad || !n || n > MISSING_WORDS || in.left != 8 * n)
		return bad(err, "a piece of an impossible length", len);
	if (first % WORD_PAGES || first / WORD_PAGES < missing->next ||
	    !range_fits(first / WORD_PAGES, n, missing->n_words))
		return bad(err, "a piece that cannot be, at page", first);
	for (uint64_t word = first / WORD_PAGES; in.left; word++) {
		uint64_t bits = cursor_take_le(&in, 8);

		if (!fits(missing, word, bits))
			return bad(err, "a page beyond the end of memory, behind", first);
		missing->bits[word] = bits;
		missing->next = word + 1;
	}
	return 0;
}

static bool is_missing(const struct missing *missing, uint64_t page)
{
	return missing->bits[page / WORD_PAGES] >> (page % WORD_PAGES) & 1;
}

/* The first page from `page` on that is missing, or that is not; n_pages: none. Whole words are passed over at once. */
static uint64_t find(const struct missing *missing, uint64_t page, bool is)
{
	const uint64_t other = is ? 0 : ~0ULL;

	while (page < missing->n_pages) {
		if (page % WORD_PAGES == 0 && missing->bits[page / WORD_PAGES] == other)
			page += WORD_PAGES;
		else if (is_missing(missing, page) == is)
			return page;
		else
			page++;
	}
	return missing->n_pages;
}

bool missing_next(const struct missing *missing, uint64_t block, uint64_t *at, uint64_t *ret_first,
		  uint64_t *ret_n)
{
	uint64_t first = find(missing, *at, true), end;

	if (first == missing->n_pages)
		return false;
	end = find(missing, first, false);
	if (block > 1) {
		first = ALIGN_DOWN(first, block);
		end = MIN(ALIGN_UP(end, block), missing->n_pages);
	}
	*ret_first = first;
	*ret_n = end - first;
	*at = end;
	return true;
}

size_t missing_put(uint64_t (*word_at)(const void *ctx, uint64_t word), const void *ctx,
		   uint64_t n_words, uint64_t *word, uint8_t *payload)
{
	uint64_t at = *word, end;
	size_t len = 8;

	while (at < n_words && !word_at(ctx, at))
		at++;
	*word = at;
	if (at == n_words)
		return 0;
	end = MIN(at + MISSING_WORDS, n_words);
	le_store(payload, 8, at * WORD_PAGES);
	for (; at < end; at++, len += 8)
		le_store(payload + len, 8, word_at(ctx, at));
	*word = at;
	return len;
}

void wanted_put(uint64_t first, uint32_t n, uint8_t ret_payload[WANTED_BYTES])
{
	le_store(ret_payload, 8, first);
	le_store(ret_payload + 8, 4, n);
}

int wanted_take(const void *payload, size_t len, uint64_t n_pages, uint64_t *ret_first,
		uint32_t *ret_n)
{
	struct cursor in = { .data = payload, .left = len };
	uint64_t first = cursor_take_le(&in, 8), n = cursor_take_le(&in, 4);

	if (in.bad || in.left || !n || n > WANTED_PAGES_MAX || !range_fits(first, n, n_pages))
		return -EBADMSG;
	*ret_first = first;
	*ret_n = (uint32_t)n;
	return 0;
}
