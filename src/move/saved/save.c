/* SPDX-License-Identifier: Apache-2.0 */
#include "move/saved/save.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "move/pages/batch.h"
#include "move/pages/zero.h"
#include "move/saved/saved.h"

struct save {
	struct mover mover;
	struct saved_writer writer;
	struct page_map *map;
	struct page_batch batch;
	struct packer *packer;
	uint64_t state_len, stopped_at, wall_ns;
	bool begun, unknown;
};

static int told(struct save *save, int r)
{
	if (r == 0 || r == -ECANCELED)
		return r;
	if (r == -ENOSPC || r == -EDQUOT)
		return error_set(
			&save->mover.error, r, EXIT_STATUS_RESOURCE,
			"file: no room for it (%s); free some, or give a FILE on another disk",
			strerror(-r));
	return error_set(&save->mover.error, r, EXIT_STATUS_FAILED, "file: cannot be written: %s",
			 strerror(-r));
}

/* ---- before the stop ---- */

static int check(struct save *save)
{
	struct mover *mover = &save->mover;
	_cleanup_(freep) struct problems *problems = calloc(1, sizeof(*problems));
	int r = problems ? mover->link->ops->facts(mover->link, &mover->facts, &mover->error)
			 : -ENOMEM;

	if (r == 0)
		r = mover->link->ops->check(mover->link, problems);
	if (r == 0 && problems->count) {
		mover->error = problems->list[0];
		r = mover->error.code;
	}
	return r;
}

static int begin(struct save *save)
{
	struct mover *mover = &save->mover;
	int r = move_shared_make(mover->facts.ram_bytes, &mover->shared);

	if (r == 0)
		r = mover->link->ops->begin(mover->link, mover->job->token, mover->shared.fd,
					    mover->job->mark_fd, &mover->error);
	save->begun = r == 0;
	if (r == 0)
		r = page_map_new(mover->job->ram_fd, mover->facts.ram_bytes, mover->shared.bitmap,
				 &save->map, &mover->error);
	if (r == 0)
		r = page_batch_init(&save->batch);
	if (r == 0)
		r = packer_new(&save->packer);
	return r < 0 ? r : mover_pass(mover, FAILPOINT_SOURCE_BEGUN);
}

static int stop(struct save *save)
{
	struct mover *mover = &save->mover;
	uint64_t stopped_ns;
	int r;

	progress_phase(&mover->progress, PHASE_STOP, NULL);
	r = mover->link->ops->stop(mover->link, MOVE_STOP_MS, &stopped_ns, &mover->error);
	if (r < 0)
		return r;
	save->stopped_at = clock_now(mover->clock) - stopped_ns;
	save->wall_ns = clock_wall(mover->clock);
	return mover_pass(mover, FAILPOINT_SOURCE_STOPPED);
}

/* ---- state ---- */

static int write_head(struct save *save)
{
	const struct move_facts *facts = &save->mover.facts;
	struct saved_head head = {
		.generation = save->mover.job->generation,
		.ram_bytes = facts->ram_bytes,
		.wall_ns = save->wall_ns,
		.config = facts->config,
	};

	snprintf(head.name, sizeof(head.name), "%s", facts->name);
	snprintf(head.uuid, sizeof(head.uuid), "%s", facts->uuid);
	memcpy(head.host, save->mover.job->host, sizeof(head.host));
	return saved_write_head(&save->writer, &head);
}

static int write_state(struct save *save)
{
	const struct move_shared *shared = &save->mover.shared;
	_cleanup_(freep) uint8_t *piece = malloc(SAVED_PIECE);
	int r = piece ? 0 : -ENOMEM;

	for (uint64_t at = 0, n; r == 0 && at < save->state_len; at += n) {
		n = MIN(save->state_len - at, SAVED_PIECE);
		r = fd_read_at(shared->fd, piece, n, shared->state_at + at);
		if (r == 0)
			r = saved_write(&save->writer, MOVE_STATE, piece, n);
	}
	return r < 0 ? r : saved_write(&save->writer, MOVE_STATE, "", 0);
}

static int state(struct save *save)
{
	struct mover *mover = &save->mover;
	int r;

	progress_phase(&mover->progress, PHASE_STATE, NULL);
	r = mover->link->ops->save(mover->link, mover->facts.state_max, &save->state_len,
				   &mover->error);
	if (r < 0)
		return r;
	r = saved_writer_init(&save->writer, mover->job->file_fd);
	if (r == 0)
		r = write_head(save);
	if (r == 0)
		r = write_state(save);
	return r < 0 ? told(save, r) : mover_pass(mover, FAILPOINT_SOURCE_STATE);
}

/* ---- pages ---- */

static int look_around(struct save *save)
{
	struct mover *mover = &save->mover;

	mover->numbers.sent = mover->numbers.pages * PAGE_BYTES;
	mover->numbers.wire = save->writer.at;
	mover->numbers.left = page_map_left(save->map) * PAGE_BYTES;
	progress_numbers(&mover->progress, &mover->numbers, false);
	return progress_cancelled(&mover->progress) ? -ECANCELED : 0;
}

static int flush(struct save *save)
{
	struct page_batch *batch = &save->batch;
	const uint8_t *payload;
	size_t len;
	int r;

	if (!batch->n)
		return 0;
	r = packer_pack(save->packer, batch, &payload, &len);
	if (r == 0)
		r = saved_write_chunk(&save->writer, batch->pages[0], batch->n, payload, len);
	batch->n = 0;
	return r < 0 ? told(save, r) : look_around(save);
}

static int add_page(struct save *save, uint64_t page)
{
	const uint8_t *content = page_map_ram(save->map) + page * PAGE_BYTES;
	struct page_batch *batch = &save->batch;

	if (page_is_zero(content)) {
		save->mover.numbers.zero_pages++;
		return 0;
	}
	batch->pages[batch->n] = page;
	memcpy(page_batch_at(batch, batch->n), content, PAGE_BYTES);
	batch->n++;
	save->mover.numbers.pages++;
	return batch->n == MOVE_BATCH_PAGES ? flush(save) : 0;
}

static int add_claim(struct save *save, struct page_claim *claim)
{
	uint64_t first;
	uint32_t n;
	int r = 0;

	while (r == 0 && page_claim_run(claim, MOVE_BATCH_PAGES, &first, &n))
		for (uint32_t i = 0; r == 0 && i < n; i++)
			r = add_page(save, first + i);
	return r;
}

/* The guest stands: each page is read once. Claims ascend, so a batch's pages do. */
static int pages(struct save *save)
{
	struct mover *mover = &save->mover;
	struct page_claim claim;
	int r;

	progress_phase(&mover->progress, PHASE_MEMORY, NULL);
	r = page_map_add_populated(save->map, &mover->error);
	if (r < 0)
		return r;
	page_map_rewind(save->map);
	while (r == 0 && page_map_claim(save->map, MOVE_BATCH_PAGES, &claim))
		r = add_claim(save, &claim);
	if (r == 0)
		r = flush(save);
	return r < 0 ? r : mover_pass(mover, FAILPOINT_SOURCE_LAST_ROUND);
}

/* ---- the commit ---- */

static int finish_file(struct save *save)
{
	int r = saved_finish(&save->writer);

	if (r == 0 && progress_cancelled(&save->mover.progress))
		r = -ECANCELED;
	return r < 0 ? told(save, r) : mover_pass(&save->mover, FAILPOINT_SOURCE_READY);
}

static int give(struct save *save)
{
	struct mover *mover = &save->mover;
	int r;

	progress_phase(&mover->progress, PHASE_COMMIT, NULL);
	r = mover->link->ops->given(mover->link, "a file", mover->job->generation, &mover->error);
	save->unknown = r < 0 && move_link_is_unknown(r);
	if (r == 0)
		save->begun = false;
	return r;
}

/* Whatever happens here, the VM is in the file. */
static void end_vm(struct save *save)
{
	struct mover *mover = &save->mover;
	struct error err = { 0 };

	mover->numbers.down_ns = clock_now(mover->clock) - save->stopped_at;
	if (mover_pass(mover, FAILPOINT_SOURCE_GIVEN) < 0 ||
	    mover->link->ops->ran(mover->link, mover->job->token, "a file", &err) < 0)
		progress_warning(&mover->progress,
				 "the VM is saved, but its process did not hear that it may end");
	else if (mover->link->ops->end(mover->link, MOVE_END_MS) < 0)
		progress_warning(&mover->progress, "the VM is saved, but its process does not end");
	(void)!mover_pass(mover, FAILPOINT_SOURCE_SETTLED);
}

static int run(struct save *save)
{
	static int (*const steps[])(struct save *) = { check, begin,	   stop, state,
						       pages, finish_file, give };
	int r = mover_pass(&save->mover, FAILPOINT_SOURCE_START);

	progress_phase(&save->mover.progress, PHASE_CHECK, NULL);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(steps); i++)
		r = progress_cancelled(&save->mover.progress) ? -ECANCELED : steps[i](save);
	if (r == 0)
		end_vm(save);
	return r;
}

static void undo(struct save *save)
{
	struct mover *mover = &save->mover;
	struct error unheard = { 0 };

	/* Where this fails, the end of our link undoes it all the same. */
	if (save->begun && !save->unknown)
		(void)!mover->link->ops->cancel(mover->link, &unheard);
}

static enum move_end end_of(struct save *save, int r, struct error *err)
{
	if (r == 0)
		return MOVE_END_RAN;
	if (r == -ECANCELED && !save->mover.error.code) {
		error_set(err, r, EXIT_STATUS_FAILED, "%s: saving was cancelled; it runs as before",
			  save->mover.job->name);
		return MOVE_END_CANCELLED;
	}
	error_set(&save->mover.error, r, EXIT_STATUS_FAILED, "%s: cannot be saved: %s",
		  save->mover.job->name, strerror(-r));
	*err = save->mover.error;
	return save->unknown ? MOVE_END_IN_DOUBT : MOVE_END_FAILED;
}

static void save_free(struct save *save)
{
	saved_writer_release(&save->writer);
	page_batch_release(&save->batch);
	packer_free(save->packer);
	page_map_free(save->map);
	mover_release(&save->mover);
	free(save);
}

enum move_end move_save(const struct mover_settings *settings, struct move_numbers *ret_numbers,
			struct error *err)
{
	struct save *save = calloc(1, sizeof(*save));
	enum move_end end;
	int r;

	if (!save) {
		error_set(err, -ENOMEM, EXIT_STATUS_HOST, "no memory to save a VM; free some");
		return MOVE_END_FAILED;
	}
	r = mover_init(&save->mover, settings);
	if (r == 0)
		r = run(save);
	if (r < 0)
		undo(save);
	end = end_of(save, r, err);
	save->mover.numbers.total_ns = clock_now(settings->clock) - save->mover.started_ns;
	save->mover.numbers.wire = save->writer.at;
	progress_end(&save->mover.progress, end, &save->mover.numbers, err);
	*ret_numbers = save->mover.numbers;
	save_free(save);
	return end;
}
