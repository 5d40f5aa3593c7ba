/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which records of the history a filter lets through, as a bit for each, found once. Filtering all of the history takes
 * long, so it is done in steps: who asks says when to stop, and asks again. One thread.
 */

#include "base/error.h"
#include "view/web/history.h"
#include "watch/filter/filter.h"

#define LENS_WORDS (HISTORY_BLOCK / 64)
#define LENSES 8 /* filters whose bits are kept: what was used last */

struct lenses;
struct lens;

/* `names` is borrowed. NULL when out of memory. */
struct lenses *lenses_new(struct history *history, const struct filter_names *names);
void lenses_free(struct lenses *lenses);

/* The lens of a filter's text; NULL in `*ret_lens` for an empty text. -EINVAL as filter_compile; -ENOMEM. Valid until
 * LENSES other filters were asked for. */
_must_check_ int lenses_find(struct lenses *lenses, const char *text, struct lens **ret_lens,
			     unsigned int *ret_column, struct error *err);

/* The bits of a block. With a NULL lens all are set. NULL: not known yet, and `until_ns` (CLOCK_MONOTONIC) is past; one
 * block since lenses_find is judged all the same, so that who asks again gets on. Until the next call. */
const uint64_t *lens_bits(struct lenses *lenses, struct lens *lens,
			  const struct history_block *block, uint64_t until_ns);

static inline bool lens_bit(const uint64_t *bits, uint32_t index)
{
	return bits[index / 64] >> (index % 64) & 1;
}
