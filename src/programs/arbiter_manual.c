/* SPDX-License-Identifier: Apache-2.0 */
#include "programs/arbiter_manual.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "peer/instances.h"

int manual_arbiter_open(struct manual_arbiter *arbiter, int state_fd, const char *uuid,
			struct error *err)
{
	int r;

	arbiter->state_fd = state_fd;
	snprintf(arbiter->uuid, sizeof(arbiter->uuid), "%s", uuid);
	r = manual_lock(state_fd, uuid, &arbiter->lock_fd);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST, "the record of %s: %s", uuid,
				 r == -EBUSY ? "another relay has it" : strerror(-r));
	return manual_read(state_fd, uuid, &arbiter->records, err);
}

void manual_arbiter_release(struct manual_arbiter *arbiter)
{
	fd_close(arbiter->lock_fd);
}

/* Durable, or as before. */
static int keep(struct manual_arbiter *arbiter, const struct ownership_record *record)
{
	struct manual_records next = arbiter->records;
	int r;

	manual_append(&next, record);
	r = manual_write(arbiter->state_fd, arbiter->uuid, &next);
	if (r < 0)
		return r;
	arbiter->records = next;
	manual_drop_word(arbiter->state_fd, arbiter->uuid);
	return 0;
}

static bool has_ended(const struct manual_arbiter *arbiter, const struct ownership_id *owner)
{
	enum instance_state state = INSTANCE_UNKNOWN;

	return instances_look(arbiter->state_fd, arbiter->uuid, owner, &state) == 0 &&
	       state == INSTANCE_DEAD;
}

static void say_what_is_needed(struct error *err, const char *name, enum manual_says needs,
			       uint64_t generation)
{
	if (needs == MANUAL_OWNER_IS_DEAD)
		(void)error_set(err, -EINPROGRESS, EXIT_STATUS_BUSY,
				"your word that the other host does not run it: utsusu failover "
				"%.63s --owner-is-dead (generation %" PRIu64 ")",
				name, generation);
	else
		(void)error_set(err, -EINPROGRESS, EXIT_STATUS_BUSY,
				"your word that its backup has ended: utsusu protect %.63s --off "
				"--backup-is-dead (generation %" PRIu64 ")",
				name, generation);
}

static int put(struct manual_arbiter *arbiter, const struct ownership_record *want,
	       struct error *err)
{
	int r = keep(arbiter, want);

	return r < 0 ? error_set(err, r, EXIT_STATUS_HOST,
				 "the record cannot be kept in the state directory: %s; free some "
				 "room there",
				 strerror(-r))
		     : 0;
}

void manual_arbiter_swap(struct manual_arbiter *arbiter, const char *name,
			 const struct ownership_record *want, struct arbiter_swapped *ret_swapped)
{
	const struct ownership_record record = manual_last(&arbiter->records);
	struct manual_word word;
	enum manual_says needs;

	*ret_swapped = (struct arbiter_swapped){ .outcome = ARBITER_UNKNOWN };
	manual_read_word(arbiter->state_fd, arbiter->uuid, &word);
	switch (manual_judge(&record, want, &word,
			     record.generation && has_ended(arbiter, &record.owner), &needs)) {
	case MANUAL_GRANTED:
		if (put(arbiter, want, &ret_swapped->why) < 0)
			return;
		ret_swapped->outcome = ARBITER_WON;
		ret_swapped->record = manual_last(&arbiter->records);
		return;
	case MANUAL_LOST:
		ret_swapped->outcome = ARBITER_LOST;
		ret_swapped->record = record;
		return;
	case MANUAL_WAITS:
		say_what_is_needed(&ret_swapped->why, name, needs, record.generation);
		return;
	default:
		(void)error_set(&ret_swapped->why, -EINVAL, EXIT_STATUS_FAILED,
				"nothing: such a change of the record there cannot be");
	}
}

int manual_arbiter_follow(struct manual_arbiter *arbiter, const struct ownership_record *heard,
			  const struct ownership_id *session)
{
	const struct ownership_record record = manual_last(&arbiter->records);
	int r;

	if (!manual_may_follow(&record, heard, session))
		return 0;
	r = keep(arbiter, heard);
	return r < 0 ? r : 1;
}

int manual_arbiter_heard_end(struct manual_arbiter *arbiter, const struct ownership_record *of,
			     bool we_own)
{
	const struct ownership_record record = manual_last(&arbiter->records);
	struct manual_word word = {
		.says = we_own ? MANUAL_BACKUP_IS_DEAD : MANUAL_OWNER_IS_DEAD,
		.generation = record.generation,
		.owner = record.owner,
		.who = "it ended by itself, and said so",
		.time = (int64_t)time(NULL),
	};
	int r;

	if (record.mode != OWNERSHIP_PROTECTED || of->mode != OWNERSHIP_PROTECTED ||
	    of->generation != record.generation ||
	    memcmp(&of->owner, &record.owner, sizeof(of->owner)) != 0 ||
	    memcmp(&of->backup, &record.backup, sizeof(of->backup)) != 0)
		return 0;
	r = manual_write_word(arbiter->state_fd, arbiter->uuid, &word);
	return r < 0 ? r : 1;
}
