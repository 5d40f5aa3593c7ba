/* SPDX-License-Identifier: Apache-2.0 */
#include "move/mover/destination_disks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/fd.h"
#include "move/disks/frame.h"
#include "move/disks/receive.h"

#define LOOK_MS 50
#define TELL_NS NSEC_PER_SEC /* so often the source hears that this side still reads back */

struct destination_disks {
	struct mover *mover;
	uint32_t n_targets;
	struct disk_target *targets[LIMIT_DISKS];
	struct disk_receiver *receiver;
	uint32_t pass;	  /* the latest that was settled */
	uint64_t told_ns; /* when the source last heard of it */
};

DEFINE_CLEANUP(struct destination_disks, destination_disks_free, destination_disksp)

void destination_disks_free(struct destination_disks *disks)
{
	if (!disks)
		return;
	disk_receive_free(disks->receiver);
	for (uint32_t i = 0; i < disks->n_targets; i++)
		disk_target_free(disks->targets[i]);
	free(disks);
}

static int begin(struct destination_disks *disks)
{
	struct mover *mover = disks->mover;
	const struct move_job *job = mover->job;
	const struct disk_receive_settings settings = {
		.targets = disks->targets,
		.n_targets = job->n_disks,
		.readers = mover->readers,
		.n_streams = job->n_streams,
		.entry = mover->entry,
	};
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < job->n_disks; i++) {
		r = disk_target_new(job->disks[i].index, job->disks[i].fd, &disks->targets[i],
				    &mover->error);
		disks->n_targets += r == 0;
	}
	return r < 0 ? r : disk_receive_new(&settings, &disks->receiver);
}

/* ---- after a pass ---- */

static int tell_passed(struct destination_disks *disks, uint64_t left)
{
	uint8_t payload[DISK_PASSED_BYTES];

	disks->told_ns = clock_now(disks->mover->clock);
	le_store(payload, 4, disks->pass);
	le_store(payload + 4, 8, left);
	return mover_send(disks->mover, MOVE_DISK_PASSED, payload, sizeof(payload));
}

static int tick(void *ctx, uint64_t left)
{
	struct destination_disks *disks = ctx;
	struct mover *mover = disks->mover;

	if (mover_is_cancelled(mover))
		return -ECANCELED;
	return clock_now(mover->clock) - disks->told_ns < TELL_NS ? 0 : tell_passed(disks, left);
}

static int settle(struct destination_disks *disks, const struct disk_pass *pass)
{
	struct mover *mover = disks->mover;
	int r;

	if (pass->number != disks->pass + 1)
		return error_set(
			&mover->error, -EBADMSG, EXIT_STATUS_FAILED,
			"disks: the passes of the other host are out of order; upgrade the older "
			"utsusu");
	disks->pass++;
	disks->told_ns = clock_now(mover->clock);
	r = disk_receive_settle(disks->receiver, tick, disks, &mover->error);
	if (r == 0)
		r = mover_pass(mover, FAILPOINT_DESTINATION_DISKS);
	return r < 0 ? r : tell_passed(disks, 0);
}

/* ---- passes over all streams ---- */

static void show(struct destination_disks *disks)
{
	struct mover *mover = disks->mover;

	mover->numbers.disk_bytes = 0;
	for (uint32_t i = 0; i < disks->n_targets; i++)
		mover->numbers.disk_bytes += disk_target_bytes(disks->targets[i]);
	mover->numbers.sent = mover->numbers.disk_bytes;
	progress_numbers(&mover->progress, &mover->numbers, false);
}

/* Damage on another stream is the connection's; a disk that fails is this host's, and can still be told. */
static int fail(struct destination_disks *disks, int r, const struct error *err)
{
	struct mover *mover = disks->mover;

	error_set(&mover->error, r, err->status, "%s", err->message);
	return err->status == EXIT_STATUS_RESOURCE ? r : mover_lose(mover, r);
}

/* Stream 0's share of a pass. */
static int receive_share(struct destination_disks *disks, struct disk_pass *ret_pass)
{
	struct mover *mover = disks->mover;
	struct error err = { .status = EXIT_STATUS_FAILED };
	int r = 1;

	while (r == 1) {
		struct frame frame;

		r = mover_receive(mover, &frame);
		if (r < 0)
			return r;
		r = disk_receive_frame(disks->receiver, &frame, ret_pass, &err);
		if (r == 0)
			return mover_hear(mover, &frame) ? -EREMOTEIO : mover_refuse(mover, &frame);
		if (r > 0 && disk_receive_failed(disks->receiver, &err) < 0)
			r = err.code;
		show(disks);
	}
	return r < 0 ? fail(disks, r, &err) : 0;
}

static int wide_pass(struct destination_disks *disks, bool *ret_last)
{
	struct mover *mover = disks->mover;
	struct error err = { .status = EXIT_STATUS_FAILED };
	struct disk_pass pass;
	int r = disk_receive_begin(disks->receiver, &mover->error);

	if (r == 0)
		r = receive_share(disks, &pass);
	if (r < 0)
		return r;
	while ((r = disk_receive_wait(disks->receiver, &pass, LOOK_MS, &err)) == 0) {
		show(disks);
		if (mover_is_cancelled(mover))
			return -ECANCELED;
	}
	if (r < 0)
		return fail(disks, r, &err);
	*ret_last = pass.last;
	return settle(disks, &pass);
}

int destination_disks_run(struct mover *mover, struct destination_disks **ret_disks)
{
	_cleanup_(destination_disksp) struct destination_disks *disks = NULL;
	bool last = false;
	int r;

	*ret_disks = NULL;
	if (!mover->job->n_disks)
		return mover_pass(mover, FAILPOINT_DESTINATION_DISKS);
	disks = calloc(1, sizeof(*disks));
	if (!disks)
		return -ENOMEM;
	disks->mover = mover;
	r = begin(disks);
	while (r == 0 && !last)
		r = wide_pass(disks, &last);
	if (r < 0)
		return r;
	*ret_disks = TAKE_PTR(disks);
	return 0;
}

/* ---- between rounds, and the end ---- */

int destination_disks_frame(struct destination_disks *disks, const struct frame *frame)
{
	struct disk_pass pass;
	int r = disks ? disk_receive_frame(disks->receiver, frame, &pass, &disks->mover->error) : 0;

	if (r < 2)
		return r;
	r = settle(disks, &pass);
	return r < 0 ? r : 1;
}

int destination_disks_finish(struct destination_disks *disks)
{
	struct move_job *job = disks ? disks->mover->job : NULL;

	for (uint32_t i = 0; disks && i < disks->n_targets; i++)
		if (!disk_target_is_whole(disks->targets[i]))
			return error_set(
				&disks->mover->error, -EBADMSG, EXIT_STATUS_FAILED,
				"disk[%u]: its hash did not come; upgrade the older utsusu",
				disk_target_index(disks->targets[i]));
	for (uint32_t i = 0; job && i < job->n_disks; i++)
		fd_close(TAKE_FD(job->disks[i].fd));
	return 0;
}
