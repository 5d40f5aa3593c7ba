/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One dispatcher for every guest access that reaches user space: ports, MMIO and PCI configuration
 * (invariant 2). It finds the region, shows the access to the taps, calls the device under the device's
 * lock, and shows the answer to the taps.
 *
 *   vCPU exit -> bus_access -> tap.before* -> region.ops (region.lock held) -> tap.after*
 *
 * A PCI configuration access arrives as PIO (0xcf8/0xcfc) or MMIO (ECAM) and is dispatched again in the
 * space BUS_PCI with `nested` set, so that a tap can count it once or see both.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/macros.h"

enum bus_space { BUS_PIO, BUS_MMIO, BUS_PCI };
#define BUS_SPACES 3

struct bus_region;

/* One access of 1, 2, 4 or 8 bytes. Lives on the dispatching thread's stack. */
struct bus_access {
	enum bus_space space;
	bool write;
	bool nested;	  /* caused by the handler of another access */
	uint8_t size;	  /* bytes: 1, 2, 4, 8 */
	uint32_t vcpu;	  /* index of the vCPU; BUS_NO_VCPU for an access from elsewhere */
	uint32_t repeat;  /* element of a REP string access, from 0 */
	uint64_t address; /* port, guest-physical address, or (bdf << 12 | register) */
	uint64_t data;	  /* written value, or the answer; the low `size` bytes count */
	const struct bus_region *region; /* who answers; NULL when nobody claims the address */
	void *exit; /* the vCPU's exit information, for taps that know the type (struct vcpu_exit) */
};
#define BUS_NO_VCPU UINT32_MAX

/* What a read of `size` bytes (1, 2, 4, 8) gives where nothing answers. */
static inline uint64_t bus_all_ones(unsigned int size)
{
	return UINT64_MAX >> (64 - 8 * size);
}

/* A device's handlers. `offset` is relative to the region's base, offset + size never leaves the region.
 * Called on vCPU threads with the region's lock held. Reads give all ones where nothing answers. */
struct bus_ops {
	uint64_t (*read)(void *ctx, uint64_t offset, unsigned int size);
	void (*write)(void *ctx, uint64_t offset, unsigned int size, uint64_t data);
};

/* An address range claimed by a device. Embedded in the device, in place while added. */
struct bus_region {
	const char *name; /* for people and for the watcher: "serial", "virtio-blk.0" */
	enum bus_space space;
	uint64_t base, len;
	const struct bus_ops *ops;
	void *ctx;
	pthread_mutex_t *lock; /* the device's; NULL: the handlers lock by themselves */
	/* Set by a region whose handler must know the whole access (the PCI host dispatching again);
	 * then `ops` is not used. */
	struct bus *bus;
	void (*handle)(struct bus_region *region, struct bus_access *access);
};

enum tap_verdict {
	TAP_PASS, /* go on */
	TAP_DONE, /* the tap has answered: the device does not see the access */
};

/* Sees every access. `before` may change the data of a write or answer instead of the device; `after` may
 * change the answer of a read. Called on vCPU threads without any lock: must be quick, format nothing. */
struct bus_tap {
	struct list link;
	enum tap_verdict (*before)(struct bus_tap *tap, struct bus_access *access);
	void (*after)(struct bus_tap *tap, struct bus_access *access);
};

struct bus;

struct bus *bus_new(void);
void bus_free(struct bus *bus);

/* Claims the region's range. -EBUSY when it overlaps another, -ERANGE when it leaves the space, -ENOSPC at
 * LIMIT_BUS_REGIONS. Any thread; a dispatch in progress sees the old or the new table, never a mix. */
_must_check_ int bus_add(struct bus *bus, struct bus_region *region);
void bus_remove(struct bus *bus, struct bus_region *region);
/* Moves a region (a BAR that the guest programs). On failure it is where it was. */
_must_check_ int bus_move(struct bus *bus, struct bus_region *region, uint64_t base);
/* The region that claims `address`, or NULL. */
struct bus_region *bus_find(struct bus *bus, enum bus_space space, uint64_t address);

/* Dispatches: fills access->region and, for reads, access->data. Addresses nobody claims read as all
 * ones and ignore writes, as on a PC. */
void bus_dispatch(struct bus *bus, struct bus_access *access);

/* Taps change only while every vCPU is quiesced or not yet running. */
void bus_add_tap(struct bus *bus, struct bus_tap *tap);
void bus_remove_tap(struct bus *bus, struct bus_tap *tap);
