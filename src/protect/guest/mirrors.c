/* SPDX-License-Identifier: Apache-2.0 */

/* The ring that mirrored disks write through, from the beginning of a copy to the last write's end. */

#include <errno.h>
#include <time.h>

#include "base/cleanup.h"
#include "protect/guest/internal.h"
#include "vm/cpus.h"

#define LOOK_AGAIN_NS NSEC_PER_MSEC
#define SETTLE_NS (2 * NSEC_PER_SEC)

void protect_mirrors_set(struct protect_guest *guest, struct mirror_ring *ring)
{
	struct vm *vm = guest->vm;

	for (uint32_t i = 0; i < vm->config->n_disks; i++)
		if (vm->mirrors[i])
			block_mirror_set(vm->mirrors[i], ring);
}

static bool are_settled(const struct vm *vm)
{
	for (uint32_t i = 0; i < vm->config->n_disks; i++)
		if (vm->mirrors[i] && !block_mirror_settled(vm->mirrors[i]))
			return false;
	return true;
}

/* The queues' threads see to it; once for each copy, and as long as a disk takes. */
int protect_mirrors_settle(struct protect_guest *guest, struct error *err)
{
	const struct timespec between = { .tv_nsec = LOOK_AGAIN_NS };
	const uint64_t due = clock_now(&clock_host) + SETTLE_NS;

	while (!are_settled(guest->vm)) {
		if (clock_now(&clock_host) > due)
			return error_set(
				err, -ETIMEDOUT, EXIT_STATUS_FAILED,
				"%s: a disk request does not end; see its disks on this host, then "
				"protect it again",
				guest->vm->config->name);
		nanosleep(&between, NULL);
	}
	return 0;
}

static void look(struct protect_guest *guest)
{
	if (!guest->old_ring)
		return;
	if (mirror_ring_idle(guest->old_ring))
		mirror_ring_free(TAKE_PTR(guest->old_ring));
	else
		loop_timer_arm(guest->vm->loop, &guest->retire, protect_now(guest) + LOOK_AGAIN_NS);
}

void protect_mirrors_expired(struct loop_timer *timer)
{
	look(container_of(timer, struct protect_guest, retire));
}

void protect_mirrors_retire(struct protect_guest *guest)
{
	if (guest->ring)
		guest->old_ring = TAKE_PTR(guest->ring);
	look(guest);
}
