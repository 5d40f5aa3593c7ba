/* SPDX-License-Identifier: Apache-2.0 */

/* Life, and what is done when protect/ownership.h's function says so. */

#include "protect/guest/guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "protect/guest/internal.h"
#include "vm/announce.h"
#include "vm/cpus.h"

#define TICK_NS NSEC_PER_SEC
#define CLAIMANT_HAS_NS (30 * NSEC_PER_SEC) /* to go on with the VM; then it is taken back */
#define OFF_WAITS_NS (5 * NSEC_PER_SEC)	    /* for a record that nobody else may change anyway */

uint64_t protect_now(const struct protect_guest *guest)
{
	return clock_now(loop_clock(guest->vm->loop));
}

bool protect_is_nobody(const struct ownership_id *id)
{
	return ownership_id_equal(id, &(struct ownership_id){ 0 });
}

/* ---- actions ---- */

/* It runs elsewhere, or may: what is held never leaves, and the guest does not go on. */
static void stop_vm(struct protect_guest *guest)
{
	struct vm *vm = guest->vm;

	hold_shut(&vm->hold);
	(void)!vm_hold(vm, VM_HELD_BY_PROTECT); /* -EBUSY: a reset; the process ends all the same */
	vm_finish_requests(vm, false);
	cpus_quiesce(vm);
	hold_drop_all(&vm->hold);
	quiesce_end(&vm->quiesce);
}

static const char *why_stopped(const struct protect_guest *guest)
{
	if (guest->ownership.record.mode == OWNERSHIP_STOPPED)
		return "the guest switched itself off";
	return guest->side == SIDE_BACKUP ? "it cannot go on here: its owner has it, or takes it"
					  : "its backup goes on with it on the other host";
}

static void stop_or_end(struct protect_guest *guest, uint32_t actions)
{
	const bool off = guest->off && guest->ownership.record.mode == OWNERSHIP_STOPPED;

	if (actions & THEN_STOP_VM && !off)
		stop_vm(guest);
	if (actions & THEN_STOP_VM)
		protect_tell_over(guest, !off, why_stopped(guest));
	if (actions & THEN_DISCARD)
		protect_tell_over(guest, false, "this copy of it is not wanted any more");
	if (guest->side == SIDE_BACKUP && guest->over)
		protect_tell_guard(guest, TELL_OVER, guest->over_why);
}

static void act_on_hold(struct protect_guest *guest, uint32_t actions)
{
	struct hold *hold = &guest->vm->hold;

	if (actions & THEN_RELEASE)
		hold_release(hold, guest->ownership.acked, guest->ack_at_ns);
	/* THEN_REPLAY: it is held since the state was loaded, and leaves first. */
	if (actions & THEN_OPEN)
		hold_open(hold);
	if (actions & THEN_ANNOUNCE)
		vm_announce(guest->vm);
}

/* A start that may not be: the VM runs already, for its user. */
static void stay_foreign(struct protect_guest *guest)
{
	guest->foreign = true;
	protect_tell_changed(guest, "foreign", "the record says that it is somebody else's");
}

void protect_act(struct protect_guest *guest, uint32_t actions)
{
	if (actions & THEN_GATE)
		hold_shut(&guest->vm->hold);
	stop_or_end(guest, actions);
	if (actions & THEN_PREPARE)
		protect_tell_guard(guest, TELL_PREPARE, "");
	if (actions & THEN_APPLY)
		protect_tell_guard(guest, TELL_APPLY, "");
	act_on_hold(guest, actions);
	if (actions & THEN_SWAP)
		protect_tell_swap(guest);
	if ((actions & (THEN_END | THEN_STOP_VM | THEN_DISCARD)) == THEN_END)
		stay_foreign(guest);
}

/* ---- events ---- */

/* What a person wants to know of it. */
static void tell_role(struct protect_guest *guest, enum ownership_role before, bool was_gated)
{
	const enum ownership_role role = guest->ownership.role;

	if (before == OWNERSHIP_CLAIMS && role == OWNERSHIP_IS_SOLO) {
		guest->side = SIDE_NONE;
		guest->took_over = true;
		protect_tell_guard(guest, TELL_OVER, "");
		protect_tell_arrived(guest);
		protect_tell_changed(guest, "took-over", "");
	} else if (role == OWNERSHIP_IS_PROTECTED && before != role) {
		protect_tell_changed(guest, "protected", guest->peer);
	} else if (role == OWNERSHIP_IS_DEPOSED && before != role) {
		guest->deposed_at_ns = protect_now(guest);
		protect_tell_guard(guest, TELL_OFF, "its backup has claimed it");
		protect_owner_release(guest);
		protect_tell_changed(guest, "deposed", guest->peer);
	} else if (role == OWNERSHIP_IS_SOLO && was_gated && !guest->ownership.gated) {
		protect_tell_changed(guest, "solo", "");
	}
}

static void wait_for_tick(struct protect_guest *guest)
{
	const bool waits = guest->ownership.waits || guest->off ||
			   guest->ownership.role == OWNERSHIP_IS_DEPOSED;

	if (!waits || guest->over)
		loop_timer_cancel(&guest->tick);
	else if (list_empty(&guest->tick.link))
		loop_timer_arm(guest->vm->loop, &guest->tick, protect_now(guest) + TICK_NS);
}

uint32_t protect_step(struct protect_guest *guest, const struct ownership_event *event)
{
	const enum ownership_role before = guest->ownership.role;
	const bool was_gated = guest->ownership.gated;
	uint32_t actions;

	if (!guest->known)
		return 0;
	actions = ownership_step(&guest->ownership, event);
	protect_act(guest, actions);
	tell_role(guest, before, was_gated);
	wait_for_tick(guest);
	return actions;
}

uint32_t protect_step_plain(struct protect_guest *guest, enum ownership_event_kind kind)
{
	return protect_step(guest, &(struct ownership_event){ .kind = kind });
}

uint32_t protect_step_epoch(struct protect_guest *guest, enum ownership_event_kind kind,
			    uint64_t epoch)
{
	return protect_step(guest, &(struct ownership_event){ .kind = kind, .epoch = epoch });
}

/* ---- the guest's end ---- */

/* What it goes on with is not here yet: the barrier that is held since it was made is what the load counts on. */
static bool awaits_its_state(const struct protect_guest *guest)
{
	return guest->ownership.role == OWNERSHIP_CLAIMS && !guest->ownership.runs_held;
}

/* It stands, but for its queues' threads: what was put out before still leaves. */
void protect_stand_off(struct protect_guest *guest)
{
	struct vm *vm = guest->vm;
	int r;

	if (guest->ownership.off || awaits_its_state(guest))
		return;
	r = vm_hold(vm, VM_HELD_BY_PROTECT);
	if (r < 0 && r != -EALREADY)
		return;
	vm_finish_requests(vm, true);
	(void)!protect_step_epoch(guest, WHEN_OFF, guest->ownership.cut + 1);
}

void protect_is_off(struct protect_guest *guest)
{
	if (guest->off)
		return;
	guest->off = true;
	guest->off_at_ns = protect_now(guest);
}

static bool may_have_an_heir(const struct protect_guest *guest)
{
	return guest->ownership.gated || guest->ownership.role != OWNERSHIP_IS_SOLO;
}

bool protect_guest_ends(struct protect_guest *guest)
{
	const enum ownership_role role = guest->ownership.role;

	if (guest->off)
		return !guest->over;
	if (!guest->known || guest->over || role == OWNERSHIP_STARTS ||
	    role == OWNERSHIP_BACKS_UP || role == OWNERSHIP_HAS_ENDED)
		return false;
	if (!may_have_an_heir(guest) && !guest->relay)
		return false;
	protect_is_off(guest);
	protect_stand_off(guest);
	wait_for_tick(guest);
	return true;
}

static void tick_expired(struct loop_timer *timer)
{
	struct protect_guest *guest = container_of(timer, struct protect_guest, tick);
	const uint64_t now = protect_now(guest);

	if (guest->off)
		protect_stand_off(guest); /* a reset was under way, or it was to be loaded */
	if (guest->off && !may_have_an_heir(guest) && now >= guest->off_at_ns + OFF_WAITS_NS)
		protect_tell_over(guest, false, "the guest switched itself off");
	if (guest->ownership.role == OWNERSHIP_IS_DEPOSED &&
	    now >= guest->deposed_at_ns + CLAIMANT_HAS_NS)
		(void)!protect_step_plain(guest, WHEN_CLAIMANT_LOST);
	(void)!protect_step_plain(guest, WHEN_TICK);
}

/* ---- life ---- */

int protect_guest_new(struct vm *vm, struct move_guest *move,
		      const struct protect_guest_events *events, struct protect_guest **ret_guest)
{
	struct protect_guest *guest = calloc(1, sizeof(*guest));

	if (!guest)
		return -ENOMEM;
	if (getrandom(guest->me.bytes, sizeof(guest->me.bytes), 0) != sizeof(guest->me.bytes)) {
		free(guest);
		return -EIO;
	}
	guest->vm = vm;
	guest->move = move;
	guest->events = *events;
	guest->shared.fd = -1;
	buffer_init(&guest->state, EPOCH_STATE_MAX);
	loop_timer_init(&guest->tick, tick_expired);
	loop_timer_init(&guest->retire, protect_mirrors_expired);
	protect_tell_init(guest);
	*ret_guest = guest;
	return 0;
}

void protect_guest_free(struct protect_guest *guest)
{
	if (!guest)
		return;
	loop_timer_cancel(&guest->tick);
	loop_timer_cancel(&guest->retire);
	protect_tell_release(guest);
	protect_shared_release(&guest->shared);
	dirty_bitmap_release(&guest->fresh);
	buffer_release(&guest->state);
	mirror_ring_free(guest->ring);
	mirror_ring_free(guest->old_ring);
	free(guest);
}

/* ---- who asks ---- */

int protect_expect(const struct protect_guest *guest, const void *owner, enum protect_side side,
		   struct error *err)
{
	const char *name = guest->vm->config->name;

	if (owner && guest->guard == owner && guest->side == side)
		return 0;
	if (!guest->guard)
		return error_set(err, -ESRCH, EXIT_STATUS_FAILED,
				 "%s: this connection protects nothing, or its copy was given up; "
				 "begin anew",
				 name);
	return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
			 "%s: another guard has this VM, or it plays the other part", name);
}

/* ---- the end of a connection ---- */

static void relay_went(struct protect_guest *guest)
{
	guest->relay = NULL;
	if (!guest->swap_out)
		return;
	guest->swap_out = false;
	(void)!protect_step_plain(guest, WHEN_UNKNOWN);
}

/* What it had of the VM is lost with it, unless the VM is its own already. */
static void backup_guard_went(struct protect_guest *guest)
{
	guest->guard = NULL;
	if (guest->ownership.role == OWNERSHIP_BACKS_UP)
		protect_tell_over(guest, false, "its guard ended before it could go on from here");
	else if (!guest->ownership.runs_held)
		(void)!protect_step_plain(guest, WHEN_APPLY_FAILED);
}

static void guard_went(struct protect_guest *guest)
{
	switch (guest->side) {
	case SIDE_OWNER:
		protect_owner_lost(guest, "the connection to its guard ended");
		break;
	case SIDE_BACKUP:
		backup_guard_went(guest);
		break;
	case SIDE_NONE:
		guest->guard = NULL;
		break;
	}
}

void protect_guest_forget(struct protect_guest *guest, const void *owner)
{
	if (!owner)
		return;
	if (guest->told == owner)
		guest->told = NULL;
	if (guest->relay == owner)
		relay_went(guest);
	if (guest->guard == owner)
		guard_went(guest);
}
