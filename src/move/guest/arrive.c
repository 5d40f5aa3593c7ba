/* SPDX-License-Identifier: Apache-2.0 */

/* A VM that was made to be loaded. It stands before its first instruction until its token's one result is durably here. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "move/guest/internal.h"
#include "vm/announce.h"
#include "vm/board.h"
#include "vm/renew.h"
#include "vm/save.h"

#define MOVER_COMES_NS (60 * NSEC_PER_SEC)
#define ASK_AGAIN_NS NSEC_PER_SEC

static void patience_expired(struct loop_timer *timer);

void move_arrive_init(struct move_guest *guest)
{
	loop_timer_init(&guest->patience, patience_expired);
}

static void wait_for(struct move_guest *guest, uint64_t ns)
{
	loop_timer_arm(guest->vm->loop, &guest->patience,
		       clock_now(loop_clock(guest->vm->loop)) + ns);
}

int move_arrive_wait(struct move_guest *guest)
{
	guest->stage = MOVE_ARRIVING;
	wait_for(guest, MOVER_COMES_NS);
	return vm_hold(guest->vm, VM_HELD_BY_MOVE);
}

int move_guest_arrive(struct move_guest *guest, const void *owner,
		      const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int mark_fd,
		      struct error *err)
{
	_cleanup_(fd_closep) int shared = shared_fd, mark = mark_fd;
	int r;

	if (guest->stage != MOVE_ARRIVING || guest->owner || guest->shared.bitmap)
		return error_set(
			err, -EBUSY, EXIT_STATUS_BUSY,
			"%s: is not made to be loaded, or is being loaded by another mover",
			guest->vm->config->name);
	r = move_shared_take(TAKE_FD(shared), guest->vm->memory->size, &guest->shared, err);
	if (r < 0)
		return r;
	guest->mark_fd = TAKE_FD(mark);
	guest->owner = owner;
	memcpy(guest->token, token, MOVE_TOKEN_BYTES);
	loop_timer_cancel(&guest->patience);
	return 0;
}

/* ---- load ---- */

static int judge_load(const struct move_guest *guest, uint64_t len, struct error *err)
{
	if (guest->loaded || guest->spoiled)
		return error_set(err, -EALREADY, EXIT_STATUS_FAILED,
				 "%s: its state was loaded before; begin the move anew",
				 guest->vm->config->name);
	if (guest->vm->finishing)
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
				 "%s: its queues finish what they have; a load needs them to stand",
				 guest->vm->config->name);
	if (len > MOVE_STATE_MAX)
		return error_set(err, -EMSGSIZE, EXIT_STATUS_FAILED,
				 "%s: a state of %llu bytes is more than there can be",
				 guest->vm->config->name, (unsigned long long)len);
	return 0;
}

/* A copy: the mover can change the file while it is judged. */
int move_guest_read_state(const struct move_guest *guest, const void *owner, uint64_t len,
			  void **ret_state, struct error *err)
{
	_cleanup_(freep) void *state = NULL;
	int r = move_guest_expect(guest, owner, STAGE(MOVE_ARRIVING), err);

	if (r == 0)
		r = judge_load(guest, len, err);
	if (r < 0)
		return r;
	state = malloc(len ? len : 1);
	if (!state)
		return -ENOMEM;
	r = fd_read_at(guest->shared.fd, state, len, guest->shared.state_at);
	if (r == 0)
		*ret_state = TAKE_PTR(state);
	return r;
}

bool move_guest_is_arriving(const struct move_guest *guest, const void *owner)
{
	return owner && guest->owner == owner && guest->stage == MOVE_ARRIVING;
}

void move_guest_keep(struct move_guest *guest)
{
	guest->kept = true;
}

/* What only a mover asks, and not the guard of a backup. */
static int expect_mover(const struct move_guest *guest, const void *owner, struct error *err)
{
	int r = move_guest_expect(guest, owner, STAGE(MOVE_ARRIVING), err);

	if (r < 0 || !guest->kept)
		return r;
	return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
			 "%s: is a backup, which runs when its record says so; for that: utsusu "
			 "failover %s",
			 guest->vm->config->name, guest->vm->config->name);
}

/* The barrier is held since the VM was made. */
static int load(struct move_guest *guest, const void *state, size_t len, uint64_t stopped_ns,
		bool rehearse, struct error *err)
{
	int r = vm_load(guest->vm, state, len, stopped_ns,
			rehearse ? VM_LOAD_REHEARSAL : VM_LOAD_WHOLE, err);

	guest->loaded = !rehearse && r == 0;
	guest->spoiled = !rehearse && r < 0;
	return r;
}

int move_guest_load_state(struct move_guest *guest, const void *owner, const void *state,
			  size_t len, uint64_t stopped_ns, struct error *err)
{
	int r = move_guest_expect(guest, owner, STAGE(MOVE_ARRIVING), err);

	if (r == 0)
		r = judge_load(guest, len, err);
	return r < 0 ? r : load(guest, state, len, stopped_ns, false, err);
}

int move_guest_load(struct move_guest *guest, const void *owner, uint64_t len, uint64_t stopped_ns,
		    bool rehearse, struct error *err)
{
	_cleanup_(freep) void *state = NULL;
	int r = rehearse ? 0 : expect_mover(guest, owner, err);

	if (r == 0)
		r = move_guest_read_state(guest, owner, len, &state, err);
	return r < 0 ? r : load(guest, state, len, stopped_ns, rehearse, err);
}

int move_guest_renew(struct move_guest *guest, const void *owner, struct error *err)
{
	int r = expect_mover(guest, owner, err);

	if (r == 0 && !guest->loaded)
		r = error_set(err, -EINVAL, EXIT_STATUS_FAILED,
			      "%s: has no state that could be made new; load it first",
			      guest->vm->config->name);
	return r < 0 ? r : vm_renew(guest->vm, err);
}

int move_guest_announce(struct move_guest *guest, const void *owner, struct error *err)
{
	int r = expect_mover(guest, owner, err);

	if (r == 0)
		vm_announce_soon(guest->vm);
	return r;
}

/* ---- commit ---- */

/* From here on it runs; the networks do not know yet. */
static void run_quietly(struct move_guest *guest)
{
	guest->stage = MOVE_RAN;
	guest->arrived = true;
	guest->committing = false;
	/* Where memory is still to come, the mover stays until it has. */
	if (!move_guard_run(guest)) {
		guest->owner = NULL;
		move_guest_release(guest);
	}
	(void)!vm_let_go(guest->vm, VM_HELD_BY_MOVE);
	guest->ran_ns = clock_now(loop_clock(guest->vm->loop));
}

static void run(struct move_guest *guest)
{
	const bool moved = !guest->succession;

	run_quietly(guest);
	if (moved)
		vm_announce(guest->vm);
	guest->events.arrived(guest->events.ctx);
}

static void abandon(struct move_guest *guest, const char *why)
{
	guest->committing = false;
	move_guest_over(guest,
			guest->vm->resources->inherited ? MOVE_EXIT_SHARED : MOVE_EXIT_ABANDONED,
			why, "");
}

/* The one question: whether the token is ours to run. 1 ran, 0 never, negative errno nobody knows. */
static int ask_mark(struct move_guest *guest)
{
	int r = guest->mark_fd < 0 ? MARK_RAN : mark_take(guest->mark_fd, MARK_RAN);

	return r < 0 ? r : r == MARK_RAN;
}

/* Locks of disks belong to the open files, which both processes have. */
static int commit_upgrade(struct move_guest *guest, bool *ret_ran)
{
	*ret_ran = move_upgrade_commit(guest);
	if (*ret_ran)
		run(guest);
	else
		abandon(guest, "the process that ran it went on before the commit");
	return 0;
}

static int commit(struct move_guest *guest, bool *ret_ran, struct error *err)
{
	int r = board_own(guest->vm, true, err);

	if (r < 0)
		return r;
	guest->committing = true;
	r = ask_mark(guest);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "%s: the mark of its arrival cannot be written: %s; it stands "
				 "until that is possible: see the state directory",
				 guest->vm->config->name, strerror(-r));
	*ret_ran = r;
	if (r) {
		run(guest);
		return 0;
	}
	(void)!board_own(guest->vm, false, NULL);
	abandon(guest, "the move was closed before its commit");
	return 0;
}

int move_guest_commit(struct move_guest *guest, const void *owner, bool *ret_ran, struct error *err)
{
	int r = expect_mover(guest, owner, err);

	if (r < 0)
		return r;
	if (!guest->loaded)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "%s: has no state to run with; load it first",
				 guest->vm->config->name);
	return guest->succession ? commit_upgrade(guest, ret_ran) : commit(guest, ret_ran, err);
}

int move_guest_run_held(struct move_guest *guest, const void *owner, struct error *err)
{
	int r = move_guest_expect(guest, owner, STAGE(MOVE_ARRIVING), err);

	if (r == 0 && !guest->loaded)
		r = error_set(err, -EINVAL, EXIT_STATUS_FAILED,
			      "%s: has no state to run with; load it first",
			      guest->vm->config->name);
	if (r == 0)
		r = board_own(guest->vm, true, err);
	if (r == 0)
		run_quietly(guest);
	return r;
}

static void patience_expired(struct loop_timer *timer)
{
	struct move_guest *guest = container_of(timer, struct move_guest, patience);
	struct error err = { 0 };
	bool ran;

	if (!guest->committing)
		abandon(guest, "no mover came to load it");
	else if (commit(guest, &ran, &err) < 0)
		wait_for(guest, ASK_AGAIN_NS);
}

/* The mark may say `ran` already: then nobody else runs, and this VM must. */
int move_guest_abandon(struct move_guest *guest, struct error *err)
{
	const char *name = guest->vm->config->name;

	if (guest->stage != MOVE_ARRIVING || guest->committing)
		return error_set(err, -ESRCH, EXIT_STATUS_FAILED,
				 "%s: does not wait for a mover (it is at '%s')", name,
				 move_stage_name(guest->stage));
	if (guest->owner)
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
				 "%s: a mover has this VM; let it end", name);
	abandon(guest, "no mover comes to load it");
	return 0;
}

void move_arrive_forget(struct move_guest *guest)
{
	if (guest->committing)
		wait_for(guest, 0);
	else
		abandon(guest, "its mover ended before the commit");
}

int move_guest_wait(struct move_guest *guest, const void *owner, bool stand, struct error *err)
{
	int r = move_guest_expect(guest, owner, STAGE(MOVE_RAN), err);

	if (r == 0)
		vm_wait(guest->vm, stand);
	return r;
}
