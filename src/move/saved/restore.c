/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "base/fd.h"
#include "move/saved/fill.h"
#include "move/pages/map.h"
#include "move/pages/receive.h"
#include "move/saved/save.h"
#include "move/saved/saved.h"
#include "vm/save.h"

#define LOOK_MS 50 /* between two looks at how far it is */

struct restore {
	struct mover mover;
	struct saved saved;
	struct pages_target *target;
	struct pages_unpack *unpack;
	struct frame_reader reader; /* its payload only: frames come out of the file */
	uint64_t state_len, chunks, entries;
	uint64_t used_ns; /* of our mark; 0: none */
	bool arriving, unknown, ran;
	struct fill *fill; /* NULL: all is loaded before it runs */
};

static struct error *error_of(struct restore *restore)
{
	return &restore->mover.error;
}

static int bad(struct restore *restore, const char *what)
{
	return error_set(error_of(restore), -EBADMSG, EXIT_STATUS_FAILED,
			 "file: damaged before byte %llu: %s; take another copy of it",
			 (unsigned long long)restore->saved.at, what);
}

/* ---- the VM, and whether it is the file's ---- */

static int open_file(struct restore *restore)
{
	const struct move_job *job = restore->mover.job;
	int r = saved_open(job->file_fd, &restore->saved, error_of(restore));

	if (r == 0 && !job->clone && restore->saved.used.used)
		r = saved_refuse_used(&restore->saved.used, error_of(restore));
	return r;
}

static int arrive(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	int r = mover->link->ops->facts(mover->link, &mover->facts, &mover->error);

	if (r == 0 && mover->facts.ram_bytes != restore->saved.head.ram_bytes)
		r = error_set(&mover->error, -EINVAL, EXIT_STATUS_RESOURCE,
			      "file: its VM has %llu bytes of memory, the one made for it %llu; "
			      "restore it with its own configuration",
			      (unsigned long long)restore->saved.head.ram_bytes,
			      (unsigned long long)mover->facts.ram_bytes);
	if (r == 0)
		r = move_shared_make(mover->facts.ram_bytes, &mover->shared);
	if (r == 0)
		r = mover->link->ops->arrive(mover->link, mover->job->token, mover->shared.fd, -1,
					     &mover->error);
	restore->arriving = r == 0;
	return r < 0 ? r : mover_pass(mover, FAILPOINT_DESTINATION_MACHINE);
}

/* ---- state ---- */

static int next_frame(struct restore *restore, struct frame *ret_frame)
{
	return saved_next(&restore->saved, &restore->reader.payload, ret_frame, error_of(restore));
}

static int read_state(struct restore *restore)
{
	const struct move_shared *shared = &restore->mover.shared;
	struct frame frame;

	for (;;) {
		int r = next_frame(restore, &frame);

		if (r < 0)
			return r;
		if (frame.kind != MOVE_STATE || frame.len > MOVE_STATE_MAX - restore->state_len)
			return bad(restore, "no end of the state, or too much of it");
		if (!frame.len)
			return 0;
		r = fd_write_at(shared->fd, restore->reader.payload.data, frame.len,
				shared->state_at + restore->state_len);
		if (r < 0)
			return r;
		restore->state_len += frame.len;
	}
}

/* A state that does not fit is refused before gigabytes are read. */
static int rehearse(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	int r;

	progress_phase(&mover->progress, PHASE_REHEARSE, NULL);
	r = read_state(restore);
	if (r == 0)
		r = mover->link->ops->load(mover->link, restore->state_len, 0, true, &mover->error);
	return r < 0 ? r : mover_pass(mover, FAILPOINT_DESTINATION_REHEARSED);
}

/* ---- pages ---- */

static int look_around(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	uint64_t whole = restore->saved.size;

	mover->numbers.sent = mover->numbers.wire = restore->saved.at;
	mover->numbers.left = whole - MIN(restore->saved.at, whole);
	progress_numbers(&mover->progress, &mover->numbers, false);
	return progress_cancelled(&mover->progress) ? -ECANCELED : 0;
}

/* 1: it was one. */
static int apply(struct restore *restore, const struct frame *frame)
{
	int r;

	if (frame->kind != MOVE_PACKED)
		return 0;
	restore->chunks++;
	restore->mover.numbers.pages += frame->len >= 4 ? le_load(restore->reader.payload.data, 4)
							: 0;
	r = pages_apply(restore->target, restore->unpack, &restore->reader, frame,
			error_of(restore));
	if (r == 1)
		r = look_around(restore);
	return r < 0 ? r : 1;
}

static int read_pages(struct restore *restore, struct frame *frame)
{
	int r = next_frame(restore, frame);

	while (r == 0 && (r = apply(restore, frame)) == 1)
		r = next_frame(restore, frame);
	return r;
}

/* The index is for those who read pages out of order; here it must only fit. `frame` is the first behind the pages. */
static int read_rest(struct restore *restore, struct frame *frame)
{
	const struct saved *saved = &restore->saved;

	while (frame->kind == SAVED_INDEX) {
		int r = frame->len % SAVED_INDEX_ENTRY ? bad(restore, "a piece of an index")
						       : next_frame(restore, frame);

		if (r < 0)
			return r;
		restore->entries += frame->kind == SAVED_INDEX;
	}
	if (frame->kind != SAVED_FOOT || saved->at != saved->size ||
	    saved->serial != saved->n_frames + 1)
		return bad(restore, "a frame that cannot be there");
	if (restore->chunks != saved->n_chunks || restore->mover.numbers.pages != saved->n_pages)
		return bad(restore, "pages are missing");
	return 0;
}

static int load_all(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	struct frame frame;
	int r;

	r = pages_target_new(mover->job->ram_fd, mover->facts.ram_bytes, true, &restore->target,
			     &mover->error);
	if (r == 0)
		r = pages_unpack_new(&restore->unpack);
	if (r == 0)
		r = read_pages(restore, &frame);
	return r < 0 ? r : read_rest(restore, &frame);
}

/* From here on what the VM touches is loaded: the load of its state touches some already. */
static int load_on_demand(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	const struct fill_settings settings = {
		.link = mover->link,
		.facts = &mover->facts,
		.ram_fd = mover->job->ram_fd,
		.shared = &mover->shared,
		.saved = &restore->saved,
		.entry = mover->entry,
	};
	struct error why = { 0 };
	int r = fill_new(&settings, &restore->fill, &why);

	if (r == -EOPNOTSUPP)
		progress_warning(&mover->progress, why.message);
	else if (why.code)
		mover->error = why;
	return r;
}

static int pages(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	int r = -EOPNOTSUPP;

	progress_phase(&mover->progress, PHASE_MEMORY, NULL);
	if (!mover->job->load_first)
		r = load_on_demand(restore);
	if (r == -EOPNOTSUPP)
		r = load_all(restore);
	return r < 0 ? r : mover_pass(mover, FAILPOINT_DESTINATION_ROUND);
}

/* ---- the run ---- */

/* How long it lay there, by the wall clock: the only one that both moments have. Another host's is not believed, and one that
 * went back counts as no time: the guest's clocks then stood still. */
static uint64_t slept_ns(struct restore *restore)
{
	uint64_t now = clock_wall(restore->mover.clock), then = restore->saved.head.wall_ns;
	const char *here = restore->mover.job->host;

	if (!here[0] || strcmp(here, restore->saved.head.host) != 0)
		return 0;
	return now > then ? MIN(now - then, VM_LOAD_STOPPED_MAX) : 0;
}

static int load(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	int r;

	progress_phase(&mover->progress, PHASE_STATE, NULL);
	r = mover->link->ops->load(mover->link, restore->state_len, slept_ns(restore), false,
				   &mover->error);
	if (r == 0 && mover->job->clone)
		r = mover->link->ops->renew(mover->link, &mover->error);
	return r < 0 ? r : mover_pass(mover, FAILPOINT_DESTINATION_LOADED);
}

static int use(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	uint64_t now = clock_wall(mover->clock);
	int r;

	progress_phase(&mover->progress, PHASE_COMMIT, NULL);
	if (mover->job->clone)
		return 0;
	r = saved_use(mover->job->file_fd, mover->job->peer, now, &mover->error);
	if (r < 0)
		return r;
	restore->used_ns = now;
	return mover_pass(mover, FAILPOINT_DESTINATION_COMMIT);
}

static int commit(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	bool ran = false;
	int r;

	/* Told before: whoever started us and hears no more knows by it whether the VM may have run. */
	progress_phase(&mover->progress, PHASE_RUN, NULL);
	r = mover->link->ops->commit(mover->link, &ran, &mover->error);
	restore->unknown = r < 0 && move_link_is_unknown(r);
	restore->ran = r == 0 && ran;
	if (r < 0 || ran) {
		mover->numbers.run_ns = clock_now(mover->clock) - mover->started_ns;
		/* Where memory is still to come that is told first. */
		if (r < 0 || !restore->fill)
			(void)!mover_pass(mover, FAILPOINT_DESTINATION_RAN);
		return r;
	}
	return error_set(&mover->error, -EIO, EXIT_STATUS_FAILED, "%s: its process did not run it",
			 mover->job->name);
}

/* ---- the rest of memory, while it runs ---- */

static void look_at_fill(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	struct move_numbers *numbers = &mover->numbers;

	numbers->left = fill_left(restore->fill) * PAGE_BYTES;
	numbers->sent = restore->saved.n_pages * PAGE_BYTES - numbers->left;
}

/* A guest that switches itself off needs no more. */
static bool has_ended(struct restore *restore, int r)
{
	const struct mover *mover = &restore->mover;
	bool ended = mover->link->ops->ended(mover->link);

	for (int i = 0; r == -ESRCH && !ended && i < MOVE_END_MS / LOOK_MS; i++) {
		(void)!poll(NULL, 0, LOOK_MS);
		ended = mover->link->ops->ended(mover->link);
	}
	return ended;
}

static int wait_for_all(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	int r;

	while ((r = fill_wait(restore->fill, LOOK_MS, &mover->error)) == 0) {
		look_at_fill(restore);
		progress_numbers(&mover->progress, &mover->numbers, false);
		if (mover->link->ops->ended(mover->link))
			return -ESRCH;
	}
	look_at_fill(restore);
	return r < 0 ? r : fill_finish(restore->fill, &mover->error);
}

/* Its memory will not come: it is told why, and ends. */
static void end_vm(struct restore *restore, const char *why)
{
	struct move_link *link = restore->mover.link;

	fill_give_up(restore->fill, why);
	fill_free(TAKE_PTR(restore->fill));
	(void)!link->ops->end(link, MOVE_END_MS);
}

/* Nobody's wish ends it now: the VM would be lost. */
static int fill_memory(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	int r;

	if (!restore->fill)
		return 0;
	look_at_fill(restore);
	progress_ran(&mover->progress, &mover->numbers);
	(void)!mover_pass(mover, FAILPOINT_DESTINATION_RAN);
	mover->numbers.pages = restore->saved.n_pages;
	mover->numbers.wire = restore->saved.size;
	fill_rest(restore->fill);
	r = wait_for_all(restore);
	if (r < 0 && has_ended(restore, r)) {
		progress_warning(&mover->progress, "it ended while its memory was being loaded");
		return 0;
	}
	if (r < 0)
		end_vm(restore, mover->error.code ? mover->error.message : strerror(-r));
	return r;
}

static int run(struct restore *restore)
{
	static int (*const steps[])(struct restore *) = { open_file, arrive, rehearse, pages,
							  load,	     use,    commit };
	int r = mover_pass(&restore->mover, FAILPOINT_DESTINATION_START);

	progress_phase(&restore->mover.progress, PHASE_RESERVE, NULL);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(steps); i++)
		r = progress_cancelled(&restore->mover.progress) ? -ECANCELED : steps[i](restore);
	/* One that did not say whether it runs gets its memory all the same. */
	if (r < 0 && restore->unknown && restore->fill) {
		fill_rest(restore->fill);
		(void)!wait_for_all(restore);
	}
	return r < 0 ? r : fill_memory(restore);
}

/* The mark is taken back only once the VM's process is seen to have ended: until then it might run. */
static void undo(struct restore *restore)
{
	struct mover *mover = &restore->mover;
	bool gone = !restore->arriving || restore->unknown
			    ? mover->link->ops->ended(mover->link)
			    : mover->link->ops->end(mover->link, MOVE_END_MS) == 0;

	restore->unknown = restore->used_ns && !gone;
	if (restore->used_ns && gone &&
	    saved_unuse(mover->job->file_fd, mover->job->peer, restore->used_ns) < 0)
		progress_warning(&mover->progress,
				 "the file stays marked as used, though its VM did not run");
}

static enum move_end end_lost(struct restore *restore, int r, struct error *err)
{
	const struct error *why = &restore->mover.error;

	error_set(err, r, why->code ? why->status : EXIT_STATUS_FAILED,
		  "%s: ran, and was ended, as its memory cannot be loaded: %s; the file stays "
		  "marked as used",
		  restore->mover.job->name, why->code ? why->message : strerror(-r));
	return MOVE_END_FAILED;
}

static enum move_end end_of(struct restore *restore, int r, struct error *err)
{
	if (r == 0)
		return MOVE_END_RAN;
	if (restore->ran)
		return end_lost(restore, r, err);
	if (r == -ECANCELED && !restore->mover.error.code) {
		error_set(err, r, EXIT_STATUS_FAILED,
			  "%s: restoring was cancelled; the file is as before",
			  restore->mover.job->name);
		return MOVE_END_CANCELLED;
	}
	error_set(error_of(restore), r, EXIT_STATUS_FAILED, "%s: cannot be restored: %s",
		  restore->mover.job->name, strerror(-r));
	*err = restore->mover.error;
	return restore->unknown ? MOVE_END_IN_DOUBT : MOVE_END_FAILED;
}

static void restore_free(struct restore *restore)
{
	fill_free(restore->fill);
	saved_release(&restore->saved);
	buffer_release(&restore->reader.payload);
	pages_unpack_free(restore->unpack);
	pages_target_free(restore->target);
	mover_release(&restore->mover);
	free(restore);
}

enum move_end move_restore(const struct mover_settings *settings, struct move_numbers *ret_numbers,
			   struct error *err)
{
	struct restore *restore = calloc(1, sizeof(*restore));
	enum move_end end;
	int r;

	if (!restore) {
		error_set(err, -ENOMEM, EXIT_STATUS_HOST, "no memory to restore a VM; free some");
		return MOVE_END_FAILED;
	}
	buffer_init(&restore->reader.payload, FRAME_MAX);
	r = mover_init(&restore->mover, settings);
	if (r == 0)
		r = run(restore);
	if (r < 0 && !restore->ran)
		undo(restore);
	end = end_of(restore, r, err);
	restore->mover.numbers.total_ns = clock_now(settings->clock) - restore->mover.started_ns;
	progress_end(&restore->mover.progress, end, &restore->mover.numbers, err);
	*ret_numbers = restore->mover.numbers;
	restore_free(restore);
	return end;
}
