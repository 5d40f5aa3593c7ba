/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Both ends of an upgrade: the VM goes on in another process of this host, whose RAM, disks and taps are the same open files. Which of
 * both runs it is one word that they share (host/succession.h). So nothing here waits for a person: whoever hears nothing decides.
 */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "move/guest/internal.h"

#define HEIR_TAKES_NS                                                                              \
	(5 *                                                                                       \
	 NSEC_PER_SEC) /* the longest that a guest stands still for a successor that is silent */

static void verdict_expired(struct loop_timer *timer);

void move_upgrade_init(struct move_guest *guest)
{
	loop_timer_init(&guest->verdict, verdict_expired);
}

/* ---- the process that has it ---- */

int move_guest_hand_over(struct move_guest *guest, const void *owner,
			 const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int succession_fd,
			 int heir_fd, struct error *err)
{
	_cleanup_(fd_closep) int shared = shared_fd, succession = succession_fd, heir = heir_fd;
	int r = move_source_judge(guest, true, err);

	if (r < 0)
		return r;
	r = move_shared_take(TAKE_FD(shared), guest->vm->memory->size, &guest->shared, err);
	if (r == 0)
		r = succession_map(succession, &guest->succession);
	if (r == 0)
		r = guest->events.hand_over(guest->events.ctx, heir);
	if (r < 0) {
		move_guest_release(guest);
		return error_set(err, r, EXIT_STATUS_FAILED, "%s: cannot be handed over: %s",
				 guest->vm->config->name, strerror(-r));
	}
	move_source_begun(guest, owner, token);
	return 0;
}

int move_guest_give(struct move_guest *guest, const void *owner, unsigned int deadline_ms,
		    uint16_t version, struct error *err)
{
	if (!guest->succession)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "%s: has no successor; begin with handover-begin",
				 guest->vm->config->name);
	guest->give_version = version;
	return move_guest_stop(guest, owner, deadline_ms, err);
}

/* The successor may have it as soon as its state is written. */
int move_upgrade_stopped(struct move_guest *guest, struct error *err)
{
	struct move_gift gift = { .stopped_at_ns = guest->stopped_at_ns };
	int r = move_guest_save(guest, guest->owner, guest->give_version, &gift.state_len, err);

	if (r < 0)
		return r;
	gift.moment_ns = guest->vm->saved_ns;
	move_source_describe(guest, "a new version", 0);
	guest->stage = MOVE_GIVEN;
	guest->events.doors(guest->events.ctx, false);
	loop_timer_arm(guest->vm->loop, &guest->verdict,
		       clock_now(loop_clock(guest->vm->loop)) + HEIR_TAKES_NS);
	guest->events.given(guest->events.ctx, guest->owner, &gift, NULL);
	return 0;
}

/* It runs there: nothing of it is ours to touch, not even to tidy up. */
static void pass(struct move_guest *guest)
{
	loop_timer_cancel(&guest->verdict);
	guest->stage = MOVE_RAN;
	move_guest_over(guest, MOVE_EXIT_SHARED, "goes on in a new version of the program", "");
}

int move_upgrade_never(struct move_guest *guest, struct error *err)
{
	if (succession_decide(guest->succession, SUCCESSION_KEPT) == SUCCESSION_PASSED) {
		pass(guest);
		return error_set(err, -EALREADY, EXIT_STATUS_FAILED,
				 "%s: runs in its new version already", guest->vm->config->name);
	}
	move_source_end(guest);
	guest->returned = true;
	return 0;
}

int move_upgrade_ran(struct move_guest *guest, struct error *err)
{
	if (succession_read(guest->succession) != SUCCESSION_PASSED)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "%s: its new version has not taken it", guest->vm->config->name);
	pass(guest);
	return 0;
}

void move_upgrade_settle(struct move_guest *guest)
{
	(void)!move_upgrade_never(guest, NULL);
}

static void verdict_expired(struct loop_timer *timer)
{
	move_upgrade_settle(container_of(timer, struct move_guest, verdict));
}

/* ---- the process that gets it ---- */

int move_guest_inherit(struct move_guest *guest, const void *owner,
		       const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd, int succession_fd,
		       struct error *err)
{
	_cleanup_(fd_closep) int shared = shared_fd, fd = succession_fd;
	struct succession *succession = NULL;
	int r = guest->vm->resources->inherited ? succession_map(fd, &succession) : -EINVAL;

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED,
				 "%s: is not made to go on as a running VM",
				 guest->vm->config->name);
	r = move_guest_arrive(guest, owner, token, TAKE_FD(shared), -1, err);
	if (r < 0) {
		succession_unmap(succession);
		return r;
	}
	guest->succession = succession;
	return 0;
}

/* One host has one monotonic clock: the stop is measured from the very moment of the state. */
static int load_since(struct move_guest *guest, const void *owner, uint64_t len, uint64_t moment_ns,
		      struct error *err)
{
	uint64_t now = clock_now(loop_clock(guest->vm->loop));

	if (moment_ns > now)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "%s: its state is from a moment that has not been yet",
				 guest->vm->config->name);
	return move_guest_load(guest, owner, len, now - moment_ns, false, err);
}

int move_guest_take(struct move_guest *guest, const void *owner, uint64_t len, uint64_t moment_ns,
		    bool *ret_ran, uint64_t *ret_ran_ns, struct error *err)
{
	int r = guest->succession ? load_since(guest, owner, len, moment_ns, err)
				  : error_set(err, -EINVAL, EXIT_STATUS_FAILED,
					      "%s: is nobody's successor; begin with inherit-begin",
					      guest->vm->config->name);

	if (r == 0)
		r = move_guest_commit(guest, owner, ret_ran, err);
	if (r == 0)
		*ret_ran_ns = guest->ran_ns;
	return r;
}

bool move_upgrade_commit(struct move_guest *guest)
{
	if (succession_decide(guest->succession, SUCCESSION_PASSED) != SUCCESSION_PASSED)
		return false;
	vm_resources_wake(guest->vm->resources);
	guest->events.taken(guest->events.ctx);
	return true;
}
