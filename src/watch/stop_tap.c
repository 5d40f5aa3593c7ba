/* SPDX-License-Identifier: Apache-2.0 */

/* What breakpoints do to requests: on the threads that make them, in the monitor's taps. */

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "watch/stop_internal.h"

#define DELAY_STEP_MS 5

/* Who stands on a request: a vCPU in the middle of an access, or a queue's thread that has just taken a request. */
struct stander {
	struct stop *stop;
	struct vcpu *vcpu;
	struct worker *worker;
};

static bool is_ending(const struct stop *stop)
{
	return __atomic_load_n(&stop->monitor->vm->ending, __ATOMIC_ACQUIRE);
}

static void stand_while(const struct stander *who, bool (*held)(void *ctx))
{
	__atomic_fetch_add(&who->stop->inside, 1, __ATOMIC_ACQ_REL);
	if (who->vcpu)
		vcpu_hold(who->vcpu, held, who->stop);
	else
		worker_hold(who->worker, held, who->stop);
	__atomic_fetch_sub(&who->stop->inside, 1, __ATOMIC_ACQ_REL);
}

/* ---- telling ---- */

/* Where there is no room, the owner is told how many it missed; its last one takes the place of another. */
static void tell(struct stop *stop, struct stop_entry *entry, struct stop_hit *hit)
{
	bool has_room;

	pthread_mutex_lock(&stop->lock);
	if (stop->n_told == STOP_HITS && entry->wanted.count &&
	    hit->number == entry->wanted.count) {
		stop->n_told--;
		entry->missed++;
	}
	has_room = stop->n_told < STOP_HITS;
	if (has_room) {
		hit->missed = __atomic_exchange_n(&entry->missed, 0, __ATOMIC_RELAXED);
		stop->told[(stop->first_told + stop->n_told++) % STOP_HITS] =
			(struct stop_told){ entry->owner, *hit };
	}
	pthread_mutex_unlock(&stop->lock);
	if (!has_room)
		__atomic_fetch_add(&entry->missed, 1, __ATOMIC_RELAXED);
	fd_signal_event(stop->event.fd);
}

/* ---- standing ---- */

static bool is_taken(void *ctx)
{
	struct stop *stop = ctx;
	bool taken;

	pthread_mutex_lock(&stop->lock);
	taken = stop->taken && !is_ending(stop);
	if (!taken)
		stop->taken = true;
	pthread_mutex_unlock(&stop->lock);
	return taken;
}

static bool is_held(void *ctx)
{
	struct stop *stop = ctx;

	return __atomic_load_n(&stop->held, __ATOMIC_ACQUIRE) && !is_ending(stop);
}

/* Another one may stand now. */
static void leave(struct stop *stop)
{
	struct vm *vm = stop->monitor->vm;

	pthread_mutex_lock(&stop->lock);
	stop->taken = false;
	pthread_mutex_unlock(&stop->lock);
	for (uint32_t i = 0; i < vm->n_vcpus; i++)
		vcpu_kick(vm->vcpus[i]);
}

/* Stands on the request until the owner, or its end, lets it go on. One at a time. */
static struct stop_answer stand(const struct stander *who, struct stop_entry *entry,
				struct stop_hit *hit)
{
	struct stop *stop = who->stop;
	struct stop_answer answer = { 0 };

	if (is_taken(stop))
		stand_while(who, is_taken);
	stop->owner = entry->owner;
	stop->vcpu = who->vcpu;
	stop->answer = answer;
	__atomic_store_n(&stop->held, true, __ATOMIC_RELEASE);
	tell(stop, entry, hit);
	stand_while(who, is_held);
	answer = stop->answer;
	__atomic_store_n(&stop->held, false, __ATOMIC_RELEASE);
	leave(stop);
	return answer;
}

static bool not_at_all(void *ctx _unused_)
{
	return false;
}

/* In steps: the barrier does not wait for it. */
static void delay(const struct stander *who, uint64_t ms)
{
	for (uint64_t slept = 0; slept < ms && !is_ending(who->stop); slept += DELAY_STEP_MS) {
		const uint64_t step = MIN(ms - slept, (uint64_t)DELAY_STEP_MS);
		const struct timespec nap = { .tv_nsec = (long)(step * NSEC_PER_MSEC) };

		nanosleep(&nap, NULL);
		if (quiesce_requested(&who->stop->monitor->vm->quiesce))
			stand_while(who, not_at_all);
	}
}

/* ---- matching ---- */

static const char *name_of(void *ctx, uint16_t device)
{
	return store_device_name(ctx, device);
}

static bool matches(const struct stop *stop, const struct stop_entry *entry,
		    const struct watch_record *record)
{
	const struct filter_names names = {
		.device = name_of,
		.ctx = stop->monitor->store,
	};

	if (__atomic_load_n(&entry->dead, __ATOMIC_ACQUIRE))
		return false;
	if (entry->wanted.action == STOP_STOP &&
	    __atomic_load_n(&stop->stepping, __ATOMIC_RELAXED) == entry->owner)
		return true;
	return filter_match(entry->filter, record, &names);
}

/* Counts a hit; 0 when the breakpoint has had all of its own. */
static uint64_t count_hit(struct stop_entry *entry)
{
	uint64_t hits = __atomic_add_fetch(&entry->hits, 1, __ATOMIC_RELAXED);

	return entry->wanted.count && hits > entry->wanted.count ? 0 : hits;
}

/* ---- accesses to registers ---- */

static void take_code_around(struct monitor_vcpu *mv, struct stop_hit *hit)
{
	const uint64_t rip = record_linear_rip(&hit->record.access);

	hit->code_at = rip - STOP_CODE / 2;
	hit->n_code = (uint32_t)monitor_read_code(mv, hit->code_at, hit->code, STOP_CODE);
	if (hit->n_code)
		return;
	hit->code_at = rip;
	hit->n_code = (uint32_t)monitor_read_code(mv, rip, hit->code, STOP_CODE / 2);
}

static void alter(struct monitor_vcpu *mv, struct bus_access *access, uint64_t data)
{
	access->data = data & bus_all_ones(access->size);
	mv->flags[access->nested] |= RECORD_ALTERED;
}

static enum tap_verdict drop(struct monitor_vcpu *mv, struct bus_access *access)
{
	if (!access->write)
		access->data = bus_all_ones(access->size);
	mv->flags[access->nested] |= RECORD_DROPPED;
	return TAP_DONE;
}

static enum tap_verdict obey(struct monitor_vcpu *mv, struct bus_access *access,
			     const struct stop_answer *answer)
{
	if (answer->set)
		alter(mv, access, answer->data);
	return answer->drop && access->write ? drop(mv, access) : TAP_PASS;
}

/* One breakpoint that matched does its work. */
static enum tap_verdict act(struct stop *stop, struct stop_entry *entry, struct monitor_vcpu *mv,
			    struct bus_access *access, struct stop_hit *hit)
{
	const struct stander who = { .stop = stop, .vcpu = mv->vcpu };
	struct stop_answer answer;

	take_code_around(mv, hit);
	if (entry->wanted.action != STOP_STOP)
		tell(stop, entry, hit);
	switch (entry->wanted.action) {
	case STOP_SET:
		alter(mv, access, entry->wanted.data);
		return TAP_PASS;
	case STOP_DROP:
	case STOP_FAIL:
		return drop(mv, access);
	case STOP_DELAY:
		delay(&who, entry->wanted.delay_ms);
		return TAP_PASS;
	case STOP_DUMP:
		return TAP_PASS;
	case STOP_STOP:
	case STOP_ACTIONS:
		break;
	}
	answer = stand(&who, entry, hit);
	return obey(mv, access, &answer);
}

/* Whether an action is taken before the device sees the access; those that need an answer wait for it. */
static bool is_early(const struct bus_access *access, enum stop_action action)
{
	return access->write || action == STOP_DROP || action == STOP_FAIL || action == STOP_DELAY;
}

static enum tap_verdict look(struct stop *stop, struct monitor_vcpu *mv, struct bus_access *access,
			     bool early)
{
	enum tap_verdict verdict = TAP_PASS;
	struct list *item, *next;
	struct stop_hit hit;

	monitor_fill(mv, access, __rdtsc(), &hit.record);
	hit.record.sequence = 0;
	list_for_each(item, next, &stop->entries) {
		struct stop_entry *entry = container_of(item, struct stop_entry, link);

		if (is_early(access, entry->wanted.action) != early ||
		    !matches(stop, entry, &hit.record))
			continue;
		hit.number = count_hit(entry);
		hit.action = entry->wanted.action;
		if (hit.number && act(stop, entry, mv, access, &hit) == TAP_DONE)
			verdict = TAP_DONE;
	}
	return verdict;
}

enum tap_verdict stop_before(struct stop *stop, struct monitor_vcpu *mv, struct bus_access *access)
{
	enum tap_verdict verdict = look(stop, mv, access, true);

	mv->begin[access->nested] =
		__rdtsc(); /* the time that somebody looked is not the device's */
	return verdict;
}

void stop_after(struct stop *stop, struct monitor_vcpu *mv, struct bus_access *access)
{
	(void)look(stop, mv, access, false);
}

/* ---- requests of queues ---- */

static int act_on_request(const struct stander *who, struct stop_entry *entry, struct stop_hit *hit)
{
	struct stop_answer answer;

	if (entry->wanted.action != STOP_STOP)
		tell(who->stop, entry, hit);
	switch (entry->wanted.action) {
	case STOP_DROP:
	case STOP_FAIL:
		return -EIO;
	case STOP_DELAY:
		delay(who, entry->wanted.delay_ms);
		return 0;
	case STOP_DUMP:
	case STOP_SET: /* a request of a queue has no value to change */
		return 0;
	case STOP_STOP:
	case STOP_ACTIONS:
		break;
	}
	answer = stand(who, entry, hit);
	return answer.drop ? -EIO : 0;
}

int stop_request(struct stop *stop, const struct monitor_device *md,
		 const struct device_request *request)
{
	const struct stander who = { .stop = stop, .worker = request->worker };
	struct stop_hit hit = { 0 };
	struct list *item, *next;
	int verdict = 0;

	monitor_fill_request(md, request, &hit.record);
	list_for_each(item, next, &stop->entries) {
		struct stop_entry *entry = container_of(item, struct stop_entry, link);
		int r = 0;

		if (!matches(stop, entry, &hit.record))
			continue;
		hit.number = count_hit(entry);
		hit.action = entry->wanted.action;
		if (hit.number)
			r = act_on_request(&who, entry, &hit);
		verdict = verdict ? verdict : r;
	}
	return verdict;
}
