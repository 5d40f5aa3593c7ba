/* SPDX-License-Identifier: Apache-2.0 */

/* A VM that is being protected: its guard fills a copy while the VM runs, then shuts the gate; from there on cuts and acknowledgements (cut.c). */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "protect/guest/internal.h"
#include "vm/cpus.h"

/* ---- begin ---- */

static int refuse_role(const struct protect_guest *guest, struct error *err)
{
	const char *name = guest->vm->config->name;

	if (guest->foreign)
		return error_set(err, -EPERM, EXIT_STATUS_BUSY,
				 "%s: the arbiter's record says that it is somebody else's; see "
				 "utsusu status %s",
				 name, name);
	if (guest->known && guest->ownership.role != OWNERSHIP_STARTS)
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY, "%s: is %s", name,
				 ownership_role_name(guest->ownership.role));
	return error_set(err, -ENOTCONN, EXIT_STATUS_HOST,
			 "%s: no arbiter has let it be its owner yet; see: utsusu arbiter check",
			 name);
}

static int judge_owner(struct protect_guest *guest, struct error *err)
{
	struct problems problems = { 0 };

	protect_guest_check(guest, &problems);
	if (problems.count) {
		*err = problems.list[0];
		return err->code;
	}
	if (!guest->known || guest->ownership.role != OWNERSHIP_IS_SOLO)
		return refuse_role(guest, err);
	if (!protect_is_nobody(&guest->ownership.session) || guest->ownership.gated ||
	    guest->old_ring)
		return error_set(err, -EAGAIN, EXIT_STATUS_BUSY,
				 "%s: its last backup is still being given up; try again soon",
				 guest->vm->config->name);
	return 0;
}

/* What was written before counts as clean, and the guard reads it after this. */
static int start_logs(struct protect_guest *guest)
{
	struct vm *vm = guest->vm;
	int r;

	cpus_quiesce(vm);
	r = memory_dirty_start(vm->memory);
	if (r == 0)
		protect_mirrors_set(guest, guest->ring);
	else
		memory_dirty_stop(vm->memory);
	quiesce_end(&vm->quiesce);
	guest->logging = r == 0;
	return r;
}

static int prepare(struct protect_guest *guest, int shared_fd, int ring_fd, struct error *err)
{
	_cleanup_(fd_closep) int ring = ring_fd;
	int r = protect_shared_take(shared_fd, guest->vm->memory->size, &guest->shared, err);

	if (r == 0 && ring >= 0)
		r = mirror_ring_take(TAKE_FD(ring), &guest->ring, err);
	if (r == 0)
		r = dirty_bitmap_init(&guest->fresh, guest->vm->memory);
	if (r == 0)
		r = start_logs(guest);
	return r < 0 ? r : protect_mirrors_settle(guest, err);
}

int protect_guest_begin(struct protect_guest *guest, const void *owner,
			const struct ownership_id *session, const char *peer, int shared_fd,
			int ring_fd, uint64_t *ret_cut, struct error *err)
{
	_cleanup_(fd_closep) int shared = shared_fd, ring = ring_fd;
	const char *name = guest->vm->config->name;
	int r = judge_owner(guest, err);

	if (r == 0 && protect_is_nobody(session))
		r = error_set(err, -EINVAL, EXIT_STATUS_FAILED, "%s: a copy needs a session", name);
	if (r < 0)
		return r;
	r = prepare(guest, TAKE_FD(shared), TAKE_FD(ring), err);
	if (r < 0) {
		protect_owner_release(guest);
		return error_set(err, r, EXIT_STATUS_FAILED, "%s: cannot be protected: %s", name,
				 strerror(-r));
	}
	guest->guard = owner;
	guest->side = SIDE_OWNER;
	guest->epochs = guest->n_pauses = 0;
	snprintf(guest->peer, sizeof(guest->peer), "%s", peer);
	(void)!protect_step(guest,
			    &(struct ownership_event){ .kind = WHEN_SYNC, .session = *session });
	*ret_cut = guest->ownership.cut;
	return 0;
}

/* ---- filling ---- */

/* The guard takes words while we add to them. */
static uint64_t tell_pages(struct protect_guest *guest)
{
	uint64_t *from = guest->fresh.words, pages = 0;

	for (uint64_t i = 0; i < guest->shared.n_words; i++) {
		if (!from[i])
			continue;
		pages += (uint64_t)__builtin_popcountll(from[i]);
		__atomic_fetch_or(&guest->shared.bitmap[i], from[i], __ATOMIC_ACQ_REL);
		from[i] = 0;
	}
	return pages;
}

int protect_guest_collect(struct protect_guest *guest, const void *owner, uint64_t *ret_pages,
			  struct error *err)
{
	int r = protect_expect(guest, owner, SIDE_OWNER, err);

	if (r == 0)
		r = memory_dirty_collect(guest->vm->memory, &guest->fresh);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "%s: KVM's log of what the guest writes fails: %s; see the host's "
				 "kernel log",
				 guest->vm->config->name, strerror(-r));
	*ret_pages = tell_pages(guest);
	return 0;
}

int protect_guest_gate(struct protect_guest *guest, const void *owner, struct error *err)
{
	int r = protect_expect(guest, owner, SIDE_OWNER, err);

	if (r == 0)
		(void)!protect_step_plain(guest, WHEN_GATE);
	if (r == 0 && !guest->ownership.gated)
		r = error_set(err, -EBUSY, EXIT_STATUS_BUSY, "%s: is about to end",
			      guest->vm->config->name);
	return r;
}

int protect_guest_acked(struct protect_guest *guest, const struct ownership_id *session,
			uint64_t epoch, uint64_t at_ns, struct error *err)
{
	const uint64_t now = protect_now(guest);

	if (!guest->known || protect_is_nobody(session) ||
	    !ownership_id_equal(session, &guest->ownership.session))
		return error_set(err, -ESTALE, EXIT_STATUS_FAILED,
				 "%s: no copy of this session is kept any more",
				 guest->vm->config->name);
	guest->ack_at_ns = MIN(at_ns, now);
	(void)!protect_step(guest, &(struct ownership_event){ .kind = WHEN_ACKED,
							      .epoch = epoch,
							      .session = *session });
	return 0;
}

/* ---- the end of a copy ---- */

void protect_owner_release(struct protect_guest *guest)
{
	struct vm *vm = guest->vm;

	cpus_quiesce(vm);
	if (guest->ring)
		protect_mirrors_set(guest, NULL);
	quiesce_end(&vm->quiesce);
	if (guest->logging)
		memory_dirty_stop(vm->memory);
	guest->logging = false;
	protect_mirrors_retire(guest);
	protect_shared_release(&guest->shared);
	dirty_bitmap_release(&guest->fresh);
	buffer_release(&guest->state);
	buffer_init(&guest->state, EPOCH_STATE_MAX);
	guest->guard = NULL;
	guest->side = SIDE_NONE;
}

void protect_owner_lost(struct protect_guest *guest, const char *why)
{
	if (guest->side != SIDE_OWNER)
		return;
	protect_owner_release(guest);
	protect_tell_changed(guest, "backup-lost", why);
	(void)!protect_step_plain(guest, WHEN_GIVEN_UP);
}

int protect_guest_end(struct protect_guest *guest, const void *owner, const char *why,
		      struct error *err)
{
	int r = protect_expect(guest, owner, SIDE_OWNER, err);

	if (r == 0)
		protect_owner_lost(guest, why);
	return r;
}

/* ---- what a user wants ---- */

static int refuse_unprotected(const struct protect_guest *guest, struct error *err)
{
	return error_set(err, -ESRCH, EXIT_STATUS_FAILED,
			 "%s: is not protected; see utsusu status %s", guest->vm->config->name,
			 guest->vm->config->name);
}

int protect_guest_off(struct protect_guest *guest, struct error *err)
{
	if (guest->side != SIDE_OWNER)
		return refuse_unprotected(guest, err);
	protect_tell_guard(guest, TELL_OFF, "its user wants it to be protected no longer");
	protect_owner_lost(guest, "not wanted any more");
	return 0;
}

int protect_guest_failover(struct protect_guest *guest, struct error *err)
{
	bool prepares;

	if (guest->by_hand && guest->side == SIDE_BACKUP && !guest->ownership.prepared)
		return error_set(err, -EOPNOTSUPP, EXIT_STATUS_USAGE,
				 "%s: without an arbiter a failover is asked for on %s, which ends "
				 "it first: utsusu failover %s there",
				 guest->vm->config->name, guest->peer, guest->vm->config->name);
	if (guest->side == SIDE_BACKUP && guest->ownership.role == OWNERSHIP_BACKS_UP) {
		int r = protect_guest_suspect(guest, guest->guard, "a failover is wanted",
					      &prepares, err);

		if (r < 0 || prepares || guest->ownership.prepared)
			return r;
		return error_set(err, -EAGAIN, EXIT_STATUS_BUSY,
				 "%s: this copy is not whole yet, or not named by the record",
				 guest->vm->config->name);
	}
	if (guest->side != SIDE_OWNER || guest->ownership.role != OWNERSHIP_IS_PROTECTED)
		return refuse_unprotected(guest, err);
	protect_tell_guard(guest, TELL_FAILOVER, "");
	return 0;
}
