/* SPDX-License-Identifier: Apache-2.0 */
#include "view/web/lens.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* What is known of one block. */
struct lens_block {
	uint64_t serial; /* + 1 */
	uint32_t n;	 /* records judged, from the first on */
	uint64_t bits[LENS_WORDS];
};

struct lens {
	char text[FILTER_TEXT_MAX];
	struct filter *filter;	   /* NULL: a free place */
	uint64_t used;		   /* when, as a count of questions */
	uint64_t judged;	   /* in which question a block was, last */
	struct lens_block *blocks; /* HISTORY_BLOCKS, by serial modulo */
};

struct lenses {
	struct history *history;
	const struct filter_names *names;
	uint64_t questions;
	uint64_t all[LENS_WORDS];
	struct lens list[LENSES];
};

static void lens_release(struct lens *lens)
{
	filter_free(lens->filter);
	free(lens->blocks);
	*lens = (struct lens){ 0 };
}

struct lenses *lenses_new(struct history *history, const struct filter_names *names)
{
	struct lenses *lenses = calloc(1, sizeof(*lenses));

	if (!lenses)
		return NULL;
	lenses->history = history;
	lenses->names = names;
	memset(lenses->all, 0xff, sizeof(lenses->all));
	return lenses;
}

void lenses_free(struct lenses *lenses)
{
	for (unsigned int i = 0; lenses && i < LENSES; i++)
		lens_release(&lenses->list[i]);
	free(lenses);
}

static struct lens *known_lens(struct lenses *lenses, const char *text)
{
	for (unsigned int i = 0; i < LENSES; i++)
		if (lenses->list[i].filter && !strcmp(lenses->list[i].text, text))
			return &lenses->list[i];
	return NULL;
}

static struct lens *oldest_lens(struct lenses *lenses)
{
	struct lens *oldest = &lenses->list[0];

	for (unsigned int i = 1; i < LENSES; i++)
		if (lenses->list[i].used < oldest->used)
			oldest = &lenses->list[i];
	return oldest;
}

static int make_lens(struct lenses *lenses, const char *text, struct lens **ret_lens,
		     unsigned int *ret_column, struct error *err)
{
	struct lens lens = { 0 };
	int r = filter_compile(text, &lens.filter, ret_column, err);

	if (r)
		return r;
	lens.blocks = calloc(HISTORY_BLOCKS, sizeof(*lens.blocks));
	if (!lens.blocks) {
		lens_release(&lens);
		return error_set(err, -ENOMEM, EXIT_STATUS_FAILED,
				 "filter: out of memory; use fewer");
	}
	strcpy(lens.text, text); /* filter_compile refused what is too long */
	*ret_lens = oldest_lens(lenses);
	lens_release(*ret_lens);
	**ret_lens = lens;
	return 0;
}

int lenses_find(struct lenses *lenses, const char *text, struct lens **ret_lens,
		unsigned int *ret_column, struct error *err)
{
	struct lens *lens = NULL;
	int r = 0;

	if (strlen(text) >= FILTER_TEXT_MAX) {
		if (ret_column)
			*ret_column = FILTER_TEXT_MAX;
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "filter: longer than %u bytes",
				 FILTER_TEXT_MAX - 1);
	}
	if (text[strspn(text, " \t")]) {
		lens = known_lens(lenses, text);
		if (!lens)
			r = make_lens(lenses, text, &lens, ret_column, err);
		if (r)
			return r;
		lens->used = ++lenses->questions;
	}
	*ret_lens = lens;
	return 0;
}

/* Judges the records of a block that came since it was asked about last. */
static void judge_block(struct lenses *lenses, struct lens *lens, struct lens_block *known,
			const struct history_block *block)
{
	const struct watch_record *records = history_records(lenses->history, block);

	if (known->serial != block->serial + 1)
		*known = (struct lens_block){ .serial = block->serial + 1 };
	for (; known->n < block->n; known->n++)
		if (filter_match(lens->filter, &records[known->n], lenses->names))
			known->bits[known->n / 64] |= 1ULL << (known->n % 64);
}

const uint64_t *lens_bits(struct lenses *lenses, struct lens *lens,
			  const struct history_block *block, uint64_t until_ns)
{
	struct lens_block *known;

	if (!lens)
		return lenses->all;
	known = &lens->blocks[block->serial % HISTORY_BLOCKS];
	if (known->serial == block->serial + 1 && known->n >= block->n)
		return known->bits;
	if (lens->judged == lens->used && clock_now(&clock_host) >= until_ns)
		return NULL;
	lens->judged = lens->used;
	judge_block(lenses, lens, known, block);
	return known->bits;
}
