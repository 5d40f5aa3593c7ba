/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A virtio device over PCI, modern only (virtio 1.2, 4.1): device ids 0x1040 + type, no legacy registers.
 * The transport (transport.c: life, registers.c: what the guest sees) owns registers, negotiation, MSI-X,
 * doorbells and the life of queues; a device type (blk, net, ...) gives a table of operations and works on
 * its queues' threads. Interrupts are MSI-X only: no INTx pin is wired, a driver without MSI-X polls (the
 * ISR register works). No function-level reset is offered.
 *
 *   vCPU thread                          worker thread of the queue
 *   -----------                          --------------------------
 *   status |= DRIVER_OK   --event-->     virtio_queue_start, ops.queue_started
 *   doorbell              --event-->     ops.queue_kicked
 *   status = 0            --event-->     ops.queue_stopping; when idle: virtio_queue_idle
 *   reads status != 0 until every queue is idle; then 0
 *
 * A vCPU thread never waits for a worker (the quiesce barrier would deadlock): all of the above are
 * eventfds. With every queue idle no completion of the old life can touch guest memory any more.
 *
 * After a load, queues of a device that was working start again the same way (queue_started with
 * state->inflight filled). A reset that was under way in the saved state is finished by the load.
 */

#include "bus/doorbell.h"
#include "bus/pci.h"
#include "virtio/feature_bits.h"
#include "virtio/queue.h"

#define VIRTIO_QUEUES_MAX 33 /* 16 pairs and a control queue */

/* Device types (virtio 1.2, 5). */
#define VIRTIO_ID_NET 1
#define VIRTIO_ID_BLOCK 2
#define VIRTIO_ID_CONSOLE 3
#define VIRTIO_ID_RNG 4

struct virtio_device;
struct virtio_vq;
struct virtio_state;

/* What a feature is to a person: "the guest uses ..., which the destination does not offer". */
struct virtio_feature_words {
	uint64_t feature; /* one bit; 0: the list's end */
	const char *words;
};

/* Each may be NULL: nothing to do (queue_stopping: idle at once). */
struct virtio_ops {
	/* The next three on the queue's worker thread. `started` after DRIVER_OK and after a load: issue again
	 * what is in state->inflight (virtio_queue_refetch). A negative errno: the device needs a reset. */
	int (*queue_started)(struct virtio_vq *vq);
	/* New chains may be there; also called once after queue_started, and may be called for nothing. Bound
	 * the work of one call, and ask for another one by virtio_queue_again. */
	void (*queue_kicked)(struct virtio_vq *vq);
	/* The queue has just been stopped: it pops nothing, drops pushes. When nothing is in flight call
	 * virtio_queue_idle(vq), here or from the last completion. Comes once for each queue_started, also for one
	 * that failed. */
	void (*queue_stopping)(struct virtio_vq *vq);
	/* The queue's worker thread: pop no chains while vq->drain says so. Once all that was popped is done, and durable, call
	 * virtio_queue_drained, here or later. Also for a queue that is not started. NULL: it is so at once. */
	void (*queue_drain)(struct virtio_vq *vq);
	/* vCPU thread, device.lock held. The guest wrote device configuration; state->config is unchanged: take
	 * from `data` (`size` bytes, little-endian) what is writable. */
	void (*config_written)(struct virtio_device *vdev, unsigned int offset, unsigned int size,
			       uint64_t data);
	/* vCPU thread, device.lock held: the driver wants these features. Negative errno: FEATURES_OK stays
	 * clear. Not called again after a load: see after_load. */
	int (*negotiated)(struct virtio_device *vdev, uint64_t features);
	/* device.lock held, all queues idle: the registers have their power-on values; so has what a driver chose. */
	void (*reset)(struct virtio_device *vdev);

	/* Device-specific part of device_ops, called by the transport's, device.lock not held. */

	/* The workers' threads run (worker_call reaches them); no queue is started yet. */
	int (*start)(struct virtio_device *vdev, struct error *err);
	/* Control thread; see device_ops. */
	int (*own)(struct virtio_device *vdev, bool own, struct error *err);
	/* Every queue is idle; the workers' threads still run, and end right after. The device's stop waits for
	 * that: it is never called while the barrier is held, nor from a worker. */
	void (*stop)(struct virtio_device *vdev);
	/* Judge the device's own part of a loaded state against what the host has; change nothing. */
	int (*judge)(struct virtio_device *vdev, const struct virtio_state *loaded,
		     struct error *err);
	/* The state was replaced; before queues start. */
	int (*after_load)(struct virtio_device *vdev, struct error *err);
	/* Frees the type's object; calls virtio_device_release first. Never NULL. */
	void (*destroy)(struct virtio_device *vdev);
	/* The type's own features, and what to do where the host lacks one that a loaded guest uses. May be NULL. */
	const struct virtio_feature_words *feature_words;
	const char *feature_way_out;
};

/* Registers of the transport, saved as part of the device's state. */
struct virtio_state {
	struct pci_state pci;
	uint64_t device_features; /* offered; after a load what both hosts offer */
	uint64_t driver_features;
	uint32_t device_feature_select, driver_feature_select;
	uint8_t status;
	uint8_t resetting; /* a reset waits for queues to be idle; status keeps its old value so long */
	uint8_t config_generation;
	uint8_t isr; /* atomic */
	uint16_t config_msix_vector;
	uint16_t queue_select;
	uint32_t config_len;
	uint8_t config[256]; /* device configuration as the guest sees it */
	uint32_t n_queues;   /* must be equal on load */
	struct virtio_queue_state queues[VIRTIO_QUEUES_MAX];
};
extern const struct state_table virtio_state_table;

/* Judges a loaded, untrusted transport state. A type with a table of its own calls it in that table's
 * `check` (virtio_state_table's own does so). */
_must_check_ int virtio_state_check(const struct virtio_state *state, struct error *err);

/* A queue and its thread. */
struct virtio_vq {
	struct virtio_device *vdev;
	unsigned int index;
	struct virtio_queue queue;
	struct worker *worker;	   /* borrowed from vdev->workers */
	struct loop_watch kick;	   /* doorbell's eventfd, on the worker's loop */
	struct loop_watch control; /* start and stop requests from the transport */
	struct doorbell doorbell;
	void *owner;	/* the device type's per-queue object */
	uint32_t drain; /* worker's thread: pop nothing, for the drain of this number; 0: none */
	/* Private to transport.c. A life is one stretch between DRIVER_OK (or load) and idle, by number. */
	uint32_t wanted; /* under device.lock: the life it should be in; 0: none */
	bool rings;	 /* under device.lock: `doorbell` is added */
	uint32_t life;	 /* worker's thread: the life it is in; 0: idle */
	bool attached;	 /* worker's thread: queue_started was called in this life */
	bool stopping;	 /* worker's thread: queue_stopping was called in this life */
};

struct virtio_device {
	struct device device;
	struct pci_function pci;
	struct virtio_state *state;
	const struct virtio_ops *ops;
	struct memory *memory;
	struct doorbells *doorbells;
	uint64_t offers; /* what it can do on this host, whatever it shows */
	unsigned int n_queues;
	struct virtio_vq queues[VIRTIO_QUEUES_MAX];
	unsigned int n_workers;
	struct worker *workers[VIRTIO_QUEUES_MAX];
	/* Private to transport.c, under device.lock. */
	bool running;	      /* between start and stop */
	uint32_t lives;	      /* number of the last life given out */
	uint64_t queues_busy; /* bit mask: queues that were told to stop and are not idle yet */
	pthread_cond_t idle;  /* queues_busy became 0 */
	uint32_t drain,
		drains; /* the drain that is wanted, by number; 0: none; and the last number given out */
	uint64_t undrained; /* bit mask: queues that are not there yet */
	int drain_error;    /* of the first that could not be; 0: none */
	uint8_t access_cap; /* offset of VIRTIO_PCI_CAP_PCI_CFG in configuration space */
	bool plugged;
	bool broken; /* atomic: DEVICE_NEEDS_RESET is set, kicks are ignored */
};

/* What the board gives to every virtio device. All borrowed. */
struct virtio_host {
	struct memory *memory;
	struct pci_host *pci;
	struct doorbells *doorbells;
	struct quiesce *quiesce;
	const struct clock *clock;
};

struct virtio_params {
	const char *name;   /* "virtio-blk.0" */
	uint16_t id;	    /* VIRTIO_ID_... */
	uint64_t features;  /* the type's own; the transport adds its own */
	const void *config; /* initial device configuration, `config_len` <= 256 bytes */
	size_t config_len;
	unsigned int n_queues;
	uint16_t queue_size; /* largest, a power of two <= LIMIT_QUEUE_SIZE */
	/* Threads; queue i runs on worker (worker_of ? worker_of(i) : i) % n_workers. */
	unsigned int n_workers;
	unsigned int (*worker_of)(unsigned int queue);
	const struct virtio_ops *ops;
	/* Of the type's whole state struct; NULL: virtio_state_table and `state`. */
	const struct state_table *table;
	void *table_state;
};

/* Prepares `vdev` (embedded in the type's struct) with `state`, plugs it into PCI, makes its workers. On
 * failure everything made is undone. */
_must_check_ int virtio_device_init(struct virtio_device *vdev, struct virtio_state *state,
				    const struct virtio_params *params,
				    const struct virtio_host *host, struct error *err);
/* Undoes it; ends the workers if `stop` was never called. For the type's destroy. */
void virtio_device_release(struct virtio_device *vdev);

/* Worker's thread, after queue_stopping: nothing of the old life is in flight on this queue. */
void virtio_queue_idle(struct virtio_vq *vq);
/* Worker's thread, after queue_drain: all is done. Negative errno: it is not durable. */
void virtio_queue_drained(struct virtio_vq *vq, int result);
/* Worker's thread: pushes were made; interrupts the driver if it wants that. */
void virtio_queue_signal(struct virtio_vq *vq);
/* Any thread: queue_kicked is called (again) at the worker's next turn, after the barrier and others had
 * theirs; not at all while the queue is not started. */
void virtio_queue_again(struct virtio_vq *vq);
/* Any thread, device.lock NOT held: the queue or the driver misbehaved; sets DEVICE_NEEDS_RESET and tells
 * the driver (virtio 1.2, 2.1.2). No more kicks arrive until it is reset. */
void virtio_device_broken(struct virtio_device *vdev);
/* Replaces device configuration bytes and interrupts the driver. device.lock NOT held. */
void virtio_config_update(struct virtio_device *vdev, unsigned int offset, const void *bytes,
			  size_t len);
/* device.lock held: the driver is in charge (DRIVER_OK; virtio 1.2, 2.1). */
static inline bool virtio_driver_ok(const struct virtio_device *vdev)
{
	return (vdev->state->status & 4) != 0;
}
static inline bool virtio_has_feature(const struct virtio_device *vdev, uint64_t feature)
{
	return (vdev->state->driver_features & feature) != 0;
}
