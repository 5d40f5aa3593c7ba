/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Private to the transport: what its parts need of each other. registers.c is what the guest sees, transport.c the life of the
 * device, transport_new.c puts it together, transport_state.c describes what is saved. All with device.lock held, but for what
 * transport_new.c takes.
 *
 *   BAR 0, 16 KiB of 32-bit MMIO          BAR 1: MSI-X table and PBA
 *   0x0000  common configuration
 *   0x1000  ISR status
 *   0x2000  device configuration
 *   0x3000  notifications, 4 bytes for each queue
 */

#include "virtio/virtio.h"

#define TRANSPORT_BAR 0
#define TRANSPORT_MSIX_BAR 1
#define TRANSPORT_BAR_SIZE 0x4000
#define TRANSPORT_COMMON 0x0000
#define TRANSPORT_ISR 0x1000
#define TRANSPORT_DEVICE 0x2000
#define TRANSPORT_NOTIFY 0x3000
#define TRANSPORT_NOTIFY_MULTIPLIER 4

/* Device status (virtio 1.2, 2.1). */
#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER 2
#define STATUS_DRIVER_OK 4
#define STATUS_FEATURES_OK 8
#define STATUS_NEEDS_RESET 64
#define STATUS_FAILED 128

/* ISR status (virtio 1.2, 4.1.4.5). */
#define ISR_QUEUE 1
#define ISR_CONFIG 2

/* Declares BAR 0 and the capabilities that describe it. -ENOSPC when they do not fit. */
_must_check_ int registers_init(struct virtio_device *vdev);
extern const struct pci_ops registers_pci_ops;

/* The driver set DRIVER_OK: its enabled queues start on their workers. */
void transport_activate_locked(struct virtio_device *vdev);
/* The driver wrote 0 to the status register, or the machine is reset: queues stop on their workers; the
 * registers return to power-on values when the last one is idle, at once when none is active. */
void transport_reset_locked(struct virtio_device *vdev);
/* Whether a guest with this loaded state finds all that it uses: what its driver accepted, or may be choosing from right now.
 * Names what is missing. */
_must_check_ int transport_judge_features(const struct virtio_device *vdev,
					  const struct virtio_state *loaded, struct error *err);
/* Lets doorbells follow the BAR and the queues that are active. */
void transport_sync_doorbells_locked(struct virtio_device *vdev);

/* For transport_new.c. */
extern const struct device_ops transport_ops;
void transport_kick_ready(struct loop_watch *watch, uint32_t events);
void transport_control_ready(struct loop_watch *watch, uint32_t events);
/* Ends and frees the workers; harmless when done before. */
void transport_end_workers(struct virtio_device *vdev);
