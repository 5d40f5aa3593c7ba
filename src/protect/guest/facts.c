/* SPDX-License-Identifier: Apache-2.0 */

/* What it is, for people and programs; and what forbids it. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "protect/guest/internal.h"
#include "vm/interrupts.h"

static int compare_ns(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void count_pauses(const struct protect_guest *guest, struct protect_facts *facts)
{
	const size_t n = (size_t)MIN(guest->n_pauses, (uint64_t)PAUSES);
	uint64_t sorted[PAUSES];

	if (!n)
		return;
	memcpy(sorted, guest->pauses, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), compare_ns);
	facts->pause_p50_ns = sorted[n / 2];
	facts->pause_p99_ns = sorted[n * 99 / 100];
	facts->last_pause_ns = guest->pauses[(guest->n_pauses - 1) % PAUSES];
}

/* No cut is made of a guest that asked for a reset, which comes when it runs. */
static bool is_paused_before_a_reset(const struct vm *vm)
{
	return vm->holders & VM_HELD_BY_USER &&
	       __atomic_load_n(&vm->posted, __ATOMIC_SEQ_CST) & VM_POSTED_RESET;
}

static const char *waits_for(const struct protect_guest *guest)
{
	const struct ownership *ownership = &guest->ownership;

	if (guest->foreign)
		return "nothing: the record says that it is somebody else's";
	if (!guest->known)
		return "";
	if ((ownership->asked || ownership->waits) && protect_hand_waits(guest)[0])
		return protect_hand_waits(guest);
	if (ownership->asked || ownership->waits || guest->swap_due)
		return guest->relay ? "the arbiter's answer" : "a relay to the arbiter";
	if (guest->off)
		return "the record, to say that its guest switched itself off";
	if (ownership->role == OWNERSHIP_IS_DEPOSED)
		return "its backup, which has claimed it, to go on with it or not";
	if (ownership->role == OWNERSHIP_CLAIMS)
		return "its guard, to apply what its owner left";
	if (ownership->gated && is_paused_before_a_reset(guest->vm))
		return "its user, to resume it: it was paused when its guest asked for a reset";
	return "";
}

static uint32_t mirrored(const struct protect_guest *guest)
{
	uint32_t n = 0;

	for (uint32_t i = 0; guest->ring && i < guest->vm->config->n_disks; i++)
		n += guest->vm->mirrors[i] != NULL;
	return n;
}

void protect_guest_facts(const struct protect_guest *guest, struct protect_facts *ret_facts)
{
	struct protect_facts facts = {
		.ownership = guest->known ? &guest->ownership : NULL,
		.me = guest->me,
		.released = hold_released(&guest->vm->hold),
		.epochs = guest->epochs,
		.last_pages = guest->last_pages,
		.last_state_len = guest->last_state_len,
		.disks = mirrored(guest),
		.foreign = guest->foreign,
		.relay = guest->relay,
		.guard = guest->guard,
		.by_hand = guest->by_hand,
		.wants = guest->known && (guest->ownership.asked || guest->ownership.waits)
				 ? guest->ownership.want.mode
				 : OWNERSHIP_NONE,
		.waits_for = waits_for(guest),
	};

	if (guest->side != SIDE_NONE)
		memcpy(facts.peer, guest->peer, sizeof(facts.peer));
	protect_held_count(guest->vm, &facts.held);
	count_pauses(guest, &facts);
	*ret_facts = facts;
}

#define problem(problems, code, status, ...)                                                       \
	do {                                                                                       \
		struct error err_ = { 0 };                                                         \
		error_set(&err_, code, status, __VA_ARGS__);                                       \
		problems_add(problems, &err_);                                                     \
	} while (0)

static void check_vhost(const struct vm *vm, struct problems *problems)
{
	for (uint32_t i = 0; i < vm->config->n_nets; i++)
		if (vm->config->nets[i].vhost)
			problem(problems, -EOPNOTSUPP, EXIT_STATUS_USAGE,
				"%s: net[%u] has vhost=on, whose frames leave without asking; run "
				"the VM with vhost=off to protect it",
				vm->config->name, i);
}

void protect_guest_check(struct protect_guest *guest, struct problems *problems)
{
	const char *name = guest->vm->config->name;

	check_vhost(guest->vm, problems);
	if (guest->side == SIDE_OWNER)
		problem(problems, -EBUSY, EXIT_STATUS_BUSY,
			"%s: is protected by %s already, or about to be; end that with: utsusu "
			"protect %s --off",
			name, guest->peer, name);
	else if (guest->side == SIDE_BACKUP)
		problem(problems, -EBUSY, EXIT_STATUS_BUSY, "%s: is the backup of the VM on %s",
			name, guest->peer);
	else
		move_guest_check(guest->move, problems);
}

bool protect_guest_is_busy(const struct protect_guest *guest)
{
	if (guest->side != SIDE_NONE)
		return true;
	return guest->known && !guest->foreign &&
	       (guest->ownership.gated || guest->ownership.role == OWNERSHIP_IS_DEPOSED ||
		guest->ownership.role == OWNERSHIP_CLAIMS || guest->off);
}
