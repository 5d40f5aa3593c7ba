/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A cut: the guest stands still, and what changed since the last one is copied. Requests in flight are state; disks are not waited for. Within
 * the pause no call is made whose length others decide, and nothing is touched first that was touched in the cuts before.
 */

#include <errno.h>
#include <string.h>

#include "protect/guest/internal.h"
#include "vm/cpus.h"
#include "vm/save.h"

static int refuse(const struct protect_guest *guest, const char *why, struct error *err)
{
	return error_set(err, -EINVAL, EXIT_STATUS_FAILED, "%s: no epoch can be cut: %s",
			 guest->vm->config->name, why);
}

static int judge_cut(const struct protect_guest *guest, uint64_t epoch, struct error *err)
{
	const struct ownership *ownership = &guest->ownership;

	if (ownership->role != OWNERSHIP_IS_SOLO && ownership->role != OWNERSHIP_IS_PROTECTED)
		return refuse(guest, "it is not its owner any more", err);
	if (!ownership->gated)
		return refuse(guest, "the gate is open; shut it first", err);
	if (epoch <= ownership->cut || epoch > INT64_MAX)
		return refuse(guest, "its number was used before", err);
	return 0;
}

/* In the middle of something that is in no state: the guest asked for a reset that is not done yet, a vCPU stands in an access, or a debugger has it. */
static bool is_between(const struct vm *vm)
{
	if (vm->debugged) /* its breakpoints stand in the guest */
		return true;
	if (vm->status == VM_RESETTING || __atomic_load_n(&vm->posted, __ATOMIC_SEQ_CST))
		return true;
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		if (vcpu_is_held(vm->vcpus[i]))
			return true;
	return false;
}

/* Pages that earlier collects told and nobody took belong to this epoch, too: read later, they would be newer than it. */
static void take_back_pages(struct protect_guest *guest)
{
	for (uint64_t i = 0; i < guest->shared.n_words; i++)
		if (__atomic_load_n(&guest->shared.bitmap[i], __ATOMIC_RELAXED))
			guest->fresh.words[i] |= __atomic_exchange_n(&guest->shared.bitmap[i], 0,
								     __ATOMIC_ACQ_REL);
	/* Whoever else has the file could set bits behind the last page. */
	if (guest->fresh.n_pages % 64)
		guest->fresh.words[guest->shared.n_words - 1] &=
			(1ULL << (guest->fresh.n_pages % 64)) - 1;
}

static uint64_t capture_pages(struct protect_guest *guest)
{
	struct epoch epoch = {
		.max_pages = guest->shared.n_pages,
		.pages = guest->shared.pages,
		.content = guest->shared.content,
	};

	epoch_capture(&epoch, guest->vm->memory, &guest->fresh);
	return epoch.n_pages;
}

/* The container, in memory of our own: a guard could change the shared file meanwhile. */
static int save_state(struct protect_guest *guest, struct protect_cut *cut, struct error *err)
{
	uint8_t head[PROTECT_STATE_HEAD] = { 0 };
	struct buffer *out = &guest->state;
	size_t vm_end;
	int r;

	out->len = 0;
	r = buffer_append(out, head, sizeof(head));
	if (r == 0)
		r = vm_save(guest->vm, VM_SAVE_ALL, out, err);
	vm_end = out->len;
	if (r == 0)
		r = protect_held_export(guest->vm, cut->released, cut->epoch, out);
	if (r < 0)
		return r;
	protect_state_head(out->data, vm_end - PROTECT_STATE_HEAD, out->len - vm_end);
	protect_state_set_flags(out->data, guest->off ? PROTECT_STATE_OFF : 0);
	memcpy(guest->shared.state, out->data, out->len);
	cut->state_len = out->len;
	return 0;
}

/* Inside the barrier. Pages last: where something fails they stay to be told. */
static int take(struct protect_guest *guest, struct protect_cut *cut, struct error *err)
{
	struct vm *vm = guest->vm;
	int r;

	if (is_between(vm))
		return -EAGAIN;
	cut->released = hold_released(&vm->hold);
	r = save_state(guest, cut, err);
	if (r == 0)
		r = memory_dirty_collect(vm->memory, &guest->fresh);
	if (r < 0)
		return r;
	take_back_pages(guest);
	cut->pages = capture_pages(guest);
	cut->ring_end = guest->ring ? mirror_ring_end(guest->ring) : 0;
	hold_cut(&vm->hold, cut->epoch);
	return 0;
}

static void note(struct protect_guest *guest, const struct protect_cut *cut)
{
	guest->pauses[guest->n_pauses++ % PAUSES] = cut->pause_ns;
	guest->epochs++;
	guest->last_pages = cut->pages;
	guest->last_state_len = cut->state_len;
}

/* More is held than a checkpoint has room for: it gets less with the next acknowledgement, if there is one to come. */
static bool may_shrink(const struct protect_guest *guest, int r)
{
	return r == -E2BIG && guest->ownership.acked < guest->ownership.cut;
}

static int refuse_now(const struct protect_guest *guest, int r, struct error *err)
{
	if (may_shrink(guest, r)) {
		*err = (struct error){ 0 };
		r = -EAGAIN;
	}
	if (r == -EAGAIN)
		return error_set(err, r, EXIT_STATUS_BUSY, "%s: not now; ask again soon",
				 guest->vm->config->name);
	return error_set(err, r, EXIT_STATUS_FAILED, "%s: no epoch can be cut: %s",
			 guest->vm->config->name, strerror(-r));
}

int protect_guest_cut(struct protect_guest *guest, const void *owner, uint64_t epoch,
		      struct protect_cut *ret_cut, struct error *err)
{
	struct protect_cut cut = { .epoch = epoch };
	struct vm *vm = guest->vm;
	uint64_t began;
	int r = protect_expect(guest, owner, SIDE_OWNER, err);

	if (r == 0)
		r = judge_cut(guest, epoch, err);
	if (r < 0)
		return r;
	if (is_between(vm))
		return refuse_now(guest, -EAGAIN, err);
	began = protect_now(guest);
	cpus_quiesce(vm);
	r = take(guest, &cut, err);
	quiesce_end(&vm->quiesce);
	cut.pause_ns = protect_now(guest) - began;
	if (r < 0)
		return refuse_now(guest, r, err);
	note(guest, &cut);
	(void)!protect_step_epoch(guest, WHEN_CUT, epoch);
	cut.generation = guest->ownership.record.generation;
	cut.by_hand = guest->by_hand;
	cut.record = guest->ownership.record;
	*ret_cut = cut;
	return 0;
}
