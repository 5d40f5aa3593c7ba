/* SPDX-License-Identifier: Apache-2.0 */

/* Who sets breakpoints, and what is decided on a hit: the control thread's side. */

#include "watch/stop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "watch/stop_internal.h"

#define SWEEP_NS (100 * NSEC_PER_MSEC)

/* ---- going on ---- */

static bool stands(const struct stop *stop)
{
	return __atomic_load_n(&stop->held, __ATOMIC_ACQUIRE);
}

static void go_on(struct stop *stop, const struct stop_answer *answer)
{
	struct vcpu *vcpu = stop->vcpu;

	loop_timer_cancel(&stop->grace);
	stop->answer = *answer;
	__atomic_store_n(&stop->stepping, answer->step ? stop->owner : NULL, __ATOMIC_RELAXED);
	__atomic_store_n(&stop->held, false, __ATOMIC_RELEASE);
	if (vcpu)
		vcpu_kick(vcpu);
	(void)!vm_let_go(stop->monitor->vm, VM_HELD_BY_WATCH);
}

static void grace_expired(struct loop_timer *timer)
{
	struct stop *stop = container_of(timer, struct stop, grace);
	const struct stop_answer plain = { 0 };

	if (!stands(stop))
		return;
	log_line(
		stop->monitor->vm->log, LOG_LEVEL_WARNING,
		"watch: stopped on a request, and who asked for that is gone: the VM goes on after %llu s",
		STOP_GRACE_NS / NSEC_PER_SEC);
	go_on(stop, &plain);
}

int stop_continue(struct stop *stop, const void *owner, const struct stop_answer *answer,
		  struct error *err)
{
	if (!stands(stop) || stop->owner != owner)
		return error_set(err, -ENOENT, EXIT_STATUS_FAILED,
				 "the VM does not stand on a request of this breakpoint");
	go_on(stop, answer);
	return 0;
}

/* ---- hits ---- */

static bool take_told(struct stop *stop, struct stop_told *ret_told)
{
	bool any;

	pthread_mutex_lock(&stop->lock);
	any = stop->n_told > 0;
	if (any) {
		*ret_told = stop->told[stop->first_told];
		stop->first_told = (stop->first_told + 1) % STOP_HITS;
		stop->n_told--;
	}
	pthread_mutex_unlock(&stop->lock);
	return any;
}

static struct stop_entry *find_entry(const struct stop *stop, const void *owner)
{
	struct list *item, *next;

	list_for_each(item, next, &stop->entries) {
		struct stop_entry *entry = container_of(item, struct stop_entry, link);

		if (entry->owner == owner && !entry->dead)
			return entry;
	}
	return NULL;
}

/* The VM stands still, or - in the middle of a reset, at its end - cannot, and goes on. */
static void stand_still(struct stop *stop)
{
	const struct stop_answer plain = { 0 };

	if (!stands(stop))
		return;
	if (!find_entry(stop, stop->owner) ||
	    vm_hold(stop->monitor->vm, VM_HELD_BY_WATCH) == -EBUSY)
		go_on(stop, &plain);
}

static void hits_ready(struct loop_watch *watch, uint32_t events _unused_)
{
	struct stop *stop = container_of(watch, struct stop, event);
	struct stop_told told;

	fd_clear_event(watch->fd);
	stand_still(stop);
	while (take_told(stop, &told))
		if (find_entry(stop, told.owner))
			stop->events.hit(stop->events.ctx, told.owner, &told.hit);
}

/* ---- breakpoints ---- */

static int judge(const struct stop_break *wanted, const struct filter *filter, struct error *err)
{
	const char *late = filter_late_word(filter);

	if (late)
		return error_set(
			err, -EINVAL, EXIT_STATUS_USAGE,
			"break: '%s' is known only after the request; a breakpoint cannot ask for it",
			late);
	if (wanted->delay_ms > STOP_DELAY_MAX_MS)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE, "delay: at most %u ms",
				 STOP_DELAY_MAX_MS);
	return 0;
}

static void entry_free(struct stop_entry *entry)
{
	filter_free(entry->filter);
	free(entry);
}

static int entry_new(const void *owner, const struct stop_break *wanted,
		     struct stop_entry **ret_entry, struct error *err)
{
	struct stop_entry *entry = calloc(1, sizeof(*entry));
	int r;

	if (!entry)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "break: out of memory");
	entry->owner = owner;
	entry->wanted = *wanted;
	list_init(&entry->link);
	r = filter_compile(wanted->filter, &entry->filter, NULL, err);
	if (r == 0)
		r = judge(wanted, entry->filter, err);
	if (r < 0) {
		entry_free(entry);
		return r;
	}
	*ret_entry = entry;
	return 0;
}

static void remove_dead(struct stop *stop)
{
	struct list *item, *next;

	list_for_each(item, next, &stop->entries) {
		struct stop_entry *entry = container_of(item, struct stop_entry, link);

		if (!entry->dead)
			continue;
		list_remove(&entry->link);
		entry_free(entry);
		stop->n_entries--;
	}
}

/* Threads look at the list only outside the barrier, or while they stand on a request: then nothing is taken away. */
static void change(struct stop *stop, struct stop_entry *in)
{
	struct vm *vm = stop->monitor->vm;
	bool someone;

	quiesce_begin(&vm->quiesce);
	someone = __atomic_load_n(&stop->inside, __ATOMIC_ACQUIRE) != 0;
	if (!someone)
		remove_dead(stop);
	if (in) {
		list_append(&stop->entries, &in->link);
		stop->n_entries++;
	}
	monitor_set_stop(stop->monitor, stop->n_entries ? stop : NULL);
	quiesce_end(&vm->quiesce);
	if (someone)
		loop_timer_arm(vm->loop, &stop->sweep, clock_now(loop_clock(vm->loop)) + SWEEP_NS);
}

static void sweep_expired(struct loop_timer *timer)
{
	change(container_of(timer, struct stop, sweep), NULL);
}

int stop_set(struct stop *stop, const void *owner, const struct stop_break *wanted,
	     struct error *err)
{
	struct stop_entry *entry = NULL, *old = find_entry(stop, owner);
	int r;

	if (stands(stop) && stop->owner == owner)
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
				 "break: the VM stands on a request; let it go on first");
	if (!old && stop->n_entries >= STOP_BREAKS_MAX)
		return error_set(err, -ENOSPC, EXIT_STATUS_BUSY,
				 "break: there are %u breakpoints already; end one of them",
				 STOP_BREAKS_MAX);
	r = entry_new(owner, wanted, &entry, err);
	if (r < 0)
		return r;
	if (old)
		__atomic_store_n(&old->dead, true, __ATOMIC_RELEASE);
	change(stop, entry);
	return 0;
}

void stop_forget(struct stop *stop, const void *owner)
{
	struct stop_entry *entry = find_entry(stop, owner);
	struct loop *loop = stop->monitor->vm->loop;

	if (!entry)
		return;
	__atomic_store_n(&entry->dead, true, __ATOMIC_RELEASE);
	if (stands(stop) && stop->owner == owner)
		loop_timer_arm(loop, &stop->grace, clock_now(loop_clock(loop)) + STOP_GRACE_NS);
	change(stop, NULL);
}

int stop_new(struct monitor *monitor, const struct stop_events *events, struct stop **ret_stop)
{
	struct stop *stop = calloc(1, sizeof(*stop));
	int r;

	if (!stop)
		return -ENOMEM;
	stop->monitor = monitor;
	stop->events = *events;
	list_init(&stop->entries);
	loop_timer_init(&stop->grace, grace_expired);
	loop_timer_init(&stop->sweep, sweep_expired);
	pthread_mutex_init(&stop->lock, NULL);
	stop->event = (struct loop_watch){
		.fd = fd_new_event(),
		.events = EPOLLIN,
		.ready = hits_ready,
	};
	r = stop->event.fd < 0 ? stop->event.fd : loop_add(monitor->vm->loop, &stop->event);
	if (r < 0) {
		stop_free(stop);
		return r;
	}
	*ret_stop = stop;
	return 0;
}

void stop_free(struct stop *stop)
{
	struct list *item, *next;

	if (!stop)
		return;
	loop_timer_cancel(&stop->grace);
	loop_timer_cancel(&stop->sweep);
	loop_remove(stop->monitor->vm->loop, &stop->event);
	fd_close(stop->event.fd);
	list_for_each(item, next, &stop->entries)
		entry_free(container_of(item, struct stop_entry, link));
	pthread_mutex_destroy(&stop->lock);
	free(stop);
}
