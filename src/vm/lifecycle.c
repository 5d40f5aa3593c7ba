/* SPDX-License-Identifier: Apache-2.0 */

/* Start, pause, resume, reset, end: one status, changed on the control thread only. */

#include "vm/lifecycle.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "vm/board.h"
#include "vm/cpus.h"
#include "vm/interrupts.h"

#define RESET_POLL_NS NSEC_PER_MSEC
#define LEAVES (VM_HELD_BY_MOVE | VM_HELD_BY_PROTECT) /* its user has nothing to say meanwhile */

static void posted_ready(struct loop_watch *watch, uint32_t events);
static void reset_poll(struct loop_timer *timer);

int lifecycle_init(struct vm *vm)
{
	loop_timer_init(&vm->reset_poll, reset_poll);
	vm->event = (struct loop_watch){
		.fd = fd_new_event(),
		.events = EPOLLIN,
		.ready = posted_ready,
	};
	return vm->event.fd < 0 ? vm->event.fd : loop_add(vm->loop, &vm->event);
}

void lifecycle_release(struct vm *vm)
{
	loop_timer_cancel(&vm->reset_poll);
	loop_remove(vm->loop, &vm->event);
	fd_close(vm->event.fd);
}

static void changed(struct vm *vm, const char *what)
{
	if (vm->events.changed)
		vm->events.changed(vm->events.ctx, what);
}

int vm_start(struct vm *vm, const struct vm_thread_entry *entry, struct error *err)
{
	int r = board_start(vm, &entry->worker, err);

	cpus_park(vm, PARKED_BY_VM, true);
	if (r == 0)
		r = cpus_start(vm, &entry->vcpu, err);
	if (r < 0)
		lifecycle_stop_threads(vm);
	return r;
}

void vm_run(struct vm *vm)
{
	vm->status = VM_RUNNING;
	if (vm->holders) {
		cpus_quiesce(vm);
		vm->status = VM_PAUSED;
	}
	cpus_park(vm, PARKED_BY_VM, false);
	changed(vm, vm->holders ? "paused" : "running");
}

/* A paused VM stands again with all its threads. */
static void stand(struct vm *vm)
{
	if (!vm->finishing)
		return;
	cpus_quiesce(vm);
	cpus_park(vm, PARKED_BY_PAUSE, false);
	vm->finishing = false;
}

void vm_finish_requests(struct vm *vm, bool finish)
{
	if (!finish) {
		stand(vm);
	} else if (vm->status == VM_PAUSED && !vm->finishing) {
		cpus_park(vm, PARKED_BY_PAUSE, true);
		quiesce_end(&vm->quiesce);
		vm->finishing = true;
	}
}

void lifecycle_stop_threads(struct vm *vm)
{
	__atomic_store_n(&vm->ending, true, __ATOMIC_RELEASE);
	if (vm->status == VM_PAUSED) {
		stand(vm);
		/* A paused guest does not get to run once more on its way out: it may live elsewhere by now. */
		cpus_park(vm, PARKED_BY_VM, true);
		vm->status = VM_RUNNING;
		vm->holders = 0;
		quiesce_end(&vm->quiesce);
	}
	cpus_stop(vm);
	board_stop(vm);
}

int vm_hold(struct vm *vm, enum vm_holder holder)
{
	if (vm->holders & holder)
		return -EALREADY;
	if (vm->status == VM_RESETTING)
		return -EBUSY;
	if (vm->status == VM_ENDED)
		return -ESHUTDOWN;
	stand(vm); /* whoever holds it counts on that */
	vm->holders |= holder;
	if (vm->status != VM_RUNNING) /* paused by another, or not yet run */
		return 0;
	cpus_quiesce(vm);
	vm->status = VM_PAUSED;
	changed(vm, "paused");
	return 0;
}

static void go_on(struct vm *vm)
{
	stand(vm);
	cpus_clock_stopped(vm);
	vm->status = VM_RUNNING;
	quiesce_end(&vm->quiesce);
	fd_signal_event(vm->event.fd); /* a reset may have been asked for just before the pause */
	changed(vm, "resumed");
}

int vm_let_go(struct vm *vm, enum vm_holder holder)
{
	if (!(vm->holders & holder))
		return -EALREADY;
	vm->holders &= ~(uint32_t)holder;
	if (!vm->holders && vm->status == VM_PAUSED)
		go_on(vm);
	return 0;
}

void vm_wait(struct vm *vm, bool wait)
{
	if (vm->waits == wait || vm->status == VM_ENDED)
		return;
	vm->waits = wait;
	cpus_wait(vm, wait);
	if (vm->status == VM_RUNNING)
		changed(vm, wait ? "paused" : "resumed");
}

int vm_pause(struct vm *vm)
{
	if (vm->status == VM_CREATED)
		return -ESHUTDOWN;
	return vm->holders & LEAVES ? -EBUSY : vm_hold(vm, VM_HELD_BY_USER);
}

int vm_resume(struct vm *vm)
{
	int r;

	if (vm->status == VM_CREATED || vm->status == VM_ENDED)
		return -ESHUTDOWN;
	if (vm->holders & LEAVES)
		return -EBUSY;
	r = vm_let_go(vm, VM_HELD_BY_USER);
	return vm->holders ? -EBUSY : r;
}

void vm_set_debugger(struct vm *vm, const struct vm_debugger *debugger)
{
	vm->debugger = *debugger;
}

bool vm_press_power_button(struct vm *vm)
{
	return vm->status == VM_RUNNING && power_press_button(vm->power);
}

/* A reset: vCPUs are parked, devices begin theirs, and when no I/O of the old life is in flight any more
 * the vCPUs go back to power-on and run. Queue threads keep working, so they can finish. */
int vm_reset(struct vm *vm)
{
	if (vm->status == VM_RESETTING)
		return -EALREADY;
	if (vm->status != VM_RUNNING)
		return -ESHUTDOWN;
	vm->status = VM_RESETTING;
	cpus_park(vm, PARKED_BY_VM, true);
	quiesce_begin(&vm->quiesce); /* waits until the vCPUs have left the guest */
	quiesce_end(&vm->quiesce);
	board_reset(vm);
	reset_poll(&vm->reset_poll);
	return 0;
}

static void reset_poll(struct loop_timer *timer)
{
	struct vm *vm = container_of(timer, struct vm, reset_poll);
	struct error err = { 0 };
	int r;

	if (board_busy(vm)) {
		loop_timer_arm(vm->loop, timer, clock_now(loop_clock(vm->loop)) + RESET_POLL_NS);
		return;
	}
	quiesce_begin(&vm->quiesce);
	r = cpus_power_on(vm, &err);
	quiesce_end(&vm->quiesce);
	if (r < 0) {
		vm_end(vm, VM_END_FAILED, err.message);
		return;
	}
	/* A reset asked for twice is one reset. */
	__atomic_fetch_and(&vm->posted, ~(uint32_t)VM_POSTED_RESET, __ATOMIC_SEQ_CST);
	vm->status = VM_RUNNING;
	cpus_park(vm, PARKED_BY_VM, false);
	changed(vm, "reset");
}

void vm_end(struct vm *vm, enum vm_end how, const char *why)
{
	if (vm->status == VM_ENDED)
		return;
	loop_timer_cancel(&vm->reset_poll);
	if (vm->events.ending)
		vm->events.ending(vm->events.ctx, how, why);
	lifecycle_stop_threads(vm);
	vm->status = VM_ENDED;
	console_flush(vm->serial_console);
	console_flush(vm->virtio_console);
	vm->events.ended(vm->events.ctx, how, why);
}

static void end_failed(struct vm *vm)
{
	char why[ERROR_MESSAGE_MAX];
	int code = __atomic_load_n(&vm->failure_code, __ATOMIC_RELAXED);

	snprintf(why, sizeof(why), "vCPU %u: %s (%s)", vm->failed_vcpu,
		 __atomic_load_n(&vm->failure, __ATOMIC_ACQUIRE), strerror(-code));
	vm_end(vm, VM_END_FAILED, why);
}

static void power_off(struct vm *vm)
{
	if (!vm->events.powered_off || !vm->events.powered_off(vm->events.ctx))
		vm_end(vm, VM_END_POWER_OFF, "the guest switched itself off");
}

static void posted_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	struct vm *vm = container_of(watch, struct vm, event);
	uint32_t posted;

	fd_clear_event(watch->fd);
	posted = __atomic_exchange_n(&vm->posted, 0, __ATOMIC_SEQ_CST);
	if (posted & VM_POSTED_DEBUG)
		vm->debugger.stopped(vm->debugger.ctx);
	if (posted & VM_POSTED_TRIPLE_FAULT) {
		/* Some kernels reboot so; where it was not meant, this is all that tells of it. */
		log_line_limited(vm->log, &vm->fault_logged_ns, LOG_LEVEL_INFO,
				 "triple fault in the guest: reset");
		posted |= VM_POSTED_RESET;
	}
	if (posted & VM_POSTED_FAILED)
		end_failed(vm);
	else if (posted & VM_POSTED_POWER_OFF)
		power_off(vm);
	else if ((posted & VM_POSTED_RESET) && vm->status == VM_PAUSED)
		__atomic_fetch_or(&vm->posted, VM_POSTED_RESET,
				  __ATOMIC_SEQ_CST); /* until resumed */
	else if (posted & VM_POSTED_RESET)
		(void)!vm_reset(vm); /* -EALREADY: one is under way */
}

const char *vm_status_name(enum vm_status status)
{
	static const char *const names[] = {
		[VM_CREATED] = "starting",    [VM_RUNNING] = "running", [VM_PAUSED] = "paused",
		[VM_RESETTING] = "resetting", [VM_ENDED] = "ended",
	};

	return names[status];
}
