/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/bus.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

/* One claimed range. Fields are read without a lock, so each is accessed atomically; the sequence
 * counter around them says whether a whole search saw one table. */
struct bus_entry {
	uint64_t base, last;
	struct bus_region *region;
};

struct bus_table {
	uint32_t sequence; /* odd while being changed */
	uint32_t count;
	struct bus_entry entries[LIMIT_BUS_REGIONS]; /* sorted by base */
};

struct bus {
	pthread_mutex_t lock; /* writers of the tables; a leaf lock */
	struct bus_table tables[BUS_SPACES];
	struct list taps; /* changed only while no vCPU dispatches */
};

/* Last address of each space: 64 Ki ports; 52 bits of physical address; bdf << 12 | register. */
static const uint64_t space_last[BUS_SPACES] = {
	[BUS_PIO] = 0xffff,
	[BUS_MMIO] = (1ULL << 52) - 1,
	[BUS_PCI] = (1ULL << 28) - 1,
};

struct bus *bus_new(void)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (!bus)
		return NULL;
	pthread_mutex_init(&bus->lock, NULL);
	list_init(&bus->taps);
	return bus;
}

void bus_free(struct bus *bus)
{
	if (!bus)
		return;
	pthread_mutex_destroy(&bus->lock);
	free(bus);
}

/* Each load is ordered before the second look at the sequence, each store after its first change: no fence,
 * which TSAN could not follow. */
#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELEASE)

/* The entry that holds `address`, from a table that may change under us. */
static struct bus_region *search(const struct bus_table *table, uint64_t address)
{
	uint32_t low = 0, high = MIN(LOAD(table->count), LIMIT_BUS_REGIONS);

	while (low < high) {
		uint32_t mid = (low + high) / 2;
		const struct bus_entry *entry = &table->entries[mid];

		if (address < LOAD(entry->base))
			high = mid;
		else if (address > LOAD(entry->last))
			low = mid + 1;
		else
			return LOAD(entry->region);
	}
	return NULL;
}

struct bus_region *bus_find(struct bus *bus, enum bus_space space, uint64_t address)
{
	const struct bus_table *table = &bus->tables[space];

	for (;;) {
		uint32_t before = __atomic_load_n(&table->sequence, __ATOMIC_ACQUIRE);
		struct bus_region *region = search(table, address);

		if (!(before & 1) && LOAD(table->sequence) == before)
			return region;
	}
}

static void entry_copy(struct bus_entry *to, const struct bus_entry *from)
{
	STORE(to->base, LOAD(from->base));
	STORE(to->last, LOAD(from->last));
	STORE(to->region, LOAD(from->region));
}

static void change_begin(struct bus_table *table)
{
	STORE(table->sequence, table->sequence + 1);
}

static void change_end(struct bus_table *table)
{
	__atomic_store_n(&table->sequence, table->sequence + 1, __ATOMIC_RELEASE);
}

static int insert_locked(struct bus_table *table, struct bus_region *region, uint64_t base)
{
	struct bus_entry entry = { base, base + region->len - 1, region };
	uint32_t at = 0;

	if (table->count == LIMIT_BUS_REGIONS)
		return -ENOSPC;
	while (at < table->count && table->entries[at].last < base)
		at++;
	if (at < table->count && table->entries[at].base <= entry.last)
		return -EBUSY;
	change_begin(table);
	for (uint32_t i = table->count; i > at; i--)
		entry_copy(&table->entries[i], &table->entries[i - 1]);
	entry_copy(&table->entries[at], &entry);
	STORE(table->count, table->count + 1);
	change_end(table);
	return 0;
}

static bool delete_locked(struct bus_table *table, const struct bus_region *region)
{
	uint32_t at = 0;

	while (at < table->count && table->entries[at].region != region)
		at++;
	if (at == table->count)
		return false;
	change_begin(table);
	for (uint32_t i = at; i + 1 < table->count; i++)
		entry_copy(&table->entries[i], &table->entries[i + 1]);
	STORE(table->count, table->count - 1);
	change_end(table);
	return true;
}

static bool fits_space(const struct bus_region *region, uint64_t base)
{
	return region->len && range_fits(base, region->len, space_last[region->space] + 1);
}

int bus_add(struct bus *bus, struct bus_region *region)
{
	int r;

	if (!fits_space(region, region->base))
		return -ERANGE;
	pthread_mutex_lock(&bus->lock);
	r = insert_locked(&bus->tables[region->space], region, region->base);
	pthread_mutex_unlock(&bus->lock);
	return r;
}

void bus_remove(struct bus *bus, struct bus_region *region)
{
	pthread_mutex_lock(&bus->lock);
	delete_locked(&bus->tables[region->space], region);
	pthread_mutex_unlock(&bus->lock);
}

int bus_move(struct bus *bus, struct bus_region *region, uint64_t base)
{
	struct bus_table *table = &bus->tables[region->space];
	int r;

	if (!fits_space(region, base))
		return -ERANGE;
	pthread_mutex_lock(&bus->lock);
	if (delete_locked(table, region)) {
		r = insert_locked(table, region, base);
		if (r == 0)
			STORE(region->base, base);
		else /* its old place is still free: the lock was held throughout */
			(void)!insert_locked(table, region, region->base);
	} else {
		r = -ENOENT;
	}
	pthread_mutex_unlock(&bus->lock);
	return r;
}

/* Calls the device. An access that begins in the region but leaves it is nobody's. */
static void deliver(struct bus_access *access)
{
	struct bus_region *region = (struct bus_region *)access->region;
	uint64_t offset;

	if (region && region->handle) {
		region->handle(region, access);
		return;
	}
	offset = region ? access->address - LOAD(region->base) : 0;
	if (!region || !range_fits(offset, access->size, region->len)) {
		if (!access->write)
			access->data = bus_all_ones(access->size);
		return;
	}
	if (region->lock)
		pthread_mutex_lock(region->lock);
	if (access->write)
		region->ops->write(region->ctx, offset, access->size, access->data);
	else
		access->data = region->ops->read(region->ctx, offset, access->size) &
			       bus_all_ones(access->size);
	if (region->lock)
		pthread_mutex_unlock(region->lock);
}

static enum tap_verdict tap_before(struct bus *bus, struct bus_access *access)
{
	struct list *item, *next;

	list_for_each(item, next, &bus->taps) {
		struct bus_tap *tap = container_of(item, struct bus_tap, link);

		if (tap->before && tap->before(tap, access) == TAP_DONE)
			return TAP_DONE;
	}
	return TAP_PASS;
}

static void tap_after(struct bus *bus, struct bus_access *access)
{
	struct list *item, *next;

	list_for_each(item, next, &bus->taps) {
		struct bus_tap *tap = container_of(item, struct bus_tap, link);

		if (tap->after)
			tap->after(tap, access);
	}
}

static void dispatch_tapped(struct bus *bus, struct bus_access *access)
{
	if (tap_before(bus, access) == TAP_PASS)
		deliver(access);
	tap_after(bus, access);
}

void bus_dispatch(struct bus *bus, struct bus_access *access)
{
	access->region = bus_find(bus, access->space, access->address);
	if (list_empty(&bus->taps))
		deliver(access);
	else
		dispatch_tapped(bus, access);
}

void bus_add_tap(struct bus *bus, struct bus_tap *tap)
{
	list_append(&bus->taps, &tap->link);
}

void bus_remove_tap(struct bus *bus, struct bus_tap *tap)
{
	list_remove(&tap->link);
}
