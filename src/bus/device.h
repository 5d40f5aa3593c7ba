/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the board knows of a device: name, lock, state table, and a few moments of its life. A device
 * embeds this struct; its own header offers nothing but a constructor.
 *
 * before_save and after_load run on the control thread inside the barrier, where no other thread touches the
 * device: the lock is not held.
 *
 * Life: create -> (load) -> start -> [quiesced: save]* -> stop -> destroy. `reset` returns the registers to
 * their power-on values; it must be safe with I/O in flight.
 *
 * Lock order: device.lock -> irqchip lock -> (KVM). quiesce's lock is innermost.
 */

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/worker.h"
#include "state/state.h"

struct device;
struct request_tap;

struct device_ops {
	/* Threads begin to work. The board's caller; before the first guest instruction. */
	int (*start)(struct device *device, const struct thread_entry *enter, struct error *err);
	/* Threads end; requests in flight are finished or given up. */
	void (*stop)(struct device *device);
	/* Power-on values. With device->lock held. */
	void (*reset)(struct device *device);
	/* Any thread: a reset has begun and I/O of the old life is still in flight. NULL: never. */
	bool (*resetting)(struct device *device);
	/* Control thread. `on`: takes no new requests from the guest, and finishes, durably, those that it has; the barrier must not be
	 * held, or they cannot. Off: goes on. NULL: there are none that outlast the barrier. */
	void (*drain)(struct device *device, bool on);
	/* Control thread, after drain: 1 when it is so, 0 not yet, negative errno when something cannot be made durable. */
	int (*drained)(struct device *device);
	/* Control thread: what it shares with other hosts is let go, or taken (block_own). NULL: nothing. */
	int (*own)(struct device *device, bool own, struct error *err);
	/* Inside the barrier, before `state` is read: brings it up to date (counters derived from a clock,
	 * requests in flight). NULL: it always is. */
	void (*before_save)(struct device *device);
	/* Inside the barrier: may this decoded, checked content of `state` be taken here? Against what this host and
	 * configuration have; changes nothing, as it may be a rehearsal. NULL: what the table says is enough. */
	int (*judge)(struct device *device, const void *loaded, struct error *err);
	/* Inside the barrier, after `state` was replaced by loaded, checked content: puts it to work (re-arms timers,
	 * re-raises lines, issues requests in flight again). Clocks go on as if stopped_ns had passed since the save. */
	int (*after_load)(struct device *device, struct error *err);
	void (*destroy)(struct device *device);
};

struct device {
	struct list link; /* on the board */
	char name[32]; /* unique on the board: "serial", "virtio-blk.0"; the state section's name */
	const struct device_ops *ops;
	pthread_mutex_t lock;		 /* guards *state and the registers */
	const struct state_table *table; /* NULL: nothing to save */
	void *state;			 /* the struct that `table` describes; inside the device */
	bool touched; /* atomic: the guest or the host changed it since the last save (epochs) */
	/* Set before after_load: how long the machine stood still since the save. */
	uint64_t stopped_ns;
	/* Changed inside the barrier. */
	struct request_tap *requests; /* bus/request.h; NULL: nobody looks */
	bool see_all; /* who looks wants to see all of them: none is left to the kernel */
};

void device_init(struct device *device, const struct device_ops *ops, const char *name,
		 const struct state_table *table, void *state);
/* Releases what device_init made; the device's own destroy calls it. */
void device_release(struct device *device);

static inline void device_touch(struct device *device)
{
	__atomic_store_n(&device->touched, true, __ATOMIC_RELAXED);
}
