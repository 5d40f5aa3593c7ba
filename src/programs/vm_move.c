/* SPDX-License-Identifier: Apache-2.0 */

/* How the VM's process takes part in a move: what a mover asks goes to move/guest/guest.h, what that tells comes here. */

#include "programs/vm_process.h"

#include <errno.h>
#include <unistd.h>

static void stopped(void *ctx, const void *owner, uint64_t stopped_ns, const struct error *error)
{
	struct vm_process *process = ctx;

	api_server_move_stopped(process->server, owner, stopped_ns, error);
}

static void given(void *ctx, const void *owner, const struct move_gift *gift,
		  const struct error *error)
{
	struct vm_process *process = ctx;

	api_server_given(process->server, owner, gift, error);
}

/* From here on it is a VM like any other, and its time begins. */
static void arrived(void *ctx)
{
	struct vm_process *process = ctx;

	process->started_ns = process->inherited_start_ns ? process->inherited_start_ns
							  : clock_now(loop_clock(process->loop));
	if (process->vm->status == VM_PAUSED) {
		log_line(&process->log, LOG_LEVEL_INFO, "arrived; it is paused, as it was");
		return; /* as it has been since it is here */
	}
	log_line(&process->log, LOG_LEVEL_INFO, "arrived; it runs here now");
	api_server_event(process->server, API_EVENT_RUNNING, NULL);
}

/* Neither is a failure of this process: it has nothing left to run. */
static void over(void *ctx, enum move_exit how, const char *why)
{
	struct vm_process *process = ctx;

	/* What its threads would still do for a guest that runs elsewhere - send a packet, fill a buffer - is none of theirs: its mover
	 * may be sending that RAM. */
	if (how == MOVE_EXIT_LEFT) {
		console_flush(process->vm->serial_console);
		console_flush(process->vm->virtio_console);
	}
	if (how != MOVE_EXIT_ABANDONED)
		vm_process_leave_at_once(process, why);
	log_line(&process->log, LOG_LEVEL_INFO, "%s", why);
	vm_end(process->vm, VM_END_FORCED, why);
}

/* On a thread of its own: the others may stand in pages that never come, and nothing waits for them. What the disks were given is the
 * kernel's by now, as when a process is killed. */
static void lost(void *ctx, bool ran, const char *why)
{
	struct vm_process *process = ctx;

	log_line(&process->log, ran ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "%s", why);
	_exit(ran ? EXIT_STATUS_FAILED : EXIT_STATUS_OK);
}

int vm_process_make_move(struct vm_process *process)
{
	const struct move_guest_events events = {
		.stopped = stopped,
		.arrived = arrived,
		.given = given,
		.check = vm_process_check_protect,
		.check_upgrade = vm_process_check_upgrade,
		.hand_over = vm_process_hand_over,
		.doors = vm_process_doors,
		.taken = vm_process_taken,
		.over = over,
		.lost = lost,
		.ctx = process,
	};

	return move_guest_new(process->vm, process->launch.incoming, &events, &process->move);
}

struct move_guest *vm_process_move_guest(void *ctx)
{
	return ((struct vm_process *)ctx)->move;
}

int vm_process_may_end(void *ctx, struct error *err)
{
	const struct vm_process *process = ctx;
	const struct mark_given *given = move_guest_mark(process->move);
	const char *name = process->launch.config.name;

	if (!given)
		return 0;
	return error_set(
		err, -EBUSY, EXIT_STATUS_BUSY,
		"%s: was given to %s and may run there; it stands here, as the only other copy, "
		"until that is known: utsusu resolve %s",
		name, given->peer, name);
}
