/* SPDX-License-Identifier: Apache-2.0 */
#include "move/mover/destination_postcopy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/endian.h"
#include "move/pages/demand.h"
#include "move/mover/ear.h"
#include "move/pages/missing.h"

#define LOOK_MS 50
#define HUGE_PAGES 512
#define SILENT_NS NSEC_PER_SEC

struct destination_rest {
	struct destination *destination;
	struct missing missing;
	struct move_demand vm;
	struct demand *demand;
	struct ear ear;
	struct pages_round round; /* the last, once it has come; the ear's until it is read */
	struct error error;	  /* the ear's */
	uint64_t received, heard_ns, began_ns;
	bool stands;		       /* the vCPUs do, for want of the link */
	char farewell[MOVE_LAST_WORD]; /* the VM's, when it ends as it should; "": it does not */
};

/* ---- what is missing ---- */

/* Of files with pages of 2 MiB the whole page becomes a hole; the source sends all that it ever sent of it. */
static uint64_t block_of(const struct mover *mover)
{
	return mover->facts.hugepages == MEMORY_HUGE_OFF ? 1 : HUGE_PAGES;
}

static int make_holes(struct destination_rest *rest)
{
	struct mover *mover = &rest->destination->mover;
	uint64_t at = 0, first, n;
	int r = 0;

	while (r == 0 && missing_next(&rest->missing, block_of(mover), &at, &first, &n)) {
		r = demand_empty(rest->demand, first, n, &mover->error);
		pages_target_forget(rest->destination->target, first, n);
	}
	for (at = 0; r == 0 && missing_next(&rest->missing, 1, &at, &first, &n);)
		demand_expect(rest->demand, first, n, n);
	return r < 0 ? r : pages_target_whole(rest->destination->target, &mover->error);
}

/* The fault thread's: other threads send on that stream too. What cannot be sent is seen by whoever receives. */
static void wanted(void *ctx, uint64_t first, uint32_t n)
{
	struct destination_rest *rest = ctx;
	struct mover *mover = &rest->destination->mover;
	uint8_t payload[WANTED_BYTES];

	wanted_put(first, n, payload);
	line_take(&mover->line, true);
	(void)!frame_send(&mover->writers[0], MOVE_FAULT, payload, sizeof(payload));
	line_give(&mover->line, true);
}

static int make_demand(struct destination_rest *rest)
{
	struct mover *mover = &rest->destination->mover;
	struct demand_settings settings = {
		.vm = &rest->vm,
		.facts = &mover->facts,
		.ram_fd = mover->job->ram_fd,
		.shared = &mover->shared,
		.entry = mover->entry,
		.wanted = wanted,
		.ctx = rest,
	};
	int r = mover->link->ops->demand(mover->link, &rest->vm, &mover->error);

	if (r == 0)
		r = demand_new(&settings, &rest->demand, &mover->error);
	if (r == 0)
		r = make_holes(rest);
	if (r == 0)
		r = demand_start(rest->demand, &mover->error);
	if (r == 0)
		pages_target_set_demand(rest->destination->target, rest->demand);
	return r;
}

static int take_list(struct destination_rest *rest, const struct frame *first)
{
	struct mover *mover = &rest->destination->mover;
	struct frame frame = *first;
	int r;

	for (;;) {
		r = missing_take(&rest->missing, mover->readers[0].payload.data, frame.len,
				 &mover->error);
		if (r != 0)
			return MIN(r, 0);
		r = destination_receive(mover, MOVE_MISSING, &frame);
		if (r < 0)
			return r;
	}
}

int destination_rest_take(struct destination *destination, const struct frame *frame)
{
	struct mover *mover = &destination->mover;
	struct destination_rest *rest = calloc(1, sizeof(*rest));
	int r;

	if (!rest)
		return -ENOMEM;
	*rest = (struct destination_rest){ .destination = destination, .vm = { -1, -1, { 0 } } };
	destination->rest = rest;
	r = missing_init(&rest->missing, mover->facts.ram_bytes / DEMAND_PAGE_BYTES);
	if (r == 0)
		r = take_list(rest, frame);
	if (r == 0)
		r = make_demand(rest);
	missing_release(&rest->missing);
	if (r == 0)
		mover_post(mover, ON_POSTCOPY, PHASE_MEMORY);
	return r;
}

/* ---- the ear ---- */

static int listen_once(void *ctx, struct frame *ret_frame)
{
	struct destination_rest *rest = ctx;
	int r = pages_receive_round(rest->destination->receiver, &rest->round, ret_frame,
				    &rest->error);

	if (r <= 0)
		return r < 0 ? r : 1;
	*ret_frame = (struct frame){ .kind = MOVE_ROUND, .flags = FRAME_CHECKED };
	return 1;
}

static int begin_listening(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	struct destination_rest *rest = destination->rest;

	/* Between two frames only: it is this mover's to judge how long that may be. */
	pages_receive_be_patient(destination->receiver);
	rest->received = mover_counts(mover).wire_received;
	rest->heard_ns = rest->began_ns = clock_now(mover->clock);
	return ear_start(&rest->ear, listen_once, rest, mover->entry);
}

bool destination_rest_listens(const struct destination *destination)
{
	return destination->rest && destination->rest->ear.runs;
}

/* ---- the mover's own thread ---- */

static bool runs(const struct destination *destination)
{
	return destination->handover.at == DESTINATION_RUNS;
}

static void stand(struct destination *destination, bool stands)
{
	struct mover *mover = &destination->mover;
	struct error err = { 0 };

	destination->rest->stands = stands;
	if (mover->link->ops->wait(mover->link, stands, &err) < 0)
		progress_warning(&mover->progress, err.message);
	progress_why(&mover->progress, stands ? "nothing is heard of the source: it waits" : NULL);
}

static void watch_silence(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	struct destination_rest *rest = destination->rest;
	uint64_t now_ns = clock_now(mover->clock), received = mover_counts(mover).wire_received,
		 silent_ns;

	if (received != rest->received) {
		rest->received = received;
		rest->heard_ns = now_ns;
	}
	silent_ns = now_ns - rest->heard_ns;
	if (!runs(destination)) {
		mover_judge_wait(mover, silent_ns, now_ns - rest->began_ns);
	} else if (!rest->stands && silent_ns >= SILENT_NS && demand_waited(rest->demand)) {
		stand(destination, true);
	} else if (rest->stands && silent_ns < SILENT_NS) {
		stand(destination, false);
	}
}

/* Its pages still come meanwhile, on other threads: its own may stand in them. One that hangs then our going ends. */
static void see_off(struct destination *destination)
{
	struct mover *mover = &destination->mover;

	(void)mover->link->ops->end(mover->link, MOVE_END_MS);
	progress_ended(&mover->progress, destination->rest->farewell);
	mover_post(mover, ON_VM_ENDED, destination->handover.phase);
}

/* What it said was said before its end. */
static bool is_over(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	struct destination_rest *rest = destination->rest;
	const bool ended = mover->link->ops->ended(mover->link);

	if (runs(destination) && move_life_hear(rest->vm.life, rest->farewell)) {
		see_off(destination);
		return true;
	}
	if (!ended)
		return false;
	error_set(&mover->error, -ECONNRESET, EXIT_STATUS_FAILED,
		  "its process has ended; see this host's journal");
	mover_post(mover, ON_VM_DIED, destination->handover.phase);
	return true;
}

/* Pages that nobody takes any more would take it away with the connection. */
bool destination_rest_part(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	struct destination_rest *rest = destination->rest;
	const uint64_t until_ns = clock_now(mover->clock) + mover->peer_ms * NSEC_PER_MSEC;
	struct frame frame;
	int r;

	if (!rest || !rest->farewell[0])
		return false;
	if (mover->features & MOVE_FEATURE_ENDED)
		r = mover_send(mover, MOVE_ENDED, rest->farewell, strlen(rest->farewell));
	else
		r = mover_send(mover, MOVE_VERIFIED, NULL, 0);
	while (r >= 0 && clock_now(mover->clock) < until_ns) {
		r = ear_hear(&rest->ear, LOOK_MS, &frame);
		if (r > 0)
			ear_go_on(&rest->ear);
	}
	return true;
}

static void fail(struct destination *destination)
{
	mover_post(&destination->mover, ON_FAILED, destination->handover.phase);
}

/* The VM is like any other now. */
static void all_there(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	struct destination_rest *rest = destination->rest;
	struct error unheard = { 0 };
	uint8_t number[4];
	int r = demand_finish(rest->demand, &mover->error);

	ear_stop(&rest->ear);
	if (r < 0) {
		fail(destination);
		return;
	}
	if (rest->stands)
		stand(destination, false);
	/* Our going tells it as well. */
	if (mover->link->ops->filled(mover->link, &unheard) < 0)
		progress_warning(&mover->progress, unheard.message);
	pages_receive_numbers(destination->receiver, &mover->numbers);
	progress_numbers(&mover->progress, &mover->numbers, true);
	mover_post(mover, ON_DONE, PHASE_RUN); /* before what a lost link would mean */
	le_store(number, 4, rest->round.number);
	mover_send(mover, MOVE_ROUND_DONE, number, sizeof(number));
}

static void hear_frame(struct destination *destination, const struct frame *frame)
{
	struct destination_rest *rest = destination->rest;

	if (frame->kind != MOVE_ROUND) {
		destination_hear(destination, frame);
		ear_go_on(&rest->ear);
	} else if (
		!runs(destination)) { /* it is no peer of ours that sends all before its COMMIT */
		mover_refuse(&destination->mover, frame);
	} else {
		all_there(destination);
	}
}

static bool has_all(const struct destination *destination)
{
	return runs(destination) && !demand_left(destination->rest->demand);
}

void destination_rest_commit(struct destination *destination)
{
	if (destination->rest)
		mover_be_patient(&destination->mover);
}

/* ---- the load ---- */

struct loading {
	struct destination *destination;
	uint64_t stopped_ns;
	bool over; /* atomic; then the rest is to be read */
	int result;
	struct error error;
};

static void *load_main(void *arg)
{
	struct loading *loading = arg;
	struct destination *destination = loading->destination;
	struct move_link *link = destination->mover.link;

	loading->result = link->ops->load(link, destination->state_len, loading->stopped_ns, false,
					  &loading->error);
	__atomic_store_n(&loading->over, true, __ATOMIC_RELEASE);
	ear_rouse(&destination->rest->ear);
	return NULL;
}

/* Whatever comes meanwhile is the end of it: the VM ends too then, whichever page it stands in. */
static int listen_while(struct loading *loading)
{
	struct destination *destination = loading->destination;
	struct mover *mover = &destination->mover;

	while (!__atomic_load_n(&loading->over, __ATOMIC_ACQUIRE)) {
		destination_rest_hear(destination);
		if (!mover->n_events)
			continue;
		destination_rest_give_up(destination);
		return -ECANCELED;
	}
	return 0;
}

int destination_rest_load(struct destination *destination, uint64_t stopped_ns)
{
	struct mover *mover = &destination->mover;
	struct loading loading = { .destination = destination, .stopped_ns = stopped_ns };
	pthread_t thread;
	int r = begin_listening(destination);

	if (r == 0)
		r = thread_start("load", mover->entry, load_main, &loading, &thread);
	if (r < 0)
		return r;
	r = listen_while(&loading);
	pthread_join(thread, NULL);
	if (r < 0 || loading.result == 0)
		return r;
	return error_set(&mover->error, loading.result, loading.error.status, "%s",
			 loading.error.message);
}

bool destination_rest_is_there(struct destination *destination)
{
	if (!destination_rest_listens(destination) || !has_all(destination))
		return false;
	stream_cancel(destination->mover.streams[0]);
	all_there(destination);
	return true;
}

/* The connection has ended. Where all pages came before, nothing of it is missed. */
static void lose(struct destination *destination, int r)
{
	struct mover *mover = &destination->mover;
	struct destination_rest *rest = destination->rest;

	if (has_all(destination)) {
		all_there(destination);
		return;
	}
	if (is_over(destination))
		return;
	if (rest->error.code)
		error_set(&mover->error, r, rest->error.status, "%s", rest->error.message);
	mover_lose(mover, r);
}

void destination_rest_hear(struct destination *destination)
{
	struct mover *mover = &destination->mover;
	struct destination_rest *rest = destination->rest;
	struct frame frame;
	int r = ear_hear(&rest->ear, LOOK_MS, &frame);

	if (r < 0)
		lose(destination, r);
	if (r > 0)
		hear_frame(destination, &frame);
	if (r != 0 || is_over(destination))
		return;
	if (demand_check(rest->demand, &mover->error) < 0) {
		fail(destination);
		return;
	}
	mover_is_cancelled(mover);
	watch_silence(destination);
	pages_receive_numbers(destination->receiver, &mover->numbers);
	mover->numbers.left = demand_left(rest->demand) * DEMAND_PAGE_BYTES;
	progress_numbers(&mover->progress, &mover->numbers, false);
}

void destination_rest_give_up(struct destination *destination)
{
	const struct mover *mover = &destination->mover;

	if (!destination->rest)
		return;
	if (handover_destination_lost(&destination->handover))
		move_life_say(destination->rest->vm.life, mover->error.message);
	/* Its threads may stand in pages that do not come. */
	fd_close(TAKE_FD(destination->rest->vm.life));
}

void destination_rest_release(struct destination *destination)
{
	struct destination_rest *rest = TAKE_PTR(destination->rest);

	if (!rest)
		return;
	if (destination->receiver)
		pages_receive_stop(destination->receiver);
	if (rest->ear.runs)
		stream_cancel(destination->mover.streams[0]);
	ear_stop(&rest->ear);
	demand_free(rest->demand);
	move_demand_release(&rest->vm);
	missing_release(&rest->missing);
	free(rest);
}
