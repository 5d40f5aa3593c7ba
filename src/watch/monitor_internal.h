/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the parts of the Request Monitor share: watchers and modes (monitor.c), accesses (monitor_access.c), the code
 * around an exit (monitor_code.c), requests of queues (monitor_request.c). */

#include "bus/request.h"
#include "virtio/virtio.h"
#include "watch/monitor.h"
#include "watch/store.h"

#define MONITOR_SITES 256 /* instructions whose code is known, of each vCPU; a power of two */
#define MONITOR_NAMES 64  /* regions whose name is known, of each vCPU; a power of two */
#define MONITOR_SPARE_RECORDS 4608 /* room kept in a lossless ring: one exit gives 4096 at most */

/* Where the code around an exit is. Of the vCPU's thread. */
struct monitor_site {
	uint64_t rip; /* linear; 0: none */
	uint64_t cr3;
	uint64_t looked_at;		 /* TSC when the page tables said so */
	uint8_t copy[2 * RECORD_WINDOW]; /* the window around rip, as it was then */
	/* How a record's struct record_access begins. */
	struct {
		uint64_t instruction;
		uint8_t verdict, mode, n_before, n_after, length, reserved[3];
	} head;
};
_Static_assert(sizeof(((struct monitor_site *)NULL)->head) == offsetof(struct record_access, code),
	       "the head is all before the code");

struct monitor_name {
	const struct bus_region *region;
	uint16_t device;
};

/* What each access touches stands together: under emulation, and with a cold TLB, each page more costs as much as a hundred
 * instructions. */
struct monitor_vcpu {
	struct monitor *monitor;
	struct vcpu *vcpu;
	struct ring ring;
	uint64_t begin[2];   /* TSC of the access under way; of the nested one */
	uint8_t flags[2];    /* RECORD_ALTERED, RECORD_DROPPED: what was done to it */
	bool knows_segments; /* KVM gives SREGS at each exit: code outside a 64-bit kernel */
	bool paging;   /* as it was when code was last looked at: without, an address is physical */
	bool waits;    /* atomic: parked until followers have read */
	uint64_t next; /* --exact: linear address of the instruction that is stepped; 0: none */
	struct monitor_name names[MONITOR_NAMES];
	struct monitor_site sites[MONITOR_SITES];
};

struct monitor_device {
	struct request_tap tap;
	struct monitor *monitor;
	struct device *device;
	uint16_t index;			       /* in the store */
	struct ring *rings[VIRTIO_QUEUES_MAX]; /* each by its queue's thread; NULL: not yet */
};

struct watcher {
	struct list link;
	const void *owner;
	struct watch_wish wish;
};

struct monitor {
	/* Of each access. */
	struct bus_tap tap;
	struct stop
		*stop; /* there are breakpoints; changed inside the barrier, by monitor_set_stop */
	bool rare; /* breakpoints, lossless or exact: more than a record is to be made of an access */
	bool can_sync; /* KVM_CAP_SYNC_REGS: registers and segments */
	uint32_t n_vcpus;
	uint64_t stale_ticks;  /* after so long page tables are asked again */
	struct watch_wish now; /* what is in force */
	struct store *store;

	struct vm *vm; /* borrowed */
	bool has_clock;
	struct list watchers;
	struct loop_timer followers; /* while lossless */
	struct loop_timer times;     /* how long the vCPUs ran: while watched */
	struct ring *times_ring;     /* the control thread's */
	uint64_t rings_used;	     /* atomic */
	uint32_t n_rings;
	uint32_t n_steps;
	uint64_t steps[MONITOR_STEPS]; /* --exact: where vCPUs are stepped */
	/* Ring, and who stands in its way since when (ns). Control thread. */
	struct {
		uint64_t owner, since;
	} slow[STORE_RINGS_MAX];
	struct ring *rings[STORE_RINGS_MAX]; /* atomic */
	uint32_t n_devices;
	struct monitor_device *devices; /* n_devices */
	struct monitor_vcpu vcpus[];
};

/* Control thread, inside the barrier: regular registers at each exit, or none. */
void monitor_sync_registers(struct monitor_vcpu *mv, bool on);

/* The record of an access so far. The vCPU's thread, at its exit. */
void monitor_fill(struct monitor_vcpu *mv, const struct bus_access *access, uint64_t now,
		  struct watch_record *record);
/* And of a request of a queue, on the queue's thread. */
void monitor_fill_request(const struct monitor_device *md, const struct device_request *request,
			  struct watch_record *record);
/* --exact: where vCPUs are stepped from now on; `n` 0: nowhere. Control thread, inside the barrier. */
void monitor_set_exact(struct monitor *monitor, const uint64_t *addresses, uint32_t n);
/* And what it knows of an access that monitor_take_code has filled. The vCPU's thread. */
void monitor_name_instruction(struct monitor_vcpu *mv, struct record_access *access);
/* Copies guest code at a linear address; how many bytes were there. The vCPU's thread, at its exit. */
size_t monitor_read_code(struct monitor_vcpu *mv, uint64_t linear, uint8_t *buf, size_t len);

enum tap_verdict monitor_before(struct bus_tap *tap, struct bus_access *access);
void monitor_after(struct bus_tap *tap, struct bus_access *access);

/* Fills all of the access. The vCPU's thread, at an exit; `now` is the TSC. */
void monitor_take_code(struct monitor_vcpu *mv, struct kvm_run *run, uint64_t now,
		       struct record_access *access);

int monitor_request_arrived(struct request_tap *tap, const struct device_request *request);
void monitor_request_answered(struct request_tap *tap, const struct device_request *request);

/* Breakpoints come or go (NULL). Control thread, inside the barrier. */
void monitor_set_stop(struct monitor *monitor, struct stop *stop);

/* The next ring nobody has, for people called `name`; NULL: no more. Any thread. */
struct ring *monitor_take_ring(struct monitor *monitor, const char *name);
