/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A virtio device over PCI, modern only (virtio 1.2, 4.1). The transport (transport.c) owns registers,
 * negotiation, MSI-X, doorbells and the life of queues; a device type (blk, net, ...) gives a table of
 * operations and works on its queues' threads.
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
 */

#include "bus/doorbell.h"
#include "bus/pci.h"
#include "virtio/queue.h"

#define VIRTIO_QUEUES_MAX 33 /* 16 pairs and a control queue */

/* Device types (virtio 1.2, 5). */
#define VIRTIO_ID_NET 1
#define VIRTIO_ID_BLOCK 2
#define VIRTIO_ID_CONSOLE 3
#define VIRTIO_ID_RNG 4

/* Feature bits of every device (virtio 1.2, 6). */
#define VIRTIO_F_INDIRECT_DESC (1ULL << 28)
#define VIRTIO_F_EVENT_IDX (1ULL << 29)
#define VIRTIO_F_VERSION_1 (1ULL << 32)

struct virtio_device;
struct virtio_vq;

struct virtio_ops {
	/* All on the queue's worker thread. `started` after DRIVER_OK and after a load: issue again what is in
	 * state->inflight. A negative errno: the device needs a reset. */
	int (*queue_started)(struct virtio_vq *vq);
	void (*queue_kicked)(struct virtio_vq *vq);
	/* Stop taking new chains; when nothing is in flight call virtio_queue_idle(vq) (at once, or from the last
	 * completion). Completions after this are dropped, not pushed. */
	void (*queue_stopping)(struct virtio_vq *vq);
	/* vCPU thread, device.lock held. The guest wrote device configuration. NULL: read-only. */
	void (*config_written)(struct virtio_device *vdev, unsigned int offset, unsigned int size);
	/* vCPU thread, device.lock held: features negotiated (FEATURES_OK). NULL: nothing to do. */
	int (*negotiated)(struct virtio_device *vdev, uint64_t features);
	/* Device-specific part of device_ops, called by the transport's. Each may be NULL. */
	int (*start)(struct virtio_device *vdev, struct error *err);
	void (*stop)(struct virtio_device *vdev);
	int (*after_load)(struct virtio_device *vdev, struct error *err);
	void (*destroy)(struct virtio_device *vdev);
};

/* Registers of the transport, saved as part of the device's state. */
struct virtio_state {
	struct pci_state pci;
	uint64_t device_features; /* offered; must be equal on load */
	uint64_t driver_features;
	uint32_t device_feature_select, driver_feature_select;
	uint8_t status;
	uint8_t resetting;	/* status reads as not yet 0 */
	uint8_t config_generation;
	uint8_t isr;
	uint16_t config_msix_vector;
	uint16_t queue_select;
	uint32_t config_len;
	uint8_t config[256];	/* device configuration as the guest sees it */
	uint32_t n_queues;	/* must be equal on load */
	struct virtio_queue_state queues[VIRTIO_QUEUES_MAX];
};
extern const struct state_table virtio_state_table;

/* A queue and its thread. */
struct virtio_vq {
	struct virtio_device *vdev;
	unsigned int index;
	struct virtio_queue queue;
	struct worker *worker;	    /* borrowed from vdev->workers */
	struct loop_watch kick;	    /* doorbell's eventfd, on the worker's loop */
	struct loop_watch control;  /* start and stop requests from the transport */
	struct doorbell doorbell;
	void *owner;		    /* the device type's per-queue object */
};

struct virtio_device {
	struct device device;
	struct pci_function pci;
	struct virtio_state *state;
	const struct virtio_ops *ops;
	struct memory *memory;
	struct doorbells *doorbells;
	unsigned int n_queues;
	struct virtio_vq queues[VIRTIO_QUEUES_MAX];
	unsigned int n_workers;
	struct worker *workers[VIRTIO_QUEUES_MAX];
	/* private to transport.c */
	uint64_t queues_busy; /* atomic bit mask: queues not yet idle during a reset */
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
	const char *name;	   /* "virtio-blk.0" */
	uint16_t id;		   /* VIRTIO_ID_... */
	uint64_t features;	   /* the type's own; the transport adds its own */
	const void *config;	   /* initial device configuration, `config_len` <= 256 bytes */
	size_t config_len;
	unsigned int n_queues;
	uint16_t queue_size;	   /* largest, a power of two <= LIMIT_QUEUE_SIZE */
	unsigned int n_workers;	   /* threads; queue i runs on worker (worker_of ? worker_of(i) : i % n_workers) */
	unsigned int (*worker_of)(unsigned int queue);
	const struct virtio_ops *ops;
	const struct state_table *table; /* of the type's whole state struct; NULL: virtio_state_table alone */
	void *table_state;
};

/* Prepares `vdev` (embedded in the type's struct) with `state`, plugs it into PCI, makes its workers. On
 * failure everything made is undone. */
_must_check_ int virtio_device_init(struct virtio_device *vdev, struct virtio_state *state,
				    const struct virtio_params *params,
				    const struct virtio_host *host, struct error *err);
void virtio_device_release(struct virtio_device *vdev);

/* Worker's thread, after queue_stopping: nothing of the old life is in flight on this queue. */
void virtio_queue_idle(struct virtio_vq *vq);
/* Worker's thread: pushes were made; interrupts the driver if it wants that. */
void virtio_queue_signal(struct virtio_vq *vq);
/* Any thread: the queue or the driver misbehaved; sets DEVICE_NEEDS_RESET and tells the driver
 * (virtio 1.2, 2.1.2). The device does nothing more until it is reset. */
void virtio_device_broken(struct virtio_device *vdev);
/* Replaces device configuration bytes and interrupts the driver. device.lock NOT held. */
void virtio_config_update(struct virtio_device *vdev, unsigned int offset, const void *bytes,
			  size_t len);
static inline bool virtio_has_feature(const struct virtio_device *vdev, uint64_t feature)
{
	return (vdev->state->driver_features & feature) != 0;
}
