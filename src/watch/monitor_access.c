/* SPDX-License-Identifier: Apache-2.0 */

/* Accesses to registers: from the bus's taps to the vCPU's ring. The hot path of watching. */

#include "watch/stop_internal.h"

#define ROOM_ASKED_EACH 256 /* records between two looks at the followers; a power of two */

static const uint8_t kinds[BUS_SPACES] = {
	[BUS_PIO] = RECORD_PIO,
	[BUS_MMIO] = RECORD_MMIO,
	[BUS_PCI] = RECORD_PCI,
};

static struct monitor_vcpu *vcpu_of(struct bus_tap *tap, const struct bus_access *access)
{
	struct monitor *monitor = container_of(tap, struct monitor, tap);

	/* What comes from elsewhere than a vCPU's exit is no request of the guest. */
	return access->vcpu < monitor->n_vcpus && access->exit ? &monitor->vcpus[access->vcpu]
							       : NULL;
}

enum tap_verdict monitor_before(struct bus_tap *tap, struct bus_access *access)
{
	struct monitor_vcpu *mv = vcpu_of(tap, access);

	if (!mv)
		return TAP_PASS;
	mv->flags[access->nested] = 0;
	mv->begin[access->nested] = __rdtsc();
	return mv->monitor->stop ? stop_before(mv->monitor->stop, mv, access) : TAP_PASS;
}

static _cold_ uint16_t learn_device(struct monitor_vcpu *mv, const struct bus_region *region,
				    struct monitor_name *name)
{
	name->region = region;
	name->device = region ? store_device(mv->monitor->store, region->name) : STORE_NO_DEVICE;
	return name->device;
}

static uint16_t device_of(struct monitor_vcpu *mv, const struct bus_region *region)
{
	struct monitor_name *name = &mv->names[((uintptr_t)region >> 6) % MONITOR_NAMES];

	return region && name->region == region ? name->device : learn_device(mv, region, name);
}

/* The vCPU goes on when the control thread sees that followers have read. */
static _cold_ void wait_for_followers(struct monitor_vcpu *mv)
{
	uint64_t owner;

	if ((mv->ring.next & (ROOM_ASKED_EACH - 1)) ||
	    ring_has_room(&mv->ring, MONITOR_SPARE_RECORDS, &owner))
		return;
	__atomic_store_n(&mv->waits, true, __ATOMIC_RELEASE);
	vcpu_park(mv->vcpu, PARKED_BY_WATCH, true);
}

/* In lossless mode a record that has no room is given up, and counted. */
static _cold_ bool find_room(struct monitor_vcpu *mv)
{
	uint64_t owner;

	wait_for_followers(mv);
	if (ring_has_room(&mv->ring, 1, &owner))
		return true;
	ring_drop(&mv->ring);
	return false;
}

static inline void fill(struct monitor_vcpu *mv, const struct bus_access *access, uint64_t now,
			struct watch_record *record)
{
	const struct vcpu_exit *exit = access->exit;

	record->begin = mv->begin[access->nested];
	record->duration = now - record->begin;
	record->address = access->address;
	record->data = access->data;
	record->kind = kinds[access->space];
	record->flags = (uint8_t)(access->write * RECORD_WRITE | access->nested * RECORD_NESTED |
				  !access->region * RECORD_UNCLAIMED | mv->flags[access->nested]);
	record->size = access->size;
	record->operation = 0;
	record->source = (uint16_t)access->vcpu;
	record->device = device_of(mv, access->region);
	record->repeat = access->repeat;
	record->status = 0;
	monitor_take_code(mv, exit->run, now, &record->access);
}

void monitor_fill(struct monitor_vcpu *mv, const struct bus_access *access, uint64_t now,
		  struct watch_record *record)
{
	fill(mv, access, now, record);
}

/* Breakpoints, lossless, exact. */
static _cold_ void after_rare(struct monitor_vcpu *mv, struct bus_access *access, uint64_t now)
{
	struct monitor *monitor = mv->monitor;
	struct watch_record *record;

	if (monitor->stop && !access->write)
		stop_after(monitor->stop, mv, access);
	if (monitor->now.lossless && !find_room(mv))
		return;
	record = ring_begin(&mv->ring);
	fill(mv, access, now, record);
	if (monitor->now.exact)
		monitor_name_instruction(mv, &record->access);
	ring_commit(&mv->ring);
}

void monitor_after(struct bus_tap *tap, struct bus_access *access)
{
	struct monitor_vcpu *mv = vcpu_of(tap, access);
	const uint64_t now = __rdtsc();

	if (!mv)
		return;
	if (mv->monitor->rare) {
		after_rare(mv, access, now);
		return;
	}
	fill(mv, access, now, ring_begin(&mv->ring));
	ring_commit(&mv->ring);
}
