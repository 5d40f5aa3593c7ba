/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_driver.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/endian.h"

#define RESET_DEADLINE_MS 5000
#define HEAP_START KIB(64)

struct desc {
	le64_t addr;
	le32_t len;
	le16_t flags, next;
};
#define F_NEXT 1
#define F_WRITE 2
#define F_INDIRECT 4

/* ---- the machine ---- */

static void count_message(void *ctx, const struct msi_message *message)
{
	struct vmachine *machine = ctx;

	if (message->data < VMACHINE_VECTORS)
		__atomic_fetch_add(&machine->interrupts[message->data], 1, __ATOMIC_RELAXED);
}

static int make_parts(struct vmachine *m, uint64_t size)
{
	static const struct pci_windows windows = {
		.ecam_base = 0xe0000000,
		.mmio32_base = 0xc0000000,
		.mmio32_len = MIB(256),
		.mmio64_base = GIB(64),
		.mmio64_len = GIB(1),
		.io_base = 0xc000,
		.io_len = 0x1000,
	};
	static const struct pci_identity bridge = { .vendor = 0x8086, .class_code = 0x060000 };
	int r = memory_create(size, size / 2, size / 2 + VMACHINE_HOLE, MEMORY_HUGE_OFF, -1,
			      &m->memory, NULL);

	m->bus = bus_new();
	m->doorbells = doorbells_new(NULL);
	if (r == 0 && (!m->bus || !m->doorbells))
		r = -ENOMEM;
	return r == 0 ? pci_host_new(m->bus, &windows, &bridge, &m->sink, &m->pci) : r;
}

struct vmachine *vmachine_new(uint64_t size, const struct clock *clock)
{
	struct vmachine *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	quiesce_init(&m->quiesce);
	m->heap = HEAP_START;
	m->sink = (struct msi_sink){ .send = count_message, .ctx = m };
	if (make_parts(m, size) < 0) {
		vmachine_free(m);
		return NULL;
	}
	m->host = (struct virtio_host){
		.memory = m->memory,
		.pci = m->pci,
		.doorbells = m->doorbells,
		.quiesce = &m->quiesce,
		.clock = clock ? clock : &clock_host,
	};
	return m;
}

void vmachine_free(struct vmachine *m)
{
	if (!m)
		return;
	if (m->pci) {
		struct device *bridge = pci_host_device(m->pci);

		bridge->ops->destroy(bridge);
	}
	doorbells_free(m->doorbells);
	bus_free(m->bus);
	memory_free(m->memory);
	quiesce_destroy(&m->quiesce);
	free(m);
}

void *vmachine_at(struct vmachine *m, uint64_t address, uint64_t len)
{
	return memory_at(m->memory, gpa(address), len, MEMORY_WRITE);
}

uint64_t vmachine_alloc(struct vmachine *m, uint64_t len, uint64_t align)
{
	uint64_t at = ALIGN_UP(m->heap, align);

	if (!range_fits(at, len, m->memory->banks[0].len))
		return UINT64_MAX;
	m->heap = at + len;
	return at;
}

void vmachine_copy_memory(struct vmachine *to, struct vmachine *from)
{
	for (size_t i = 0; i < from->memory->n_banks; i++)
		memcpy(to->memory->banks[i].host, from->memory->banks[i].host,
		       from->memory->banks[i].len);
	to->heap = from->heap;
}

uint64_t vmachine_read(struct vmachine *m, enum bus_space space, uint64_t address,
		       unsigned int size)
{
	struct bus_access access = { .space = space, .address = address, .size = (uint8_t)size };

	bus_dispatch(m->bus, &access);
	return size == 8 ? access.data : access.data & ((1ULL << (8 * size)) - 1);
}

void vmachine_write(struct vmachine *m, enum bus_space space, uint64_t address, unsigned int size,
		    uint64_t data)
{
	struct bus_access access = {
		.space = space,
		.address = address,
		.size = (uint8_t)size,
		.data = data,
		.write = true,
	};

	bus_dispatch(m->bus, &access);
}

uint32_t vmachine_interrupts(struct vmachine *m, unsigned int vector)
{
	return __atomic_load_n(&m->interrupts[vector], __ATOMIC_RELAXED);
}

/* ---- the board's part ---- */

int vdevice_start(struct device *device)
{
	return device->ops->start ? device->ops->start(device, NULL, NULL) : 0;
}

void vdevice_destroy(struct device *device)
{
	if (!device)
		return;
	if (device->ops->stop)
		device->ops->stop(device);
	device->ops->destroy(device);
}

int vdevice_save(struct vmachine *m, struct device *device, struct buffer *out)
{
	int r;

	quiesce_begin(&m->quiesce);
	if (device->ops->before_save)
		device->ops->before_save(device);
	r = state_save(out, device->table, device->name, device->state);
	quiesce_end(&m->quiesce);
	return r;
}

/* As vm_load does it. */
static int load_section(struct device *device, const struct buffer *in, struct error *err)
{
	void *loaded = NULL;
	struct cursor stream = { .data = in->data, .left = in->len };
	struct state_section section;
	int r = state_next_section(&stream, &section);

	if (r <= 0)
		return r < 0 ? r : -ENODATA;
	r = state_decode(&section, device->table, device->state, &loaded, err);
	if (r == 0 && device->ops->judge)
		r = device->ops->judge(device, loaded, err);
	if (r == 0)
		memcpy(device->state, loaded, device->table->size);
	free(loaded);
	if (r == 0 && device->ops->after_load)
		r = device->ops->after_load(device, err);
	return r;
}

int vdevice_load(struct vmachine *m, struct device *device, const struct buffer *in,
		 struct error *err)
{
	int r;

	quiesce_begin(&m->quiesce);
	r = load_section(device, in, err);
	quiesce_end(&m->quiesce);
	return r;
}

/* ---- the driver: finding ---- */

uint64_t vdriver_config_read(struct vdriver *d, unsigned int offset, unsigned int size)
{
	return vmachine_read(d->machine, BUS_PCI, (uint64_t)d->bdf << 12 | offset, size);
}

void vdriver_config_write(struct vdriver *d, unsigned int offset, unsigned int size, uint64_t data)
{
	vmachine_write(d->machine, BUS_PCI, (uint64_t)d->bdf << 12 | offset, size, data);
}

static void note_capability(struct vdriver *d, uint8_t at)
{
	uint8_t id = (uint8_t)vdriver_config_read(d, at, 1);
	uint8_t type = (uint8_t)vdriver_config_read(d, at + 3u, 1);

	if (id == PCI_CAP_ID_MSIX)
		d->msix_cap = at;
	if (id != PCI_CAP_ID_VNDR || type < VREGION_COMMON || type > VREGION_ACCESS)
		return;
	d->regions[type].at = at;
	d->regions[type].bar = (uint8_t)vdriver_config_read(d, at + 4u, 1);
	d->regions[type].offset = (uint32_t)vdriver_config_read(d, at + 8u, 4);
	d->regions[type].length = (uint32_t)vdriver_config_read(d, at + 12u, 4);
	if (type == VREGION_NOTIFY)
		d->notify_multiplier = (uint32_t)vdriver_config_read(d, at + 16u, 4);
}

static bool is_device(struct vdriver *d, uint16_t id)
{
	return vdriver_config_read(d, PCI_VENDOR_ID, 2) == 0x1af4 &&
	       vdriver_config_read(d, PCI_DEVICE_ID, 2) == 0x1040u + id;
}

int vdriver_find(struct vmachine *m, uint16_t id, struct vdriver *ret_driver)
{
	struct vdriver d = { .machine = m };
	unsigned int bound = 48;

	for (unsigned int slot = 1; slot < PCI_SLOTS; slot++) {
		d.bdf = (uint16_t)(slot << 3);
		if (is_device(&d, id))
			break;
	}
	if (!is_device(&d, id))
		return -ENODEV;
	for (uint8_t at = (uint8_t)vdriver_config_read(&d, PCI_CAPABILITY_LIST, 1); at && bound--;
	     at = (uint8_t)vdriver_config_read(&d, at + 1u, 1))
		note_capability(&d, at);
	vdriver_config_write(&d, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	*ret_driver = d;
	return 0;
}

static uint64_t bar_base(struct vdriver *d, unsigned int bar)
{
	uint64_t low = vdriver_config_read(d, PCI_BASE_ADDRESS_0 + 4 * bar, 4);

	if ((low & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64)
		low |= vdriver_config_read(d, PCI_BASE_ADDRESS_0 + 4 * bar + 4, 4) << 32;
	return low & ~15ULL;
}

uint64_t vdriver_address(struct vdriver *d, enum vregion region, unsigned int offset)
{
	return bar_base(d, d->regions[region].bar) + d->regions[region].offset + offset;
}

uint64_t vdriver_read(struct vdriver *d, enum vregion region, unsigned int offset,
		      unsigned int size)
{
	return vmachine_read(d->machine, BUS_MMIO, vdriver_address(d, region, offset), size);
}

void vdriver_write(struct vdriver *d, enum vregion region, unsigned int offset, unsigned int size,
		   uint64_t data)
{
	vmachine_write(d->machine, BUS_MMIO, vdriver_address(d, region, offset), size, data);
}

/* ---- the driver: negotiation ---- */

uint8_t vdriver_status(struct vdriver *d)
{
	return (uint8_t)vdriver_read(d, VREGION_COMMON, VCOMMON_STATUS, 1);
}

static void set_status(struct vdriver *d, uint8_t status)
{
	vdriver_write(d, VREGION_COMMON, VCOMMON_STATUS, 1, status);
}

uint64_t vdriver_offered(struct vdriver *d)
{
	uint64_t features;

	vdriver_write(d, VREGION_COMMON, VCOMMON_DEVICE_FEATURE_SELECT, 4, 0);
	features = vdriver_read(d, VREGION_COMMON, VCOMMON_DEVICE_FEATURE, 4);
	vdriver_write(d, VREGION_COMMON, VCOMMON_DEVICE_FEATURE_SELECT, 4, 1);
	return features | vdriver_read(d, VREGION_COMMON, VCOMMON_DEVICE_FEATURE, 4) << 32;
}

int vdriver_reset(struct vdriver *d)
{
	set_status(d, 0);
	for (unsigned int ms = 0; ms < RESET_DEADLINE_MS; ms++) {
		if (vdriver_status(d) == 0)
			return 0;
		usleep(1000);
	}
	return -ETIMEDOUT;
}

int vdriver_negotiate(struct vdriver *d, uint64_t features)
{
	d->features = (features | VIRTIO_F_VERSION_1) & vdriver_offered(d);
	set_status(d, 1);
	set_status(d, 3);
	for (unsigned int word = 0; word < 2; word++) {
		vdriver_write(d, VREGION_COMMON, VCOMMON_DRIVER_FEATURE_SELECT, 4, word);
		vdriver_write(d, VREGION_COMMON, VCOMMON_DRIVER_FEATURE, 4,
			      (uint32_t)(d->features >> (32 * word)));
	}
	set_status(d, 11);
	return vdriver_status(d) == 11 ? 0 : -ENOTSUP;
}

void vdriver_enable_msix(struct vdriver *d)
{
	uint16_t control = (uint16_t)vdriver_config_read(d, d->msix_cap + 2u, 2);
	uint64_t table = bar_base(d, vdriver_config_read(d, d->msix_cap + 4u, 4) & 7);

	for (unsigned int i = 0; i <= (control & 0x7ffu); i++) {
		vmachine_write(d->machine, BUS_MMIO, table + 16 * i, 8, 0xfee00000);
		vmachine_write(d->machine, BUS_MMIO, table + 16 * i + 8, 4, i);
		vmachine_write(d->machine, BUS_MMIO, table + 16 * i + 12, 4, 0);
	}
	vdriver_config_write(d, d->msix_cap + 2u, 2, PCI_MSIX_FLAGS_ENABLE);
	vdriver_write(d, VREGION_COMMON, VCOMMON_CONFIG_VECTOR, 2, 0);
}

void vdriver_go(struct vdriver *d)
{
	set_status(d, VSTATUS_OK);
}

/* ---- queues ---- */

static void write_address(struct vqueue *q, unsigned int offset, uint64_t address)
{
	vdriver_write(q->driver, VREGION_COMMON, offset, 4, (uint32_t)address);
	vdriver_write(q->driver, VREGION_COMMON, offset + 4, 4, address >> 32);
}

static void program(struct vqueue *q)
{
	struct vdriver *d = q->driver;

	vdriver_write(d, VREGION_COMMON, VCOMMON_QUEUE_SIZE, 2, q->size);
	vdriver_write(d, VREGION_COMMON, VCOMMON_QUEUE_VECTOR, 2, q->index + 1);
	write_address(q, VCOMMON_QUEUE_DESC, q->desc);
	write_address(q, VCOMMON_QUEUE_DRIVER, q->avail);
	write_address(q, VCOMMON_QUEUE_DEVICE, q->used);
	vdriver_write(d, VREGION_COMMON, VCOMMON_QUEUE_ENABLE, 2, 1);
}

int vqueue_place(struct vdriver *d, unsigned int index, uint16_t size, struct vqueue *q)
{
	uint64_t bytes = 16u * size + 6u + 2u * size + 2 + 6u + 8u * size;

	*q = (struct vqueue){ .driver = d, .index = index, .size = size };
	q->desc = vmachine_alloc(d->machine, bytes, MEMORY_PAGE_SIZE);
	if (q->desc == UINT64_MAX)
		return -ENOMEM;
	memset(vmachine_at(d->machine, q->desc, bytes), 0, bytes);
	q->avail = q->desc + 16u * size;
	q->used = ALIGN_UP(q->avail + 6u + 2u * size, 4);
	for (uint16_t i = 0; i < size; i++)
		q->free[q->n_free++] = (uint16_t)(size - 1 - i);
	return 0;
}

int vqueue_setup(struct vdriver *d, unsigned int index, uint16_t size, struct vqueue *q)
{
	uint16_t max;
	int r;

	vdriver_write(d, VREGION_COMMON, VCOMMON_QUEUE_SELECT, 2, index);
	max = (uint16_t)vdriver_read(d, VREGION_COMMON, VCOMMON_QUEUE_SIZE, 2);
	size = size ? size : max;
	if (max == 0 || max > LIMIT_QUEUE_SIZE || size > max)
		return -EINVAL;
	r = vqueue_place(d, index, size, q);
	if (r == 0)
		program(q);
	return r;
}

static uint16_t *ring16(struct vqueue *q, uint64_t address)
{
	return vmachine_at(q->driver->machine, address, 2);
}

void vqueue_write_desc(struct vqueue *q, uint16_t index, uint64_t address, uint32_t len,
		       uint16_t flags, uint16_t next)
{
	struct desc *desc = vmachine_at(q->driver->machine, q->desc + 16u * index, 16);

	*desc = (struct desc){
		.addr = le64_make(address),
		.len = le32_make(len),
		.flags = le16_make(flags),
		.next = le16_make(next),
	};
}

void vqueue_publish(struct vqueue *q, uint16_t head)
{
	*ring16(q, q->avail + 4 + 2u * (q->avail_idx % q->size)) = htole16(head);
	q->avail_idx++;
	__atomic_store_n(ring16(q, q->avail + 2), htole16(q->avail_idx), __ATOMIC_RELEASE);
}

int vqueue_add(struct vqueue *q, const struct vbuffer *buffers, unsigned int n)
{
	uint16_t head;

	if (n == 0 || n > q->n_free)
		return -ENOSPC;
	head = q->free[q->n_free - 1];
	for (unsigned int i = 0; i < n; i++) {
		uint16_t flags = (uint16_t)((i + 1 < n ? F_NEXT : 0) |
					    (buffers[i].in ? F_WRITE : 0));
		uint16_t next = i + 1 < n ? q->free[q->n_free - 2u - i] : 0;

		vqueue_write_desc(q, q->free[q->n_free - 1u - i], buffers[i].address,
				  buffers[i].len, flags, next);
	}
	q->n_free = (uint16_t)(q->n_free - n);
	q->length_of[head] = (uint16_t)n;
	vqueue_publish(q, head);
	return head;
}

int vqueue_add_indirect(struct vqueue *q, const struct vbuffer *buffers, unsigned int n)
{
	uint64_t at = vmachine_alloc(q->driver->machine, 16ULL * n, 16);
	uint16_t head;
	struct desc *table;

	if (n == 0 || q->n_free == 0 || at == UINT64_MAX)
		return -ENOSPC;
	table = vmachine_at(q->driver->machine, at, 16ULL * n);
	for (unsigned int i = 0; i < n; i++)
		table[i] = (struct desc){
			.addr = le64_make(buffers[i].address),
			.len = le32_make(buffers[i].len),
			.flags = le16_make((uint16_t)((i + 1 < n ? F_NEXT : 0) |
						      (buffers[i].in ? F_WRITE : 0))),
			.next = le16_make((uint16_t)(i + 1)),
		};
	head = q->free[--q->n_free];
	q->length_of[head] = 1;
	vqueue_write_desc(q, head, at, 16 * n, F_INDIRECT, 0);
	vqueue_publish(q, head);
	return head;
}

/* What the device asks for: event index or flag (virtio 1.2, 2.7.10 and 2.7.13.4). */
static bool device_wants_kick(struct vqueue *q)
{
	uint16_t old = q->kicked_idx, now = q->avail_idx, event;

	__sync_synchronize();
	if (!(q->driver->features & VIRTIO_F_EVENT_IDX))
		return !(le16toh(__atomic_load_n(ring16(q, q->used), __ATOMIC_RELAXED)) & 1);
	event = le16toh(__atomic_load_n(ring16(q, q->used + 4 + 8u * q->size), __ATOMIC_RELAXED));
	return (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

bool vqueue_kick(struct vqueue *q)
{
	bool wanted = device_wants_kick(q);

	q->kicked_idx = q->avail_idx;
	if (wanted)
		vqueue_kick_anyway(q);
	return wanted;
}

void vqueue_kick_anyway(struct vqueue *q)
{
	vdriver_write(q->driver, VREGION_NOTIFY, q->index * q->driver->notify_multiplier, 2,
		      q->index);
}

/* Puts the chain's descriptors back on the stack, its head on top, by its links. */
static void free_chain(struct vqueue *q, uint16_t head)
{
	uint16_t n = q->length_of[head];
	uint16_t at = head;

	q->length_of[head] = 0;
	for (uint16_t i = 0; i < n; i++) {
		struct desc *desc = vmachine_at(q->driver->machine, q->desc + 16u * at, 16);

		q->free[q->n_free + n - 1u - i] = at;
		at = le16_get(desc->next) % q->size;
	}
	q->n_free = (uint16_t)(q->n_free + n);
}

int vqueue_get(struct vqueue *q, uint16_t *ret_head, uint32_t *ret_len)
{
	uint16_t idx = le16toh(__atomic_load_n(ring16(q, q->used + 2), __ATOMIC_ACQUIRE));
	uint8_t *element;
	uint16_t head;

	if (idx == q->last_used)
		return 0;
	element = vmachine_at(q->driver->machine, q->used + 4 + 8u * (q->last_used % q->size), 8);
	head = (uint16_t)(le_load(element, 4) % q->size);
	if (ret_head)
		*ret_head = head;
	if (ret_len)
		*ret_len = (uint32_t)le_load(element + 4, 4);
	q->last_used++;
	/* Interrupt for the next one (event index); without it nobody reads this. */
	__atomic_store_n(ring16(q, q->avail + 4 + 2u * q->size), htole16(q->last_used),
			 __ATOMIC_SEQ_CST);
	free_chain(q, head);
	return 1;
}

int vqueue_wait(struct vqueue *q, unsigned int ms, uint16_t *ret_head, uint32_t *ret_len)
{
	for (unsigned int i = 0; i <= ms * 10; i++) {
		if (vqueue_get(q, ret_head, ret_len))
			return 1;
		usleep(100);
	}
	return 0;
}

int vdriver_setup(struct vmachine *m, uint16_t id, uint64_t features, struct vdriver *d,
		  struct vqueue *queues, unsigned int n)
{
	int r = vdriver_find(m, id, d);

	if (r == 0)
		r = vdriver_reset(d);
	if (r == 0)
		r = vdriver_negotiate(d, features);
	if (r < 0)
		return r;
	vdriver_enable_msix(d);
	for (unsigned int i = 0; r == 0 && i < n; i++)
		r = vqueue_setup(d, i, 0, &queues[i]);
	if (r == 0)
		vdriver_go(d);
	return r;
}

bool wait_for_count(const uint32_t *value, uint32_t least, unsigned int ms)
{
	for (unsigned int i = 0; i < ms * 10; i++) {
		if (__atomic_load_n(value, __ATOMIC_ACQUIRE) >= least)
			return true;
		usleep(100);
	}
	return __atomic_load_n(value, __ATOMIC_ACQUIRE) >= least;
}
