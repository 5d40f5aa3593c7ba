/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What becomes of an epoch. Up to the first whole one nobody could go on from what is here, so everything goes where it belongs at once. From then on:
 *
 *   writes -> journal, durable | the VM hears, and says whether it may be acknowledged | ACK | RAM here, the disks by the applier
 */
#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/fd.h"
#include "protect/guard/backup_internal.h"
#include "protect/shared.h"

#define SYNC_BYTES                                                                                 \
	MIB(64) /* of filling between two syncs, so that the gate need not wait for long */

/* This host's fault. */
static int broke(struct backup *backup, int r, const char *what, struct error *err)
{
	backup->broken = true;
	return error_set(err, r, EXIT_STATUS_RESOURCE, "%s: %s: %s; see this host's kernel log",
			 backup->guard.job->name, what, strerror(-r));
}

/* ---- writes ---- */

static int write_disk(struct backup *backup, const struct journal_write *write, struct error *err)
{
	struct storage *disk = &backup->disks[write->disk].storage;
	int r = write->kind == JOURNAL_WRITE
			? storage_write(disk, write->data, (size_t)write->len, write->offset)
			: storage_zero(disk, write->offset, write->len,
				       write->kind == JOURNAL_DISCARD);

	backup->unsynced += write->kind == JOURNAL_WRITE ? write->len : MEMORY_PAGE_SIZE;
	return r < 0 ? broke(backup, r, "a disk cannot be written", err) : 0;
}

static int open_journal(struct backup *backup, uint64_t epoch, struct error *err)
{
	int r;

	if (backup->journalled == epoch)
		return 0;
	r = journal_begin(backup->journal, epoch);
	if (r == -ENOSPC) {
		r = applier_wait(&backup->applier, backup->last, err);
		if (r == 0)
			r = journal_begin(backup->journal, epoch);
	}
	if (r < 0)
		return broke(backup, r, "the journal cannot be written", err);
	backup->journalled = epoch;
	return 0;
}

/* A full one waits for the disks. */
static int write_journal(struct backup *backup, uint64_t epoch, const struct journal_write *write,
			 struct error *err)
{
	int r = open_journal(backup, epoch, err);

	if (r < 0)
		return r;
	r = journal_append(backup->journal, write);
	if (r == -ENOSPC) {
		r = applier_wait(&backup->applier, backup->last, err);
		if (r == 0)
			r = journal_append(backup->journal, write);
	}
	if (r == -EFBIG || r == -ENOSPC)
		return broke(backup, r,
			     "the journal is too small for what the VM writes between two epochs",
			     err);
	return r < 0 ? broke(backup, r, "the journal cannot be written", err) : 0;
}

int backup_take_write(void *ctx, uint64_t epoch, const struct journal_write *write,
		      struct error *err)
{
	struct backup *backup = ctx;
	int r;

	pulse_listen(&backup->pulse, false);
	r = backup->last ? write_journal(backup, epoch, write, err)
			 : write_disk(backup, write, err);
	pulse_listen(&backup->pulse, true);
	return r;
}

/* ---- filling ---- */

static int sync_disks(struct backup *backup, struct error *err)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < backup->guard.n_disks; i++)
		r = storage_sync(&backup->disks[i].storage);
	backup->unsynced = 0;
	return r < 0 ? broke(backup, r, "a disk cannot be written", err) : 0;
}

static int acknowledge(struct backup *backup, struct error *err)
{
	struct guard *guard = &backup->guard;
	uint8_t bytes[PROTECT_ACK_BYTES];
	int r;

	le_store(bytes, 8, guard->origin.generation);
	memcpy(bytes + 8, guard->origin.session.bytes, PROTECT_SESSION_BYTES);
	le_store(bytes + 24, 8, backup->epoch.number);
	r = guard_say(guard, PROTECT_ACK, bytes, sizeof(bytes));
	return r < 0 ? guard_lost(guard, r, err) : 0;
}

static int fill(struct backup *backup, struct error *err)
{
	int r = 0;

	if (backup->last)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "protect: epoch %llu has no state",
				 (unsigned long long)backup->epoch.number);
	epoch_apply(&backup->epoch, &backup->memory);
	if (backup->unsynced >= SYNC_BYTES)
		r = sync_disks(backup, err);
	return r < 0 ? r : acknowledge(backup, err);
}

/* ---- whole epochs ---- */

/* Whether this VM's program takes such a state: better known now than when its owner is dead. */
static int rehearse(struct backup *backup, struct error *err)
{
	struct guard *guard = &backup->guard;
	struct iovec vm, held;
	int r = protect_state_parts(backup->epoch.state.data, backup->epoch.state.len, &vm, &held);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "%s: sent a state that makes no sense",
				 guard->job->peer);
	r = fd_write_at(backup->shared.fd, vm.iov_base, vm.iov_len, backup->shared.state_at);
	if (r == 0)
		r = guard->link->ops->rehearse(guard->link, vm.iov_len, err);
	return r < 0 ? broke(backup, r, "its state cannot be taken", err) : 0;
}

/* The first one: what came before is nothing to go back to, so it may go into RAM at once, where the rehearsal looks. */
static int make_whole(struct backup *backup, struct error *err)
{
	int r = 0;

	epoch_apply(&backup->epoch, &backup->memory);
	r = rehearse(backup, err);
	if (r == 0)
		r = sync_disks(backup, err);
	if (r < 0 || !backup->journal)
		return r;
	r = journal_mark_whole(backup->journal, err);
	backup->broken |= r < 0;
	return r;
}

static int seal(struct backup *backup, struct error *err)
{
	int r;

	if (!backup->journal)
		return 0;
	r = open_journal(backup, backup->epoch.number, err);
	if (r < 0)
		return r;
	r = journal_seal(backup->journal);
	return r < 0 ? broke(backup, r, "the journal cannot be made durable", err) : 0;
}

/* It is what the VM would go on from, whether its owner hears of that or not. */
static void keep(struct backup *backup)
{
	container_keep(&backup->state, &backup->epoch.state);
	backup->last = backup->epoch.number;
	backup->last_ns = clock_now(backup->guard.clock);
}

/* With what it leaves out, as that is here. */
static int complete(struct backup *backup, struct error *err)
{
	int r = container_unpack(&backup->state, &backup->epoch.state);

	return r < 0 ? error_set(err, r, EXIT_STATUS_FAILED, "%s: sent a state that makes no sense",
				 backup->guard.job->peer)
		     : 0;
}

static int take_whole(struct backup *backup, struct error *err)
{
	struct guard *guard = &backup->guard;
	const bool first = !backup->last;
	bool ack = false;
	int r = complete(backup, err);

	if (r == 0 && first)
		r = make_whole(backup, err);

	if (r == 0)
		r = seal(backup, err);
	if (r < 0)
		return r;
	r = guard->link->ops->whole(guard->link, backup->epoch.number, &ack, err);
	if (r < 0)
		return broke(backup, r, "the VM does not answer", err);
	if (!ack)
		return 1;
	keep(backup);
	r = acknowledge(backup, err);
	if (!first)
		epoch_apply(&backup->epoch, &backup->memory);
	applier_post(&backup->applier, backup->last);
	return r;
}

int backup_take_epoch(struct backup *backup, const struct frame *first, struct error *err)
{
	int r;

	epoch_clear(&backup->epoch, GUARD_KEEP_PAGES);
	pulse_listen(&backup->pulse, true);
	r = epoch_receive_rest(backup->receiver, first, &backup->epoch, err);
	pulse_listen(&backup->pulse, false);
	if (r == 0)
		r = backup->epoch.state.len ? take_whole(backup, err) : fill(backup, err);
	if (r != 0 && backup->journal && !backup->broken)
		journal_drop(backup->journal);
	backup->journalled = 0;
	return r;
}
