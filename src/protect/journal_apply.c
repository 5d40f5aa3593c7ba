/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "protect/journal_internal.h"

/* ---- the mark ---- */

static uint64_t mark_place(uint64_t serial)
{
	return (1 + serial % 2) * JOURNAL_BLOCK;
}

int journal_put_mark(struct journal *journal, const struct journal_mark *mark)
{
	struct journal_mark next = *mark;
	uint8_t sector[STORAGE_SECTOR];
	int r;

	next.serial = journal->mark.serial + 1;
	r = journal_mark_encode(journal->applier->digest, journal->key, &next, sector);
	/* Written and synced in one go: no sync of the writer's comes between and is told of its failure instead. */
	pthread_mutex_lock(&journal->syncing);
	if (r == 0)
		r = storage_write(journal->file, sector, sizeof(sector), mark_place(next.serial));
	if (r == 0)
		r = journal_sync_locked(journal);
	pthread_mutex_unlock(&journal->syncing);
	journal_lock(journal);
	if (r == 0)
		journal->mark = next;
	else
		journal->broken = true;
	journal_unlock(journal);
	return r;
}

int journal_get_mark(struct journal *journal, struct error *err)
{
	struct journal_mark mark;
	uint8_t sector[STORAGE_SECTOR];
	bool found = false;

	for (uint64_t i = 0; i < 2; i++) {
		int r = storage_read(journal->file, sector, sizeof(sector), mark_place(i));

		if (r == 0)
			r = journal_mark_decode(journal->applier->digest, journal->key, sector,
						&mark);
		if (r < 0 && r != -EBADMSG)
			return r;
		if (r < 0 || mark.serial % 2 != i || (found && mark.serial < journal->mark.serial))
			continue;
		journal->mark = mark;
		found = true;
	}
	if (!found)
		return journal_damaged(err, mark_place(0), "no mark of what was applied");
	return journal->mark.applied >= journal->head.base
		       ? 0
		       : journal_damaged(err, mark_place(journal->mark.serial),
					 "a mark of nothing");
}

/* ---- applying ---- */

static int cannot_apply(struct error *err, int code, uint64_t epoch)
{
	return error_set(err, code, EXIT_STATUS_RESOURCE,
			 "journal: epoch %llu cannot be applied: %s; see this host's kernel log",
			 (unsigned long long)epoch, strerror(-code));
}

/* One epoch: judged as a whole before any of it is done. 1: it is of later than `up_to`. */
static int apply_one(struct journal *journal, uint64_t position, uint64_t end, uint64_t up_to,
		     struct journal_epoch *ret_epoch, struct error *err)
{
	int r = journal_epoch_read(journal, position, end, true, ret_epoch);

	if (r == -EBADMSG)
		return journal_damaged(err, journal_ring_place(journal, position),
				       "an epoch that was whole once");
	if (r == 0 && ret_epoch->start.epoch > up_to)
		return 1;
	if (r == 0)
		r = journal_epoch_read(journal, position, end, false, ret_epoch);
	return r < 0 ? cannot_apply(err, r, up_to) : 0;
}

static int sync_disks(struct journal *journal)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < journal->head.n_disks; i++)
		r = storage_sync(journal->disks[i]);
	return r;
}

/* Nothing of it was in the file: there is no place to be freed, and what the mark says of before is as right. */
static void note_applied(struct journal *journal, uint64_t epoch)
{
	journal_lock(journal);
	journal->mark.applied = epoch;
	journal_unlock(journal);
}

int journal_apply(struct journal *journal, uint64_t up_to, struct error *err)
{
	struct journal_mark mark;
	struct journal_epoch epoch;
	uint64_t sealed, end;
	int r = 0;

	journal_lock(journal);
	mark = journal->mark;
	sealed = journal->sealed;
	end = journal->sealed_end;
	journal_unlock(journal);
	if (up_to > sealed || mark.state == JOURNAL_ENDED)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "journal: epoch %llu is not in it to be applied",
				 (unsigned long long)up_to);
	while (r == 0 && mark.tail < end) {
		r = apply_one(journal, mark.tail, end, up_to, &epoch, err);
		if (r == 0)
			mark.tail = epoch.end;
	}
	if (r < 0)
		return r;
	mark.applied = MAX(mark.applied, up_to);
	if (mark.tail == journal->mark.tail) {
		note_applied(journal, mark.applied);
		return 0;
	}
	r = sync_disks(journal);
	if (r == 0)
		r = journal_put_mark(journal, &mark);
	return r < 0 ? cannot_apply(err, r, up_to) : 0;
}

/* Twice, so that both places say so: one of them may be damaged later. */
static int put_state(struct journal *journal, enum journal_state state, struct error *err)
{
	struct journal_mark mark = journal->mark;
	int r = 0;

	mark.state = state;
	for (int i = 0; r == 0 && i < 2; i++)
		r = journal_put_mark(journal, &mark);
	return r < 0 ? error_set(err, r, EXIT_STATUS_RESOURCE,
				 "journal: cannot be marked as %s: %s; see this host's kernel log",
				 journal_state_name(state), strerror(-r))
		     : 0;
}

int journal_mark_whole(struct journal *journal, struct error *err)
{
	if (journal->mark.state != JOURNAL_FILLING)
		return journal->mark.state == JOURNAL_WHOLE
			       ? 0
			       : error_set(err, -EINVAL, EXIT_STATUS_FAILED,
					   "journal: its session has ended; protect the VM again");
	return put_state(journal, JOURNAL_WHOLE, err);
}

int journal_end(struct journal *journal, uint64_t up_to, struct error *err)
{
	int r = journal->mark.state == JOURNAL_ENDED ? 0 : journal_apply(journal, up_to, err);

	if (r == 0)
		r = put_state(journal, JOURNAL_ENDED, err);
	return r;
}
