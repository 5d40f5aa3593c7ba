/* SPDX-License-Identifier: Apache-2.0 */

/* A VM that was made to be loaded and is kept ready by its guard, which has all that comes from the owner. It runs once the record says so. */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "protect/guest/internal.h"

int protect_guest_back_up(struct protect_guest *guest, const void *owner,
			  const struct ownership_id *session, const char *peer, struct error *err)
{
	const char *name = guest->vm->config->name;

	if (guest->side != SIDE_NONE || guest->known || !move_guest_is_arriving(guest->move, owner))
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
				 "%s: is not made to be a backup, or is one already", name);
	if (protect_is_nobody(session))
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED, "%s: a copy needs a session",
				 name);
	guest->guard = owner;
	guest->side = SIDE_BACKUP;
	move_guest_keep(guest->move);
	snprintf(guest->peer, sizeof(guest->peer), "%s", peer);
	ownership_back_up(&guest->me, session, &guest->heard, &guest->ownership);
	guest->known = true;
	return 0;
}

int protect_guest_whole(struct protect_guest *guest, const void *owner, uint64_t epoch,
			bool *ret_ack, struct error *err)
{
	int r = protect_expect(guest, owner, SIDE_BACKUP, err);

	if (r == 0)
		*ret_ack = protect_step_epoch(guest, WHEN_WHOLE, epoch) & THEN_ACK;
	return r;
}

int protect_guest_suspect(struct protect_guest *guest, const void *owner, const char *why,
			  bool *ret_prepare, struct error *err)
{
	int r = protect_expect(guest, owner, SIDE_BACKUP, err);

	if (r < 0)
		return r;
	*ret_prepare = protect_step_plain(guest, WHEN_SUSPECTED) & THEN_PREPARE;
	if (*ret_prepare)
		protect_tell_changed(guest, "suspects", why);
	return 0;
}

int protect_guest_prepared(struct protect_guest *guest, const void *owner, struct error *err)
{
	int r = protect_expect(guest, owner, SIDE_BACKUP, err);

	if (r == 0)
		(void)!protect_step_plain(guest, WHEN_PREPARED);
	return r;
}

/* ---- the take-over ---- */

static int judge_apply(const struct protect_guest *guest, struct error *err)
{
	if (guest->ownership.role == OWNERSHIP_CLAIMS && !guest->ownership.runs_held)
		return 0;
	return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
			 "%s: not while it is '%s'; it runs once its claim was won",
			 guest->vm->config->name, ownership_role_name(guest->ownership.role));
}

/* Held output is what its owner may not have put out: less than the VM, which by now may live nowhere else. Still. */
static void take_held(struct protect_guest *guest, const struct iovec *held)
{
	struct vm *vm = guest->vm;
	struct error err = { 0 };

	if (protect_held_import(vm, held, &err) == 0)
		return;
	log_line(vm->log, LOG_LEVEL_WARNING,
		 "what its owner had not put out yet is lost; the guest goes on: %s", err.message);
	hold_drop_all(&vm->hold);
}

/* The VM stands before its first instruction since it was made. All that it puts out is of epochs that its last owner never cut. */
static int load(struct protect_guest *guest, const void *owner, uint64_t state_len,
		uint64_t stopped_ns, struct error *err)
{
	_cleanup_(freep) void *state = NULL;
	struct iovec sections, held;
	int r = state_len > EPOCH_STATE_MAX
			? -EMSGSIZE
			: move_guest_read_state(guest->move, owner, state_len, &state, err);

	if (r == 0)
		r = protect_state_parts(state, state_len, &sections, &held);
	if (r == 0 && protect_state_flags(state) & PROTECT_STATE_PARTIAL)
		r = -EBADMSG;
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED,
				 "%s: the state that its owner left is damaged: %s",
				 guest->vm->config->name, strerror(-r));
	r = move_guest_load_state(guest->move, owner, sections.iov_base, sections.iov_len,
				  stopped_ns, err);
	if (r < 0)
		return r;
	hold_shut(&guest->vm->hold);
	hold_cut(&guest->vm->hold, guest->ownership.whole);
	take_held(guest, &held);
	guest->loaded = true;
	if (protect_state_flags(state) & PROTECT_STATE_OFF)
		protect_is_off(guest);
	return 0;
}

/* One that is to end does not run here, not even for a moment. */
static int run_held(struct protect_guest *guest, const void *owner, struct error *err)
{
	int r = guest->off ? vm_hold(guest->vm, VM_HELD_BY_PROTECT) : 0;

	if (r < 0 && r != -EALREADY)
		return error_set(err, r, EXIT_STATUS_FAILED, "%s: cannot be stopped: it is %s",
				 guest->vm->config->name, vm_status_name(guest->vm->status));
	r = move_guest_run_held(guest->move, owner, err);
	if (r < 0)
		return r;
	(void)!protect_step_plain(guest, WHEN_RUNS_HELD);
	if (guest->off)
		protect_stand_off(guest);
	return 0;
}

int protect_guest_apply(struct protect_guest *guest, const void *owner, uint64_t state_len,
			uint64_t stopped_ns, struct error *err)
{
	int r = protect_expect(guest, owner, SIDE_BACKUP, err);

	if (r == 0)
		r = judge_apply(guest, err);
	if (r == 0 && !guest->loaded)
		r = load(guest, owner, state_len, stopped_ns, err);
	return r < 0 ? r : run_held(guest, owner, err);
}

int protect_guest_failed(struct protect_guest *guest, const void *owner, const char *why,
			 struct error *err)
{
	int r = protect_expect(guest, owner, SIDE_BACKUP, err);

	if (r < 0)
		return r;
	protect_tell_changed(guest, "take-over-failed", why);
	if (guest->ownership.role == OWNERSHIP_BACKS_UP)
		protect_tell_over(guest, false, why);
	else
		(void)!protect_step_plain(guest, WHEN_APPLY_FAILED);
	return 0;
}
