/* SPDX-License-Identifier: Apache-2.0 */

/* Who watches, and what is on for them. The control thread's side of the Request Monitor. */

#include "watch/monitor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "watch/monitor_internal.h"
#include "watch/vcpu_time.h"

#define SYNCED (KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS)
#define SPARE_RINGS 8 /* console, entropy, what comes */
#define FOLLOWERS_EACH_NS NSEC_PER_MSEC
#define FOLLOWER_PATIENCE_NS (5 * NSEC_PER_SEC)

uint32_t monitor_rings(const struct vm_config *config)
{
	uint32_t n = config->cpus.count + SPARE_RINGS;

	for (uint32_t i = 0; i < config->n_disks; i++)
		n += config->disks[i].queues;
	for (uint32_t i = 0; i < config->n_nets; i++)
		n += 2 * config->nets[i].queues + 1;
	return MIN(n, (uint32_t)STORE_RINGS_MAX);
}

/* ---- followers: lossless ---- */

static void expel(struct monitor *monitor, uint32_t index, uint64_t owner)
{
	ring_expel(monitor->rings[index], owner);
	log_line(monitor->vm->log, LOG_LEVEL_WARNING,
		 "watch: a lossless watcher read nothing for %llu s: the VM waits for it no longer",
		 FOLLOWER_PATIENCE_NS / NSEC_PER_SEC);
}

/* True while somebody stands in the ring's way. One that does for too long is expelled. */
static bool is_full(struct monitor *monitor, uint32_t index, uint64_t now)
{
	struct ring *ring = __atomic_load_n(&monitor->rings[index], __ATOMIC_ACQUIRE);
	uint64_t owner;

	if (!ring || ring_has_room(ring, MONITOR_SPARE_RECORDS, &owner)) {
		monitor->slow[index].owner = 0;
		return false;
	}
	if (monitor->slow[index].owner != owner) {
		monitor->slow[index].owner = owner;
		monitor->slow[index].since = now;
	}
	if (now - monitor->slow[index].since < FOLLOWER_PATIENCE_NS)
		return true;
	expel(monitor, index, owner);
	return true;
}

static void let_go(struct monitor_vcpu *mv)
{
	if (__atomic_exchange_n(&mv->waits, false, __ATOMIC_ACQ_REL))
		vcpu_park(mv->vcpu, PARKED_BY_WATCH, false);
}

static void look_at_followers(struct loop_timer *timer)
{
	struct monitor *monitor = container_of(timer, struct monitor, followers);
	struct loop *loop = monitor->vm->loop;
	const uint64_t now = clock_now(loop_clock(loop));

	for (uint32_t i = 0; i < monitor->n_rings; i++)
		if (!is_full(monitor, i, now) && i < monitor->n_vcpus)
			let_go(&monitor->vcpus[i]);
	if (monitor->now.lossless)
		loop_timer_arm(loop, timer, now + FOLLOWERS_EACH_NS);
}

/* Nobody follows any more: slots of readers that were killed are free again. */
static void expel_all(struct monitor *monitor)
{
	for (uint32_t i = 0; i < monitor->n_rings; i++)
		for (unsigned int j = 0; monitor->rings[i] && j < STORE_FOLLOWERS; j++)
			ring_expel(monitor->rings[i],
				   monitor->rings[i]->header->followers[j].owner);
	for (uint32_t i = 0; i < monitor->n_vcpus; i++)
		let_go(&monitor->vcpus[i]);
}

/* ---- processor time ---- */

static void write_times(struct loop_timer *timer)
{
	struct monitor *monitor = container_of(timer, struct monitor, times);
	struct loop *loop = monitor->vm->loop;
	clockid_t clocks[LIMIT_VCPUS];
	uint32_t n = 0;

	/* All or none: a clock's place is its vCPU. */
	while (n < monitor->n_vcpus && vcpu_clock(monitor->vcpus[n].vcpu, &clocks[n]) == 0)
		n++;
	if (n == monitor->n_vcpus)
		vcpu_time_write(monitor->times_ring, clocks, n);
	if (monitor->now.mode != STORE_OFF)
		loop_timer_arm(loop, timer,
			       clock_now(loop_clock(loop)) + VCPU_TIME_MS * NSEC_PER_MSEC);
}

/* ---- modes ---- */

static struct watch_wish wished(const struct monitor *monitor)
{
	struct watch_wish most = { .mode = STORE_OFF };
	struct list *item, *next;

	list_for_each(item, next, &monitor->watchers) {
		const struct watch_wish *wish = &container_of(item, struct watcher, link)->wish;

		most.mode = MAX(most.mode, wish->mode);
		most.lossless |= wish->lossless;
		most.exact |= wish->exact;
	}
	return most;
}

static void tap_devices(struct monitor *monitor, enum store_mode mode)
{
	for (uint32_t i = 0; i < monitor->n_devices; i++) {
		struct device *device = monitor->devices[i].device;

		device->requests = mode == STORE_OFF ? NULL : &monitor->devices[i].tap;
		device->see_all = mode == STORE_ALL;
	}
}

/* Inside the barrier. */
static void switch_taps(struct monitor *monitor, bool on)
{
	if (on)
		bus_add_tap(monitor->vm->bus, &monitor->tap);
	else
		bus_remove_tap(monitor->vm->bus, &monitor->tap);
	for (uint32_t i = 0; i < monitor->n_vcpus; i++)
		monitor_sync_registers(&monitor->vcpus[i], on);
}

static void tell_readers(const struct monitor *monitor)
{
	struct store_header *header = store_header(monitor->store);

	header->flags = (monitor->now.lossless ? STORE_LOSSLESS : 0U) |
			(monitor->now.exact ? STORE_EXACT : 0U);
	__atomic_store_n(&header->mode, monitor->now.mode, __ATOMIC_RELEASE);
}

static void set_clock_once(struct monitor *monitor)
{
	if (monitor->has_clock)
		return;
	store_set_clock(monitor->store, 0);
	monitor->stale_ticks = store_header(monitor->store)->tsc_hz;
	monitor->has_clock = true;
}

static void set_rare(struct monitor *monitor)
{
	monitor->rare = monitor->stop || monitor->now.lossless || monitor->now.exact;
}

void monitor_set_stop(struct monitor *monitor, struct stop *stop)
{
	monitor->stop = stop;
	set_rare(monitor);
}

/* Brings about what the watchers of now wish, together. */
static void apply(struct monitor *monitor)
{
	const struct watch_wish wish = wished(monitor);
	const bool was_on = monitor->now.mode != STORE_OFF, on = wish.mode != STORE_OFF;
	const bool was_lossless = monitor->now.lossless;

	if (memcmp(&wish, &monitor->now, sizeof(wish)) == 0)
		return;
	if (on)
		set_clock_once(monitor);
	quiesce_begin(&monitor->vm->quiesce);
	if (on != was_on)
		switch_taps(monitor, on);
	tap_devices(monitor, wish.mode);
	if (!wish.exact && monitor->n_steps)
		monitor_set_exact(monitor, NULL, 0);
	doorbells_enable(monitor->vm->doorbells, wish.mode != STORE_ALL);
	monitor->now = wish;
	set_rare(monitor);
	tell_readers(monitor);
	quiesce_end(&monitor->vm->quiesce);
	if (on && !was_on)
		write_times(&monitor->times);
	if (was_lossless && !wish.lossless)
		expel_all(monitor);
	if (wish.lossless)
		look_at_followers(&monitor->followers);
}

static struct watcher *find_watcher(const struct monitor *monitor, const void *owner)
{
	struct list *item, *next;

	list_for_each(item, next, &monitor->watchers) {
		struct watcher *watcher = container_of(item, struct watcher, link);

		if (watcher->owner == owner)
			return watcher;
	}
	return NULL;
}

int monitor_watch(struct monitor *monitor, const void *owner, const struct watch_wish *wish,
		  struct error *err)
{
	struct watcher *watcher = find_watcher(monitor, owner);

	if (!watcher) {
		watcher = calloc(1, sizeof(*watcher));
		if (!watcher)
			return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "watch: out of memory");
		watcher->owner = owner;
		list_append(&monitor->watchers, &watcher->link);
	}
	watcher->wish = *wish;
	apply(monitor);
	return 0;
}

void monitor_forget(struct monitor *monitor, const void *owner)
{
	struct watcher *watcher = find_watcher(monitor, owner);

	if (!watcher)
		return;
	list_remove(&watcher->link);
	free(watcher);
	apply(monitor);
}

int monitor_step_at(struct monitor *monitor, const void *owner, const uint64_t *addresses,
		    uint32_t n, struct error *err)
{
	const struct watcher *watcher = find_watcher(monitor, owner);
	struct vm *vm = monitor->vm;

	if (!watcher || !watcher->wish.exact || n > MONITOR_STEPS)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "step-at: is for who watches with exact, and at most %u addresses",
				 MONITOR_STEPS);
	if (vm->debugged)
		return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
				 "step-at: a debugger has the processors' breakpoints");
	quiesce_begin(&vm->quiesce);
	monitor_set_exact(monitor, addresses, n);
	quiesce_end(&vm->quiesce);
	return 0;
}

enum store_mode monitor_mode(const struct monitor *monitor)
{
	return monitor->now.mode;
}

const char *monitor_device_name(const struct monitor *monitor, uint16_t device)
{
	return store_device_name(monitor->store, device);
}

/* ---- what no record tells ---- */

static bool has_vhost(const struct vm_config *config)
{
	for (uint32_t i = 0; i < config->n_nets; i++)
		if (config->nets[i].vhost)
			return true;
	return false;
}

const char *monitor_unseen(const struct monitor *monitor, unsigned int index)
{
	const char *lines[3];
	unsigned int n = 0;

	lines[n++] = "the local APIC: its registers are inside KVM";
	if (monitor->now.mode != STORE_ALL)
		lines[n++] =
			"writes that ring the doorbells of queues (--all shows them; the requests "
			"behind them are seen)";
	if (monitor->now.mode != STORE_ALL && has_vhost(monitor->vm->config))
		lines[n++] =
			"frames of interfaces with vhost=on: the kernel moves them (--all shows "
			"them)";
	return index < n ? lines[index] : NULL;
}

/* ---- life ---- */

static void name_vcpus(struct monitor *monitor)
{
	char name[STORE_NAME];

	for (uint32_t i = 0; i < monitor->n_vcpus; i++) {
		snprintf(name, sizeof(name), "vcpu%u", i);
		monitor->vcpus[i].monitor = monitor;
		monitor->vcpus[i].vcpu = monitor->vm->vcpus[i];
		monitor->vcpus[i].ring = *monitor_take_ring(monitor, name);
		/* From now on this one counts. */
		monitor->rings[i] = &monitor->vcpus[i].ring;
	}
}

static int name_devices(struct monitor *monitor)
{
	struct list *item, *next;
	uint32_t n = 0;

	list_for_each(item, next, &monitor->vm->devices)
		n++;
	monitor->devices = calloc(n, sizeof(monitor->devices[0]));
	if (!monitor->devices)
		return -ENOMEM;
	list_for_each(item, next, &monitor->vm->devices) {
		struct monitor_device *md = &monitor->devices[monitor->n_devices++];

		md->tap.arrived = monitor_request_arrived;
		md->tap.answered = monitor_request_answered;
		md->monitor = monitor;
		md->device = container_of(item, struct device, link);
		md->index = store_device(monitor->store, md->device->name);
	}
	return 0;
}

int monitor_new(struct vm *vm, int store_fd, struct monitor **ret_monitor, struct error *err)
{
	struct monitor *monitor =
		calloc(1, sizeof(*monitor) + vm->n_vcpus * sizeof(monitor->vcpus[0]));
	int r = monitor ? store_open(store_fd, &monitor->store) : -ENOMEM;

	if (r == 0) {
		monitor->vm = vm;
		monitor->tap = (struct bus_tap){ .before = monitor_before, .after = monitor_after };
		monitor->n_rings = monitor_rings(vm->config);
		monitor->n_vcpus = vm->n_vcpus;
		monitor->can_sync = (kvm_check(vm->kvm_system, KVM_CAP_SYNC_REGS) & SYNCED) ==
				    SYNCED;
		list_init(&monitor->watchers);
		loop_timer_init(&monitor->followers, look_at_followers);
		loop_timer_init(&monitor->times, write_times);
		name_vcpus(monitor);
		monitor->times_ring = monitor_take_ring(monitor, "times");
		r = name_devices(monitor);
	}
	if (r < 0) {
		monitor_free(monitor);
		return error_set(err, r, EXIT_STATUS_HOST,
				 "cannot make the monitor of requests: %s", strerror(-r));
	}
	*ret_monitor = monitor;
	return 0;
}

void monitor_catch_up(struct monitor *monitor)
{
	store_catch_up(monitor->store);
}

void monitor_free(struct monitor *monitor)
{
	if (!monitor)
		return;
	while (monitor->vm && !list_empty(&monitor->watchers))
		monitor_forget(monitor,
			       container_of(monitor->watchers.next, struct watcher, link)->owner);
	loop_timer_cancel(&monitor->followers);
	loop_timer_cancel(&monitor->times);
	store_free(monitor->store);
	free(monitor->devices);
	free(monitor);
}
