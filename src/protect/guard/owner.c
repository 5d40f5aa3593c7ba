/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/guard/owner.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "protect/guard/owner_internal.h"
#include "protect/record.h"

#define LATER_NS (2 * NSEC_PER_MSEC) /* between two tries at a cut that cannot be now */
#define TAKE_OVER_MS 10000	     /* for a backup that was told to */
#define ACK_SILENCES                                                                               \
	20 /* the longest that an acknowledgement may take, in silences that are suspected */
#define IDLE_PAGES 512 /* of an epoch: hardly anything */

/* ---- waiting ---- */

static int give_up(struct owner *owner, int r, const char *why)
{
	return error_set(&owner->guard.error, r, EXIT_STATUS_FAILED, "%s: %s",
			 owner->guard.job->name, why);
}

static int hear(struct owner *owner)
{
	struct guard *guard = &owner->guard;
	char why[160];

	switch (guard->link->ops->hear(guard->link, 0, why)) {
	case PROTECT_WORD_NONE:
		return 0;
	case PROTECT_WORD_OFF:
		owner->off = true;
		return -ECANCELED;
	case PROTECT_WORD_FAILOVER:
		owner->failover = true;
		return 0;
	case PROTECT_WORD_OVER:
	case PROTECT_WORD_GONE:
		owner->gone = true;
		return give_up(owner, -ESRCH, why[0] ? why : "its process has ended");
	default:
		return give_up(owner, -EPROTO, "says what it says to a backup's guard only");
	}
}

/* Who looks on may end it as long as nothing is protected. */
static int look_at_people(struct owner *owner)
{
	if (owner->told_protected || !progress_cancelled(&owner->guard.progress))
		return 0;
	owner->cancelled = true;
	return give_up(owner, -ECANCELED, "is not protected: that was cancelled");
}

int owner_look(struct owner *owner)
{
	struct guard *guard = &owner->guard;
	int r = hear(owner);

	if (r == 0)
		r = acks_judge(&owner->acks, &guard->error);
	if (r == 0)
		r = look_at_people(owner);
	if (r == 0)
		r = guard_beat(guard);
	return owner_lost(owner, r);
}

int owner_wait(struct owner *owner, uint64_t wait_ns)
{
	struct guard *guard = &owner->guard;
	struct pollfd ready[] = {
		{ .fd = owner->acks.bell, .events = POLLIN },
		{ .fd = guard->link->ops->fd(guard->link), .events = POLLIN },
	};
	const uint64_t ns = MIN(wait_ns, GUARD_LOOK_MS * NSEC_PER_MSEC);
	const struct timespec timeout = { .tv_nsec = (long)ns };

	if (ppoll(ready, ARRAY_SIZE(ready), &timeout, NULL) > 0 && ready[0].revents)
		fd_clear_event(owner->acks.bell);
	return owner_look(owner);
}

int owner_wait_acked(struct owner *owner, uint64_t epoch)
{
	int r = 0;

	while (r == 0 && acks_last(&owner->acks) < epoch)
		r = owner_wait(owner, UINT64_MAX);
	return r;
}

uint64_t owner_next_epoch(struct owner *owner)
{
	owner->number++;
	__atomic_store_n(&owner->acks.sent, owner->number, __ATOMIC_RELEASE);
	return owner->number;
}

/* What the thread that listens has heard tells more than that nothing can be sent. */
int owner_lost(struct owner *owner, int r)
{
	struct guard *guard = &owner->guard;

	if (r >= 0 || guard->error.code || owner->off)
		return r;
	if (acks_judge(&owner->acks, &guard->error) < 0)
		return r;
	return guard_lost(guard, r, &guard->error);
}

/* ---- the ring ---- */

static int find_disk(struct owner *owner, uint32_t index, uint32_t *ret_disk)
{
	struct guard *guard = &owner->guard;

	for (uint32_t i = 0; i < guard->n_disks; i++)
		if (guard->disks[i].index == index) {
			*ret_disk = i;
			return 0;
		}
	return give_up(owner, -EPROTO, "mirrors a disk that nobody wanted mirrored");
}

static int take_entry(struct owner *owner, const struct mirror_entry *entry, const void *data,
		      struct journal_write *ret_write)
{
	*ret_write = (struct journal_write){
		.kind = entry->kind == MIRROR_WRITE ? JOURNAL_WRITE
			: entry->unmap		    ? JOURNAL_DISCARD
						    : JOURNAL_ZEROES,
		.offset = entry->offset,
		.len = entry->len,
		.data = data,
	};
	return find_disk(owner, entry->disk, &ret_write->disk);
}

int owner_take_ring(struct owner *owner, uint64_t end,
		    int (*put)(void *ctx, const struct journal_write *write), void *ctx)
{
	struct journal_write write;
	struct mirror_entry entry;
	const void *data;
	int r = 0;

	if (!owner->guard.n_disks)
		return 0;
	while (r == 0) {
		r = mirror_reader_next(&owner->ring, end, end == UINT64_MAX, &entry, &data);
		if (r < 0)
			return give_up(owner, r, "its disks' mirror makes no sense");
		if (r == 0)
			return 0;
		r = take_entry(owner, &entry, data, &write);
		if (r == 0)
			r = put(ctx, &write);
		mirror_reader_took(&owner->ring);
	}
	return r;
}

/* ---- whole epochs ---- */

static int send_write(void *ctx, const struct journal_write *write)
{
	struct owner *owner = ctx;

	return owner_lost(owner, epoch_send_write(owner->sender, write));
}

static int send_epoch(struct owner *owner, const struct protect_cut *cut)
{
	struct protect_shared *shared = &owner->shared;
	struct guard *guard = &owner->guard;
	int r = container_pack(&owner->container, shared->state, cut->state_len);
	struct epoch epoch = epoch_over(shared->pages, shared->content,
					owner->container.on_wire.data);

	if (r < 0)
		return give_up(owner, r, "leaves a state that makes no sense");

	epoch.number = cut->epoch;
	epoch.released = cut->released;
	epoch.n_pages = cut->pages;
	epoch.state.len = owner->container.on_wire.len;
	r = owner_lost(owner, epoch_send_begin(owner->sender, &epoch, &guard->origin));
	if (r == 0)
		r = owner_take_ring(owner, cut->ring_end, send_write, owner);
	if (r < 0)
		return r;
	r = epoch_send_end(owner->sender, &epoch, &owner->counts);
	if (r == 0)
		r = stream_flush(guard->stream);
	guard_said(guard);
	return owner_lost(owner, r);
}

/* A VM that is being reset, or stands at a request of a breakpoint, is cut when it goes on. */
static int cut(struct owner *owner, struct protect_cut *ret_cut)
{
	struct guard *guard = &owner->guard;
	const uint64_t epoch = owner_next_epoch(owner);
	const uint64_t due_ns = clock_now(guard->clock) + guard->patience_ms * NSEC_PER_MSEC;
	int r;

	while ((r = guard->link->ops->cut(guard->link, epoch, ret_cut, &guard->error)) == -EAGAIN) {
		r = owner_wait(owner, LATER_NS);
		if (r == 0 && clock_now(guard->clock) > due_ns)
			r = give_up(owner, -ETIMEDOUT, "cannot be cut for too long");
		if (r < 0)
			return r;
	}
	if (r < 0)
		return r;
	if (ret_cut->pages > owner->shared.n_pages || !ret_cut->state_len ||
	    ret_cut->state_len > EPOCH_STATE_MAX)
		return give_up(owner, -EPROTO, "tells of a cut that cannot be");
	return 0;
}

/* Nothing waits to leave, as far as the state tells: it then is no longer than the shortest that there was. */
static bool is_idle(struct owner *owner, const struct protect_cut *cut, uint64_t *least_held)
{
	struct iovec vm, held;

	if (protect_state_parts(owner->shared.state, cut->state_len, &vm, &held) < 0)
		return false;
	*least_held = MIN(*least_held, held.iov_len);
	return held.iov_len <= *least_held && cut->pages < IDLE_PAGES;
}

/* ---- the loop ---- */

struct turn {
	uint64_t due_ns;  /* of the next cut */
	uint64_t sent_ns; /* the last one was */
	uint64_t least_held;
};

/* Where no etcd has the record the backup has it from here. */
static int tell_record(struct owner *owner, const struct protect_cut *cut)
{
	const struct ownership_record *record = &cut->record;
	struct guard *guard = &owner->guard;
	char text[LIMIT_OWNERSHIP_RECORD];
	size_t len;
	int r;

	owner->by_hand = cut->by_hand;
	if (!cut->by_hand || record->mode != OWNERSHIP_PROTECTED ||
	    record->generation == owner->told_generation ||
	    !ownership_id_equal(&record->backup, &guard->origin.session))
		return 0;
	r = record_encode(record, text, &len);
	if (r == 0)
		r = guard_say(guard, PROTECT_RECORD, text, len);
	owner->told_generation = record->generation;
	return owner_lost(owner, r);
}

static int cut_and_send(struct owner *owner, struct turn *turn)
{
	struct guard *guard = &owner->guard;
	struct protect_cut taken = { 0 };
	uint64_t began_ns;
	bool idle;
	int r = cut(owner, &taken);

	if (r < 0)
		return r;
	began_ns = clock_now(guard->clock);
	idle = is_idle(owner, &taken, &turn->least_held);
	r = tell_record(owner, &taken);
	if (r == 0)
		r = send_epoch(owner, &taken);
	turn->sent_ns = clock_now(guard->clock);
	pace_note(&owner->pace, taken.pause_ns, turn->sent_ns - began_ns);
	turn->due_ns = began_ns + pace_interval(&owner->pace, idle);
	if (taken.pages > GUARD_KEEP_PAGES)
		protect_shared_trim(&owner->shared, GUARD_KEEP_PAGES);
	return r;
}

/* The first epoch behind the gate is acknowledged: from now on silence counts, and who looked on may go. */
static void note_protected(struct owner *owner)
{
	struct guard *guard = &owner->guard;

	owner->told_protected = true;
	progress_guard(&guard->progress, "protected", NULL, true);
	__atomic_store_n(&owner->acks.silence_ms, guard->detect_ms, __ATOMIC_RELAXED);
}

/* A backup that lives and acknowledges nothing holds up all that the guest says. Of the first one it makes its disks whole. */
static int judge_ack(struct owner *owner, const struct turn *turn, uint64_t now_ns)
{
	const struct guard *guard = &owner->guard;
	const uint64_t limit_ms = owner->told_protected ? (uint64_t)ACK_SILENCES * guard->detect_ms
							: 2ULL * guard->patience_ms;

	if (acks_last(&owner->acks) >= owner->number ||
	    now_ns - turn->sent_ns <= limit_ms * NSEC_PER_MSEC)
		return 0;
	return give_up(owner, -ETIMEDOUT, "its backup lives, but acknowledges nothing any more");
}

/* At most one epoch is on its way while the next one is cut. */
static int wait_for_turn(struct owner *owner, const struct turn *turn)
{
	struct guard *guard = &owner->guard;
	bool noted = false;
	int r = owner_look(owner);

	while (r == 0) {
		const uint64_t now_ns = clock_now(guard->clock), acked = acks_last(&owner->acks);

		if (acked == owner->number && !noted) {
			noted = true;
			pace_note_ack(&owner->pace,
				      __atomic_load_n(&owner->acks.acked_ns, __ATOMIC_RELAXED) -
					      turn->sent_ns);
		}
		if (acked >= owner->acks.gate && !owner->told_protected)
			note_protected(owner);
		if (acked + 1 >= owner->number && (now_ns >= turn->due_ns || owner->failover))
			return 0;
		r = judge_ack(owner, turn, now_ns);
		if (r == 0)
			r = owner_wait(owner, acked + 1 >= owner->number ? turn->due_ns - now_ns
									 : UINT64_MAX);
	}
	return r;
}

/* Without etcd: the VM stands, and its process ends, before the backup hears that it may go on. */
static int give(struct owner *owner)
{
	struct guard *guard = &owner->guard;
	struct error unheard = { 0 };
	int r = guard->link->ops->give(guard->link, &unheard);

	/* Its answer may be lost with it. */
	if (!guard_await_gone(guard))
		return give_up(owner, r < 0 ? r : -ETIMEDOUT,
			       r < 0 ? unheard.message : "does not end for its backup");
	owner->gone = true;
	r = guard_say(guard, PROTECT_ENDED, NULL, 0);
	if (r < 0)
		return owner_lost(owner, r);
	acks_drain(&owner->acks);
	return 1;
}

/* What the backup has then is the last that it needs. It says nothing more, and need not: the VM hears from the arbiter. */
static int hand_over(struct owner *owner, struct turn *turn)
{
	struct guard *guard = &owner->guard;
	uint64_t due_ns;
	int r = cut_and_send(owner, turn);

	if (r == 0)
		r = owner_wait_acked(owner, owner->number);
	if (r < 0)
		return r;
	__atomic_store_n(&owner->acks.silence_ms, 0, __ATOMIC_RELAXED);
	if (owner->by_hand)
		return give(owner);
	r = guard_say(guard, PROTECT_TAKE_OVER, NULL, 0);
	due_ns = clock_now(guard->clock) + TAKE_OVER_MS * NSEC_PER_MSEC;
	while (r == 0) {
		char why[160];

		if (guard->link->ops->hear(guard->link, GUARD_LOOK_MS, why) >= PROTECT_WORD_OVER)
			return 1;
		if (clock_now(guard->clock) > due_ns)
			r = give_up(owner, -ETIMEDOUT, "its backup has not taken over");
	}
	return owner_lost(owner, r);
}

/* 1: it runs at the backup. */
static int protect(struct owner *owner)
{
	struct turn turn = { .least_held = UINT64_MAX };
	struct guard *guard = &owner->guard;
	int r;

	progress_guard(&guard->progress, "gate", NULL, true);
	r = guard->link->ops->gate(guard->link, &guard->error);
	if (r < 0)
		return r;
	owner->gated = true;
	__atomic_store_n(&owner->acks.gate, owner->number + 1, __ATOMIC_RELEASE);
	while (r == 0) {
		r = cut_and_send(owner, &turn);
		if (r == 0)
			r = wait_for_turn(owner, &turn);
		if (r == 0 && owner->failover && owner->told_protected)
			return hand_over(owner, &turn);
	}
	return r;
}

/* ---- life ---- */

static int make_sender(struct owner *owner)
{
	struct guard *guard = &owner->guard;
	const struct epoch_send_settings settings = {
		.writer = &guard->writer,
		.cache_bytes = LIMIT_DELTA_CACHE,
		.pack = guard->job->compress == MOVE_COMPRESS_ON,
	};
	int r = epoch_sender_new(&settings, &owner->sender);

	if (r == 0)
		r = protect_shared_make(guard->facts.ram_bytes, &owner->shared);
	if (r == 0 && guard->n_disks)
		r = mirror_reader_make(OWNER_RING_BYTES, &owner->ring);
	return r < 0 ? r
		     : page_map_new(guard->job->ram_fd, guard->facts.ram_bytes,
				    owner->shared.bitmap, &owner->map, &guard->error);
}

static int begin(struct owner *owner)
{
	struct guard *guard = &owner->guard;
	uint64_t generation;
	int r = make_sender(owner);

	if (r == 0)
		r = guard->link->ops->begin(guard->link, &guard->origin.session, guard->job->peer,
					    owner->shared.fd, guard->n_disks ? owner->ring.fd : -1,
					    &owner->number, &generation, &guard->error);
	owner->begun = r == 0;
	return r < 0 ? r : acks_start(&owner->acks, guard);
}

static int run(struct owner *owner)
{
	struct guard *guard = &owner->guard;
	int r = guard_open(guard);

	if (r == 0)
		r = guard_say_hello(guard);
	if (r == 0)
		r = guard_hear_hello(guard);
	if (r == 0)
		r = begin(owner);
	if (r == 0)
		r = owner_fill(owner);
	if (r == 0)
		r = protect(owner);
	if (r < 0)
		error_set(&guard->error, r, EXIT_STATUS_FAILED, "%s: cannot be protected: %s",
			  guard->job->name, strerror(-r));
	return r;
}

/* Without etcd the VM waits until its copy has ended, or a person says so. */
static void leave(struct owner *owner, const char *why)
{
	struct guard *guard = &owner->guard;
	struct error unheard = { 0 };

	__atomic_store_n(&owner->acks.leaving, true, __ATOMIC_RELEASE);
	if (guard_say(guard, PROTECT_LEAVE, why, MIN(strlen(why), (size_t)GUARD_BYE_MAX)) == 0 &&
	    acks_await_end(&owner->acks))
		(void)!guard->link->ops->ended(guard->link, &guard->origin.session, &unheard);
}

/* Who would go on from the copy need not suspect anything where the VM knows that it has none; else silence is what it is to hear. */
static void part(struct owner *owner)
{
	struct guard *guard = &owner->guard;
	struct error unheard = { 0 };
	const char *why;
	int r = 0;

	/* What the VM said may be why all else failed. */
	if (!owner->off && !owner->gone)
		(void)!hear(owner);
	if (owner->gone)
		return;
	why = owner->off ? "its protection was switched off" : guard->error.message;
	if (owner->begun && !owner->off)
		r = guard->link->ops->end(guard->link, why, &unheard);
	if (r < 0)
		return;
	if (owner->by_hand) {
		leave(owner, why);
		return;
	}
	guard_bye(guard, why);
	acks_drain(&owner->acks);
}

static enum move_end end_of(const struct owner *owner, int r)
{
	if (r > 0)
		return MOVE_END_RAN;
	if (owner->off)
		return MOVE_END_OFF;
	return owner->cancelled ? MOVE_END_CANCELLED : MOVE_END_FAILED;
}

static void release(struct owner *owner)
{
	acks_stop(&owner->acks);
	container_release(&owner->container);
	page_map_free(owner->map);
	epoch_sender_free(owner->sender);
	if (owner->shared.map)
		protect_shared_release(&owner->shared);
	if (owner->ring.map)
		mirror_reader_release(&owner->ring);
	guard_release(&owner->guard);
	free(owner);
}

enum move_end protect_owner(const struct guard_settings *settings, struct error *err)
{
	struct owner *owner = calloc(1, sizeof(*owner));
	enum move_end end;
	int r;

	if (!owner) {
		error_set(err, -ENOMEM, EXIT_STATUS_HOST, "no memory for a guard; free some");
		return MOVE_END_FAILED;
	}
	owner->acks.guard = &owner->guard;
	owner->acks.bell = -1;
	container_init(&owner->container);
	pace_init(&owner->pace, settings->job->latency_ms * NSEC_PER_MSEC);
	r = guard_init(&owner->guard, settings);
	if (r == 0)
		r = run(owner);
	if (r < 0)
		part(owner);
	end = end_of(owner, r);
	if (end != MOVE_END_RAN && end != MOVE_END_OFF)
		*err = owner->guard.error;
	progress_end(&owner->guard.progress, end, &(struct move_numbers){ 0 }, err);
	release(owner);
	return end;
}
