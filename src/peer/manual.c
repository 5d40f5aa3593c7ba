/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/manual.h"

#include <errno.h>
#include <string.h>

static bool same(const struct ownership_id *a, const struct ownership_id *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static bool is_said(const struct manual_word *word, enum manual_says says,
		    const struct ownership_record *record)
{
	return word->says == says && word->generation == record->generation &&
	       same(&word->owner, &record->owner);
}

static enum manual_verdict by_word(const struct manual_word *word, enum manual_says says,
				   const struct ownership_record *record,
				   enum manual_says *ret_needs)
{
	if (is_said(word, says, record))
		return MANUAL_GRANTED;
	*ret_needs = says;
	return MANUAL_WAITS;
}

/* Of one that no other host has. */
static enum manual_verdict judge_solo(const struct ownership_record *record,
				      const struct ownership_record *want, bool owner_has_ended)
{
	if (!same(&want->owner, &record->owner))
		return want->mode == OWNERSHIP_SOLO && owner_has_ended ? MANUAL_GRANTED
								       : MANUAL_NEVER;
	return want->mode == OWNERSHIP_SOLO || want->mode == OWNERSHIP_PROTECTED ||
			       want->mode == OWNERSHIP_STOPPED
		       ? MANUAL_GRANTED
		       : MANUAL_NEVER;
}

static enum manual_verdict judge_protected(const struct ownership_record *record,
					   const struct ownership_record *want,
					   const struct manual_word *word,
					   enum manual_says *ret_needs)
{
	const bool own = same(&want->owner, &record->owner);

	if (own && (want->mode == OWNERSHIP_SOLO || want->mode == OWNERSHIP_STOPPED))
		return by_word(word, MANUAL_BACKUP_IS_DEAD, record, ret_needs);
	if (!own && want->mode == OWNERSHIP_CLAIMED && same(&want->from, &record->owner))
		return by_word(word, MANUAL_OWNER_IS_DEAD, record, ret_needs);
	return MANUAL_NEVER;
}

static enum manual_verdict judge_claimed(const struct ownership_record *record,
					 const struct ownership_record *want,
					 const struct manual_word *word,
					 enum manual_says *ret_needs)
{
	if (want->mode != OWNERSHIP_SOLO)
		return MANUAL_NEVER;
	if (same(&want->owner, &record->owner))
		return MANUAL_GRANTED;
	return same(&want->owner, &record->from)
		       ? by_word(word, MANUAL_BACKUP_IS_DEAD, record, ret_needs)
		       : MANUAL_NEVER;
}

enum manual_verdict manual_judge(const struct ownership_record *record,
				 const struct ownership_record *want,
				 const struct manual_word *word, bool owner_has_ended,
				 enum manual_says *ret_needs)
{
	*ret_needs = MANUAL_SAYS_NOTHING;
	if (want->revision != record->generation)
		return MANUAL_LOST;
	if (want->generation != record->generation + 1 ||
	    same(&want->owner, &(struct ownership_id){ 0 }))
		return MANUAL_NEVER;
	switch (record->mode) {
	case OWNERSHIP_NONE:
	case OWNERSHIP_STOPPED:
		return want->mode == OWNERSHIP_SOLO ? MANUAL_GRANTED : MANUAL_NEVER;
	case OWNERSHIP_SOLO:
		return judge_solo(record, want, owner_has_ended);
	case OWNERSHIP_PROTECTED:
		return judge_protected(record, want, word, ret_needs);
	case OWNERSHIP_CLAIMED:
		return judge_claimed(record, want, word, ret_needs);
	default:
		return MANUAL_NEVER;
	}
}

bool manual_may_follow(const struct ownership_record *record, const struct ownership_record *heard,
		       const struct ownership_id *session)
{
	return heard->mode == OWNERSHIP_PROTECTED && same(&heard->backup, session) &&
	       heard->generation > record->generation;
}

static bool equal(const struct ownership_record *a, const struct ownership_record *b)
{
	return a->generation == b->generation && a->mode == b->mode && same(&a->owner, &b->owner) &&
	       same(&a->backup, &b->backup) && same(&a->from, &b->from);
}

bool manual_agree(const struct manual_records *ours, const struct manual_records *theirs)
{
	const struct ownership_record last = manual_last(ours);

	for (uint32_t i = 0; i < theirs->n; i++)
		if (equal(&last, &theirs->list[i]))
			return true;
	return ours->n == 0;
}

struct ownership_record manual_last(const struct manual_records *records)
{
	return records->n ? records->list[records->n - 1]
			  : (struct ownership_record){ .mode = OWNERSHIP_NONE };
}

void manual_append(struct manual_records *records, const struct ownership_record *record)
{
	struct ownership_record *last;

	if (records->n == MANUAL_KEPT) {
		memmove(records->list, records->list + 1,
			(MANUAL_KEPT - 1) * sizeof(*records->list));
		records->n--;
	}
	last = &records->list[records->n++];
	*last = *record;
	last->revision = last->generation;
}
