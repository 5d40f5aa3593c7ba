/* SPDX-License-Identifier: Apache-2.0 */
#include "move/guest/guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "move/guest/internal.h"
#include "vm/interrupts.h"

const char *move_stage_name(enum move_stage stage)
{
	static const char *const names[] = {
		[MOVE_IDLE] = "idle",	      [MOVE_LOGGING] = "logging",
		[MOVE_STOPPING] = "stopping", [MOVE_STOPPED] = "stopped",
		[MOVE_GIVEN] = "given",	      [MOVE_ARRIVING] = "arriving",
		[MOVE_RAN] = "ran",
	};

	return names[stage];
}

enum move_stage move_guest_stage(const struct move_guest *guest)
{
	return guest->stage;
}

bool move_guest_is_busy(const struct move_guest *guest)
{
	return guest->owner || guest->stage == MOVE_GIVEN;
}

const char *move_guest_stage_name(const struct move_guest *guest)
{
	return move_stage_name(guest->stage);
}

const struct memory *move_guest_memory(const struct move_guest *guest)
{
	return guest->vm->memory;
}

const struct mark_given *move_guest_mark(const struct move_guest *guest)
{
	return guest->stage == MOVE_GIVEN ? &guest->given : NULL;
}

static void over_expired(struct loop_timer *timer)
{
	struct move_guest *guest = container_of(timer, struct move_guest, over);

	guest->events.over(guest->events.ctx, guest->exit, guest->why);
}

void move_guest_over(struct move_guest *guest, enum move_exit how, const char *why, const char *of)
{
	guest->exit = how;
	snprintf(guest->why, sizeof(guest->why), "%s%.128s", why, of);
	loop_timer_arm(guest->vm->loop, &guest->over, 0);
}

int move_guest_new(struct vm *vm, bool arriving, const struct move_guest_events *events,
		   struct move_guest **ret_guest)
{
	struct move_guest *guest = calloc(1, sizeof(*guest));

	if (!guest)
		return -ENOMEM;
	guest->vm = vm;
	guest->events = *events;
	guest->shared.fd = guest->mark_fd = -1;
	loop_timer_init(&guest->over, over_expired);
	move_source_init(guest);
	move_arrive_init(guest);
	move_guard_init(guest);
	move_upgrade_init(guest);
	if (arriving) {
		int r = move_arrive_wait(guest);

		if (r < 0) {
			move_guard_release(guest);
			free(guest);
			return r;
		}
	}
	*ret_guest = guest;
	return 0;
}

void move_guest_release(struct move_guest *guest)
{
	loop_timer_cancel(&guest->patience);
	dirty_bitmap_release(&guest->fresh);
	move_shared_release(&guest->shared);
	succession_unmap(TAKE_PTR(guest->succession));
	loop_timer_cancel(&guest->verdict);
	fd_close(guest->mark_fd);
	guest->mark_fd = -1;
}

void move_guest_free(struct move_guest *guest)
{
	if (!guest)
		return;
	loop_timer_cancel(&guest->throttle_timer);
	loop_timer_cancel(&guest->stop_poll);
	loop_timer_cancel(&guest->over);
	move_guard_release(guest);
	move_disks_unlog(guest);
	move_guest_release(guest);
	free(guest);
}

int move_guest_expect(const struct move_guest *guest, const void *owner, unsigned int stages,
		      struct error *err)
{
	if (guest->owner != owner || !owner)
		return error_set(err, guest->owner ? -EBUSY : -ESRCH, EXIT_STATUS_BUSY, "%s: %s",
				 guest->vm->config->name,
				 guest->owner
					 ? "another mover has this VM; let it end, or cancel it"
					 : "this connection moves no VM; begin first");
	if (stages & STAGE(guest->stage))
		return 0;
	return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
			 "%s: not while its move is at '%s'; keep the order of move/guest/guest.h",
			 guest->vm->config->name, move_stage_name(guest->stage));
}

/* ---- what forbids a move ---- */

#define problem(problems, code, status, ...)                                                       \
	do {                                                                                       \
		struct error err_ = { 0 };                                                         \
		error_set(&err_, code, status, __VA_ARGS__);                                       \
		problems_add(problems, &err_);                                                     \
	} while (0)

/* A reset that waits for the VM to run is in no state. */
static bool is_between_lives(const struct vm *vm)
{
	return vm->holders & VM_HELD_BY_USER &&
	       __atomic_load_n(&vm->posted, __ATOMIC_SEQ_CST) & VM_POSTED_RESET;
}

static void check_status(const struct vm *vm, struct problems *problems)
{
	const char *name = vm->config->name;

	if (vm->debugged || vm->holders & VM_HELD_BY_DEBUGGER)
		problem(problems, -EBUSY, EXIT_STATUS_BUSY,
			"%s: a debugger is connected; leave it (GDB: detach)", name);
	if (vm->holders & VM_HELD_BY_WATCH)
		problem(problems, -EBUSY, EXIT_STATUS_BUSY,
			"%s: stands on a request of a breakpoint; let it go on, or leave the watch",
			name);
	else if (is_between_lives(vm))
		problem(problems, -EBUSY, EXIT_STATUS_BUSY,
			"%s: was paused when its guest asked for a reset; resume it first: utsusu "
			"resume %s",
			name, name);
	else if (vm->status != VM_RUNNING && !vm->holders)
		problem(problems, -EBUSY, EXIT_STATUS_BUSY, "%s: is %s; try again when it runs",
			name, vm_status_name(vm->status));
}

static void check_devices(const struct vm *vm, struct problems *problems)
{
	for (uint32_t i = 0; i < vm->config->n_nets; i++)
		if (vm->config->nets[i].vhost)
			problem(problems, -EOPNOTSUPP, EXIT_STATUS_USAGE,
				"%s: net[%u] has vhost=on, whose writes into the guest's memory "
				"are not logged; run the VM with vhost=off to move it",
				vm->config->name, i);
	if (vm->dirty_backend == DIRTY_BACKEND_NONE)
		problem(problems, -EOPNOTSUPP, EXIT_STATUS_HOST,
			"%s: this host's KVM cannot log what the guest writes; 'utsusu doctor' "
			"tells more",
			vm->config->name);
}

static void check_free(struct move_guest *guest, struct problems *problems)
{
	const char *name = guest->vm->config->name;

	if (!guest->vm->config->uuid[0])
		problem(problems, -EINVAL, EXIT_STATUS_USAGE,
			"%s: has no UUID; start it with utsusu run, or give --uuid", name);
	if (guest->stage == MOVE_GIVEN)
		problem(problems, -EBUSY, EXIT_STATUS_BUSY,
			"%s: was given to %s already; utsusu resolve %s", name, guest->given.peer,
			name);
	else if (move_guard_settle(guest))
		problem(problems, -EBUSY, EXIT_STATUS_BUSY,
			"%s: its memory is still being loaded, %llu MiB are left; wait for that",
			name, (unsigned long long)(move_guest_lacks(guest) >> 20));
	else if (guest->owner)
		problem(problems, -EBUSY, EXIT_STATUS_BUSY,
			"%s: is being moved already; let that end, or cancel it", name);
}

static void check_process(struct move_guest *guest, struct problems *problems)
{
	if (guest->events.check)
		guest->events.check(guest->events.ctx, problems);
}

void move_guest_check(struct move_guest *guest, struct problems *problems)
{
	check_process(guest, problems);
	check_status(guest->vm, problems);
	check_devices(guest->vm, problems);
	check_free(guest, problems);
}

/* Their frames and requests are in the process, not in an open file that another can go on with. */
static void check_open_files(const struct vm *vm, struct problems *problems)
{
	const struct vm_config *config = vm->config;

	for (uint32_t i = 0; i < config->n_nets; i++) {
		if (config->nets[i].vhost)
			problem(problems, -EOPNOTSUPP, EXIT_STATUS_USAGE,
				"%s: net[%u] has vhost=on, which the kernel gives to no second "
				"process; run the VM with vhost=off to upgrade it",
				config->name, i);
		if (config->nets[i].kind == NET_USER)
			problem(problems, -EOPNOTSUPP, EXIT_STATUS_USAGE,
				"%s: net[%u] is a user network, whose connections are half in this "
				"process; run the VM with a tap to upgrade it",
				config->name, i);
		if (config->nets[i].filter)
			problem(problems, -EOPNOTSUPP, EXIT_STATUS_USAGE,
				"%s: net[%u] has a filter, which may hold frames; run the VM "
				"without it to upgrade it",
				config->name, i);
	}
	for (uint32_t i = 0; i < config->n_disks; i++)
		if (config->disks[i].filter)
			problem(problems, -EOPNOTSUPP, EXIT_STATUS_USAGE,
				"%s: disk[%u] has a filter; run the VM without it to upgrade it",
				config->name, i);
}

void move_guest_check_upgrade(struct move_guest *guest, struct problems *problems)
{
	check_process(guest, problems);
	check_status(guest->vm, problems);
	check_open_files(guest->vm, problems);
	if (guest->events.check_upgrade)
		guest->events.check_upgrade(guest->events.ctx, problems);
	check_free(guest, problems);
}

/* ---- the end of a mover's connection ---- */

void move_guest_is_whole(struct move_guest *guest)
{
	vm_wait(guest->vm, false);
	move_guest_release(guest);
}

void move_guest_forget(struct move_guest *guest, const void *owner)
{
	/* A successor has no other client than who drives it. */
	if (owner && !guest->owner && guest->stage == MOVE_ARRIVING &&
	    guest->vm->resources->inherited)
		guest->owner = owner;
	if (!owner || guest->owner != owner)
		return;
	guest->owner = NULL;
	switch (guest->stage) {
	case MOVE_LOGGING:
	case MOVE_STOPPING:
	case MOVE_STOPPED:
		move_source_end(guest);
		break;
	case MOVE_ARRIVING:
		move_arrive_forget(guest);
		break;
	case MOVE_RAN:
		if (!move_guard_settle(guest))
			move_guest_is_whole(guest);
		break;
	case MOVE_GIVEN: /* who has the token says how it ended */
		if (guest->succession)
			move_upgrade_settle(guest);
		break;
	case MOVE_IDLE:
		break;
	}
}
