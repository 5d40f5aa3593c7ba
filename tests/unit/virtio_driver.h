/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A small machine without vCPUs and a guest's side of virtio: a driver that finds a device's capabilities
 * in PCI configuration space, programs it through bus_dispatch and keeps rings in guest memory. For tests
 * and fuzz targets of everything in src/virtio. The test's thread plays the vCPU.
 *
 *   vmachine_new -> virtio_xxx_new(&machine->host, ...) -> vdevice_start
 *     -> vdriver_find -> vdriver_setup -> vqueue_add, vqueue_kick, vqueue_wait ...
 *   -> vdevice_destroy -> vmachine_free
 */

#include "base/buffer.h"
#include "bus/pci.h"
#include "kvm/kvm.h"
#include "virtio/virtio.h"

#define VMACHINE_VECTORS 64
#define VMACHINE_HOLE MIB(16) /* between the two banks of RAM */

/* RAM in two banks with a hole between them, a PCI host, doorbells that never arm, a barrier. */
struct vmachine {
	struct bus *bus;
	struct memory *memory;
	struct pci_host *pci;
	struct doorbells *doorbells;
	struct quiesce quiesce;
	struct msi_sink sink;
	struct virtio_host host; /* to give to constructors */
	uint32_t interrupts
		[VMACHINE_VECTORS]; /* atomic: messages by their data, see vdriver_enable_msix */
	uint64_t heap;		    /* next free guest address of vmachine_alloc */
};

/* `size`: bytes of RAM, a multiple of 4 MiB: one half from 0 on, one after the hole. Time is `clock`'s,
 * NULL: the host's. NULL when that fails. */
struct vmachine *vmachine_new(uint64_t size, const struct clock *clock);
void vmachine_free(struct vmachine *machine);

/* Guest memory of the first bank, zeroed, never given back. UINT64_MAX when there is no more. */
uint64_t vmachine_alloc(struct vmachine *machine, uint64_t len, uint64_t align);
/* What the guest sees at an address; NULL when it is not RAM. Writing here is a guest's write: unmarked. */
void *vmachine_at(struct vmachine *machine, uint64_t address, uint64_t len);
/* Copies all RAM (both machines of one size) and where the heap is, while all that runs of either is
 * held by its barrier. */
void vmachine_copy_memory(struct vmachine *to, struct vmachine *from);
/* One access of `size` bytes, as a vCPU makes it. */
uint64_t vmachine_read(struct vmachine *machine, enum bus_space space, uint64_t address,
		       unsigned int size);
void vmachine_write(struct vmachine *machine, enum bus_space space, uint64_t address,
		    unsigned int size, uint64_t data);
/* Interrupts that arrived for `vector` so far. That of a request comes after its answer: wait_for_count(interrupts + vector). */
uint32_t vmachine_interrupts(struct vmachine *machine, unsigned int vector);

/* The board's part of a device's life. */
_must_check_ int vdevice_start(struct device *device);
/* stop and destroy; NULL is accepted. */
void vdevice_destroy(struct device *device);
/* Inside the machine's barrier: appends the device's section to `out`, or loads the first section. */
_must_check_ int vdevice_save(struct vmachine *machine, struct device *device, struct buffer *out);
_must_check_ int vdevice_load(struct vmachine *machine, struct device *device,
			      const struct buffer *in, struct error *err);

/* The driver's view of one function. */
enum vregion { VREGION_COMMON = 1, VREGION_NOTIFY, VREGION_ISR, VREGION_DEVICE, VREGION_ACCESS };

struct vdriver {
	struct vmachine *machine;
	uint16_t bdf;
	struct {
		uint8_t at; /* the capability, in configuration space; 0: absent */
		uint8_t bar;
		uint32_t offset, length;
	} regions[6];
	uint32_t notify_multiplier;
	uint8_t msix_cap;
	uint64_t features; /* negotiated */
};

/* Finds the first function with virtio device type `id`, reads its capabilities and switches decoding on.
 * -ENODEV when there is none. */
_must_check_ int vdriver_find(struct vmachine *machine, uint16_t id, struct vdriver *ret_driver);

uint64_t vdriver_config_read(struct vdriver *driver, unsigned int offset, unsigned int size);
void vdriver_config_write(struct vdriver *driver, unsigned int offset, unsigned int size,
			  uint64_t data);
uint64_t vdriver_read(struct vdriver *driver, enum vregion region, unsigned int offset,
		      unsigned int size);
void vdriver_write(struct vdriver *driver, enum vregion region, unsigned int offset,
		   unsigned int size, uint64_t data);
/* Guest-physical address of a region's byte. */
uint64_t vdriver_address(struct vdriver *driver, enum vregion region, unsigned int offset);

/* Registers of the common configuration (virtio 1.2, 4.1.4.3), by offset. */
enum vcommon {
	VCOMMON_DEVICE_FEATURE_SELECT = 0,
	VCOMMON_DEVICE_FEATURE = 4,
	VCOMMON_DRIVER_FEATURE_SELECT = 8,
	VCOMMON_DRIVER_FEATURE = 12,
	VCOMMON_CONFIG_VECTOR = 16,
	VCOMMON_NUM_QUEUES = 18,
	VCOMMON_STATUS = 20,
	VCOMMON_GENERATION = 21,
	VCOMMON_QUEUE_SELECT = 22,
	VCOMMON_QUEUE_SIZE = 24,
	VCOMMON_QUEUE_VECTOR = 26,
	VCOMMON_QUEUE_ENABLE = 28,
	VCOMMON_QUEUE_NOTIFY_OFF = 30,
	VCOMMON_QUEUE_DESC = 32,
	VCOMMON_QUEUE_DRIVER = 40,
	VCOMMON_QUEUE_DEVICE = 48,
};
#define VSTATUS_OK 15 /* acknowledge, driver, features, driver ok */
#define VSTATUS_NEEDS_RESET 64

uint8_t vdriver_status(struct vdriver *driver);
uint64_t vdriver_offered(struct vdriver *driver);
/* Writes 0 and waits until it reads 0: -ETIMEDOUT after five seconds. */
_must_check_ int vdriver_reset(struct vdriver *driver);
/* Status up to FEATURES_OK, with what is offered of `features`. -ENOTSUP when the device refuses. */
_must_check_ int vdriver_negotiate(struct vdriver *driver, uint64_t features);
/* Every vector's message is its own number as data; interrupts are counted by it. */
void vdriver_enable_msix(struct vdriver *driver);
void vdriver_go(struct vdriver *driver); /* DRIVER_OK */

/* A queue of the driver. Vector of queue i: i + 1 (configuration changes: 0). */
struct vqueue {
	struct vdriver *driver;
	unsigned int index;
	uint16_t size;
	uint64_t desc, avail, used;
	uint16_t avail_idx, kicked_idx, last_used;
	uint16_t n_free;
	uint16_t free[LIMIT_QUEUE_SIZE];      /* stack of free descriptors */
	uint16_t length_of[LIMIT_QUEUE_SIZE]; /* descriptors of the chain that begins here */
};

struct vbuffer {
	uint64_t address;
	uint32_t len;
	bool in; /* the device writes */
};

/* Allocates rings of `size` entries, tells nobody. */
_must_check_ int vqueue_place(struct vdriver *driver, unsigned int index, uint16_t size,
			      struct vqueue *ret_queue);
/* Allocates rings of `size` entries (0: the device's largest) and programs and enables the queue. */
_must_check_ int vqueue_setup(struct vdriver *driver, unsigned int index, uint16_t size,
			      struct vqueue *ret_queue);
/* Makes a chain available: its head, or -ENOSPC. The device need not be told yet. */
int vqueue_add(struct vqueue *queue, const struct vbuffer *buffers, unsigned int n);
/* The same with one indirect table. */
int vqueue_add_indirect(struct vqueue *queue, const struct vbuffer *buffers, unsigned int n);
/* Raw ring access, for what no sane driver does. */
void vqueue_write_desc(struct vqueue *queue, uint16_t index, uint64_t address, uint32_t len,
		       uint16_t flags, uint16_t next);
void vqueue_publish(struct vqueue *queue, uint16_t head);
/* Notifies the device if it asked for that, as a real driver: whether it did. */
bool vqueue_kick(struct vqueue *queue);
void vqueue_kick_anyway(struct vqueue *queue);
/* Takes a used element: 1, or 0 when there is none. `wait` tries for `ms` milliseconds. */
int vqueue_get(struct vqueue *queue, uint16_t *ret_head, uint32_t *ret_len);
int vqueue_wait(struct vqueue *queue, unsigned int ms, uint16_t *ret_head, uint32_t *ret_len);

/* find, reset, negotiate, MSI-X, `n` queues of the largest size, DRIVER_OK. */
_must_check_ int vdriver_setup(struct vmachine *machine, uint16_t id, uint64_t features,
			       struct vdriver *ret_driver, struct vqueue *ret_queues,
			       unsigned int n);

/* Waits at most `ms` until `*value` (written by another thread) is at least `least`. */
bool wait_for_count(const uint32_t *value, uint32_t least, unsigned int ms);
