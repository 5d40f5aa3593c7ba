/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/endian.h"
#include "base/fd.h"
#include "virtio/transport.h"

/* Common configuration (virtio 1.2, 4.1.4.3), in guest byte order. */
struct common_config {
	le32_t device_feature_select;
	le32_t device_feature;
	le32_t driver_feature_select;
	le32_t driver_feature;
	le16_t config_msix_vector;
	le16_t num_queues;
	uint8_t device_status;
	uint8_t config_generation;
	le16_t queue_select;
	le16_t queue_size;
	le16_t queue_msix_vector;
	le16_t queue_enable;
	le16_t queue_notify_off;
	le64_t queue_desc;
	le64_t queue_driver;
	le64_t queue_device;
};
_Static_assert(sizeof(struct common_config) == 56, "virtio 1.2, 4.1.4.3");

/* A capability that points into a BAR (virtio 1.2, 4.1.4); the last word only in the two that have one. */
struct virtio_cap {
	uint8_t id, next, len;
	uint8_t type;
	uint8_t bar;
	uint8_t cap_id;
	uint8_t padding[2];
	le32_t offset;
	le32_t length;
	uint8_t extra[4]; /* notify: the multiplier; PCI access: the data window */
};
_Static_assert(sizeof(struct virtio_cap) == 20, "virtio 1.2, 4.1.4");
#define CAP_LEN_SHORT 16
#define CAP_LEN_EXTRA 20

#define CAP_COMMON 1
#define CAP_NOTIFY 2
#define CAP_ISR 3
#define CAP_DEVICE 4
#define CAP_PCI_ACCESS 5

#define PCI_CAP_ID_VENDOR 0x09

/* The one way to the queue that queue_select names; NULL when there is none. */
static struct virtio_queue_state *selected_queue(struct virtio_device *vdev)
{
	struct virtio_state *s = vdev->state;

	return s->queue_select < vdev->n_queues ? &s->queues[s->queue_select] : NULL;
}

static uint32_t feature_word(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> (32 * select)) : 0;
}

static void fill_queue(struct virtio_device *vdev, struct common_config *c)
{
	const struct virtio_queue_state *q = selected_queue(vdev);

	if (!q) {
		c->queue_msix_vector = le16_make(VIRTIO_NO_VECTOR);
		return;
	}
	c->queue_size = le16_make(q->size);
	c->queue_msix_vector = le16_make(q->msix_vector);
	c->queue_enable = le16_make(q->enabled);
	c->queue_notify_off = le16_make(vdev->state->queue_select);
	c->queue_desc = le64_make(q->desc);
	c->queue_driver = le64_make(q->driver);
	c->queue_device = le64_make(q->device);
}

/* All registers as they read now; an access of any width takes its bytes from here. */
static void common_snapshot(struct virtio_device *vdev, struct common_config *c)
{
	const struct virtio_state *s = vdev->state;

	*c = (struct common_config){
		.device_feature_select = le32_make(s->device_feature_select),
		.device_feature =
			le32_make(feature_word(s->device_features, s->device_feature_select)),
		.driver_feature_select = le32_make(s->driver_feature_select),
		.driver_feature =
			le32_make(feature_word(s->driver_features, s->driver_feature_select)),
		.config_msix_vector = le16_make(s->config_msix_vector),
		.num_queues = le16_make((uint16_t)vdev->n_queues),
		.device_status = s->status,
		.config_generation = s->config_generation,
		.queue_select = le16_make(s->queue_select),
	};
	fill_queue(vdev, c);
}

static void write_device_feature_select(struct virtio_device *vdev, unsigned int offset _unused_,
					uint32_t value)
{
	vdev->state->device_feature_select = value;
}

static void write_driver_feature_select(struct virtio_device *vdev, unsigned int offset _unused_,
					uint32_t value)
{
	vdev->state->driver_feature_select = value;
}

static void write_driver_feature(struct virtio_device *vdev, unsigned int offset _unused_,
				 uint32_t value)
{
	struct virtio_state *s = vdev->state;
	unsigned int shift = 32 * s->driver_feature_select;

	/* Settled with FEATURES_OK (virtio 1.2, 3.1.1). */
	if (s->driver_feature_select > 1 || (s->status & STATUS_FEATURES_OK))
		return;
	s->driver_features &= ~(0xffffffffULL << shift);
	s->driver_features |= (uint64_t)value << shift;
}

/* A vector that the function does not have reads back as "none" (virtio 1.2, 4.1.5.1.2.1). */
static uint16_t existing_vector(const struct virtio_device *vdev, uint32_t value)
{
	return value < vdev->state->pci.n_msix ? (uint16_t)value : VIRTIO_NO_VECTOR;
}

static void write_config_vector(struct virtio_device *vdev, unsigned int offset _unused_,
				uint32_t value)
{
	__atomic_store_n(&vdev->state->config_msix_vector, existing_vector(vdev, value),
			 __ATOMIC_RELAXED);
}

static void write_queue_select(struct virtio_device *vdev, unsigned int offset _unused_,
			       uint32_t value)
{
	vdev->state->queue_select = (uint16_t)value;
}

static void write_queue_vector(struct virtio_device *vdev, unsigned int offset _unused_,
			       uint32_t value)
{
	struct virtio_queue_state *q = selected_queue(vdev);

	if (q)
		__atomic_store_n(&q->msix_vector, existing_vector(vdev, value), __ATOMIC_RELAXED);
}

/* The selected queue while its geometry may still change: neither enabled nor past DRIVER_OK. */
static struct virtio_queue_state *programmable_queue(struct virtio_device *vdev)
{
	struct virtio_queue_state *q = selected_queue(vdev);

	if (!q || q->enabled || (vdev->state->status & STATUS_DRIVER_OK))
		return NULL;
	return q;
}

static void write_queue_size(struct virtio_device *vdev, unsigned int offset _unused_,
			     uint32_t value)
{
	struct virtio_queue_state *q = programmable_queue(vdev);

	if (q && value && value <= q->max_size && (value & (value - 1)) == 0)
		q->size = (uint16_t)value;
}

static void write_queue_enable(struct virtio_device *vdev, unsigned int offset _unused_,
			       uint32_t value)
{
	struct virtio_queue_state *q = programmable_queue(vdev);

	if (q && value == 1)
		q->enabled = 1;
}

static void write_queue_address(struct virtio_device *vdev, unsigned int offset, uint32_t value)
{
	struct virtio_queue_state *q = programmable_queue(vdev);
	unsigned int from_first = offset - (unsigned int)offsetof(struct common_config, queue_desc);
	unsigned int shift = from_first & 4 ? 32 : 0;
	uint64_t *address;

	if (!q)
		return;
	address = from_first < 8 ? &q->desc : from_first < 16 ? &q->driver : &q->device;
	*address &= ~(0xffffffffULL << shift);
	*address |= (uint64_t)value << shift;
}

/* Whether the driver's choice can be worked with (virtio 1.2, 3.1.1 and 6.2). */
static bool features_acceptable(struct virtio_device *vdev)
{
	struct virtio_state *s = vdev->state;

	if ((s->driver_features & ~s->device_features) ||
	    !(s->driver_features & VIRTIO_F_VERSION_1))
		return false;
	return !vdev->ops->negotiated || vdev->ops->negotiated(vdev, s->driver_features) >= 0;
}

static void write_status(struct virtio_device *vdev, unsigned int offset _unused_, uint32_t value)
{
	struct virtio_state *s = vdev->state;
	/* Bits are only ever added, other than by a reset; NEEDS_RESET is ours to set. */
	uint8_t added = (uint8_t)(value & ~(uint32_t)s->status &
				  (STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK |
				   STATUS_FEATURES_OK | STATUS_FAILED));

	if (value == 0) {
		transport_reset_locked(vdev);
		return;
	}
	if ((added & STATUS_FEATURES_OK) && !features_acceptable(vdev))
		added &= (uint8_t)~STATUS_FEATURES_OK;
	if (!((s->status | added) & STATUS_FEATURES_OK))
		added &= (uint8_t)~STATUS_DRIVER_OK;
	s->status |= added;
	if (added & STATUS_DRIVER_OK)
		transport_activate_locked(vdev);
}

/* What can be written, each at its own width only (virtio 1.2, 4.1.3.1); a 64-bit field by its halves. */
struct common_field {
	unsigned int offset, size;
	void (*write)(struct virtio_device *vdev, unsigned int offset, uint32_t value);
};
#define FIELD(name, width, write_)                                                                 \
	{                                                                                          \
		offsetof(struct common_config, name), width, write_                                \
	}
#define FIELD_HIGH(name, write_)                                                                   \
	{                                                                                          \
		offsetof(struct common_config, name) + 4, 4, write_                                \
	}
static const struct common_field common_fields[] = {
	FIELD(device_feature_select, 4, write_device_feature_select),
	FIELD(driver_feature_select, 4, write_driver_feature_select),
	FIELD(driver_feature, 4, write_driver_feature),
	FIELD(config_msix_vector, 2, write_config_vector),
	FIELD(device_status, 1, write_status),
	FIELD(queue_select, 2, write_queue_select),
	FIELD(queue_size, 2, write_queue_size),
	FIELD(queue_msix_vector, 2, write_queue_vector),
	FIELD(queue_enable, 2, write_queue_enable),
	FIELD(queue_desc, 4, write_queue_address),
	FIELD_HIGH(queue_desc, write_queue_address),
	FIELD(queue_driver, 4, write_queue_address),
	FIELD_HIGH(queue_driver, write_queue_address),
	FIELD(queue_device, 4, write_queue_address),
	FIELD_HIGH(queue_device, write_queue_address),
};

static void common_write(struct virtio_device *vdev, unsigned int offset, unsigned int size,
			 uint64_t data)
{
	if (size == 8) {
		common_write(vdev, offset, 4, data & 0xffffffff);
		common_write(vdev, offset + 4, 4, data >> 32);
		return;
	}
	/* While a reset is under way the registers wait for it. */
	if (vdev->state->resetting)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(common_fields); i++) {
		const struct common_field *field = &common_fields[i];

		if (field->offset == offset && field->size == size) {
			field->write(vdev, offset, (uint32_t)data);
			return;
		}
	}
}

static uint64_t common_read(struct virtio_device *vdev, unsigned int offset, unsigned int size)
{
	struct common_config c;

	if (!range_fits(offset, size, sizeof(c)))
		return 0;
	common_snapshot(vdev, &c);
	return le_load((const char *)&c + offset, size);
}

/* Reading acknowledges (virtio 1.2, 4.1.4.5). */
static uint64_t isr_read(struct virtio_device *vdev, unsigned int offset,
			 unsigned int size _unused_)
{
	if (offset)
		return 0;
	device_touch(&vdev->device);
	return __atomic_exchange_n(&vdev->state->isr, 0, __ATOMIC_RELAXED);
}

static uint64_t config_read(struct virtio_device *vdev, unsigned int offset, unsigned int size)
{
	struct virtio_state *s = vdev->state;

	return range_fits(offset, size, s->config_len) ? le_load(s->config + offset, size) : 0;
}

static void config_write(struct virtio_device *vdev, unsigned int offset, unsigned int size,
			 uint64_t data)
{
	if (vdev->ops->config_written && range_fits(offset, size, vdev->state->config_len))
		vdev->ops->config_written(vdev, offset, size, data);
}

/* A doorbell that came as an access: KVM does not know it, or a watcher wants to see it. The value (the
 * queue's index again) tells nothing new. A queue that is not started ignores it. */
static void notify_write(struct virtio_device *vdev, unsigned int offset,
			 unsigned int size _unused_, uint64_t data _unused_)
{
	unsigned int index = offset / TRANSPORT_NOTIFY_MULTIPLIER;

	if (index < vdev->n_queues)
		fd_signal_event(vdev->queues[index].kick.fd);
}

static uint64_t nothing_read(struct virtio_device *vdev _unused_, unsigned int offset _unused_,
			     unsigned int size _unused_)
{
	return 0;
}

static void nothing_write(struct virtio_device *vdev _unused_, unsigned int offset _unused_,
			  unsigned int size _unused_, uint64_t data _unused_)
{
}

/* The pages of BAR 0, in order. */
static const struct page {
	uint64_t (*read)(struct virtio_device *vdev, unsigned int offset, unsigned int size);
	void (*write)(struct virtio_device *vdev, unsigned int offset, unsigned int size,
		      uint64_t data);
} pages[] = {
	[TRANSPORT_COMMON / 0x1000] = { common_read, common_write },
	[TRANSPORT_ISR / 0x1000] = { isr_read, nothing_write },
	[TRANSPORT_DEVICE / 0x1000] = { config_read, config_write },
	[TRANSPORT_NOTIFY / 0x1000] = { nothing_read, notify_write },
};
_Static_assert(ARRAY_SIZE(pages) * 0x1000 == TRANSPORT_BAR_SIZE, "a page of BAR 0 has no handler");

static uint64_t bar_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct virtio_device *vdev = ctx;

	return pages[offset / 0x1000].read(vdev, offset % 0x1000, size);
}

static void bar_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct virtio_device *vdev = ctx;

	device_touch(&vdev->device);
	pages[offset / 0x1000].write(vdev, offset % 0x1000, size, data);
}

static const struct bus_ops bar_ops = {
	.read = bar_read,
	.write = bar_write,
};

/* VIRTIO_PCI_CAP_PCI_CFG (virtio 1.2, 4.1.4.9): BAR 0 through configuration space, for firmware that
 * cannot map it. What the guest wrote there is copied and judged at each use. */
static bool access_window(const struct virtio_device *vdev, struct virtio_cap *ret_cap)
{
	uint32_t offset, length;

	memcpy(ret_cap, vdev->state->pci.config + vdev->access_cap, sizeof(*ret_cap));
	offset = le32_get(ret_cap->offset);
	length = le32_get(ret_cap->length);
	if (length != 1 && length != 2 && length != 4)
		return false;
	return ret_cap->bar == TRANSPORT_BAR && IS_ALIGNED(offset, length) &&
	       range_fits(offset, length, TRANSPORT_BAR_SIZE);
}

static bool touches_window(const struct virtio_device *vdev, unsigned int offset, unsigned int size)
{
	unsigned int window = vdev->access_cap + offsetof(struct virtio_cap, extra);

	return vdev->access_cap && offset < window + 4 && window < offset + size;
}

static void window_written(struct pci_function *function, unsigned int offset, unsigned int size)
{
	struct virtio_device *vdev = container_of(function, struct virtio_device, pci);
	struct virtio_cap cap;

	if (touches_window(vdev, offset, size) && access_window(vdev, &cap))
		bar_write(vdev, le32_get(cap.offset), le32_get(cap.length),
			  le_load(cap.extra, le32_get(cap.length)));
	/* The write may have moved BAR 0 or switched its decoding. */
	transport_sync_doorbells_locked(vdev);
}

static void window_read(struct pci_function *function, unsigned int offset, unsigned int size)
{
	struct virtio_device *vdev = container_of(function, struct virtio_device, pci);
	uint8_t *data = vdev->state->pci.config + vdev->access_cap +
			offsetof(struct virtio_cap, extra);
	struct virtio_cap cap;

	if (touches_window(vdev, offset, size) && access_window(vdev, &cap))
		le_store(data, le32_get(cap.length),
			 bar_read(vdev, le32_get(cap.offset), le32_get(cap.length)));
}

const struct pci_ops registers_pci_ops = {
	.config_written = window_written,
	.config_read = window_read,
};

static uint8_t add_cap(struct virtio_device *vdev, uint8_t type, uint32_t offset, uint32_t length,
		       uint32_t multiplier)
{
	bool extra = type == CAP_NOTIFY || type == CAP_PCI_ACCESS;
	struct virtio_cap cap = {
		.len = extra ? CAP_LEN_EXTRA : CAP_LEN_SHORT,
		.type = type,
		.bar = TRANSPORT_BAR,
		.offset = le32_make(offset),
		.length = le32_make(length),
	};
	/* The driver aims the access window by itself. */
	static const struct virtio_cap window_writable = {
		.bar = 0xff,
		.offset = { 0xffffffff },
		.length = { 0xffffffff },
		.extra = { 0xff, 0xff, 0xff, 0xff },
	};

	le_store(cap.extra, 4, multiplier);
	return pci_add_capability(&vdev->pci, PCI_CAP_ID_VENDOR, &cap, cap.len,
				  type == CAP_PCI_ACCESS ? &window_writable : NULL);
}

int registers_init(struct virtio_device *vdev)
{
	struct bus_region region = {
		.name = vdev->device.name,
		.space = BUS_MMIO,
		.ops = &bar_ops,
		.ctx = vdev,
		.lock = &vdev->device.lock,
	};
	uint32_t config_len = vdev->state->config_len;

	pci_set_bar(&vdev->pci, TRANSPORT_BAR, TRANSPORT_BAR_SIZE, false, &region);
	if (!add_cap(vdev, CAP_COMMON, TRANSPORT_COMMON, sizeof(struct common_config), 0) ||
	    !add_cap(vdev, CAP_NOTIFY, TRANSPORT_NOTIFY,
		     vdev->n_queues * TRANSPORT_NOTIFY_MULTIPLIER, TRANSPORT_NOTIFY_MULTIPLIER) ||
	    !add_cap(vdev, CAP_ISR, TRANSPORT_ISR, 1, 0) ||
	    (config_len && !add_cap(vdev, CAP_DEVICE, TRANSPORT_DEVICE, config_len, 0)))
		return -ENOSPC;
	vdev->access_cap = add_cap(vdev, CAP_PCI_ACCESS, 0, 0, 0);
	return vdev->access_cap ? 0 : -ENOSPC;
}
