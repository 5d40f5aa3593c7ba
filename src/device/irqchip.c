/* SPDX-License-Identifier: Apache-2.0 */
#include "device/irqchip.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "device/ioapic.h"
#include "device/pic.h"

#define PORT_MASTER 0x20
#define PORT_SLAVE 0xa0
#define PORT_ELCR 0x4d0

/* Timer, keyboard and cascade; on the slave the RTC and the coprocessor: fixed to edges (ICH9 data sheet,
 * 13.4.9 and 13.4.10). */
#define ELCR_MASTER_WRITABLE 0xf8
#define ELCR_SLAVE_WRITABLE 0xde

struct irqchip_state {
	struct pic master, slave;
	struct ioapic ioapic;
};

enum { REGION_MASTER, REGION_SLAVE, REGION_ELCR, REGION_IOAPIC, REGIONS };

struct irqchip {
	struct device device;
	struct bus *bus;
	struct bus_region regions[REGIONS];
	struct irqchip_host host;
	/* under device.lock */
	struct irqchip_state state;
	struct msi_message routes[IRQCHIP_LINES]; /* as told to the host */
	bool intr;				  /* as told to the host */
};

static int check(const void *state_ptr, struct error *err)
{
	const struct irqchip_state *state = state_ptr;

	if (pic_check(&state->master) < 0 || pic_check(&state->slave) < 0 ||
	    ioapic_check(&state->ioapic) < 0)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "irqchip: the saved state is not one that the device can have");
	return 0;
}

static const struct state_field irqchip_fields[] = {
	STATE_FIELD_STRUCT(struct irqchip_state, master, &pic_state_table),
	STATE_FIELD_STRUCT(struct irqchip_state, slave, &pic_state_table),
	STATE_FIELD_STRUCT(struct irqchip_state, ioapic, &ioapic_state_table),
};

static const struct state_table irqchip_table = {
	.name = "irqchip",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct irqchip_state),
	.fields = irqchip_fields,
	.n_fields = ARRAY_SIZE(irqchip_fields),
	.check = check,
};

/* The slave's INT pin drives the master's input 2; the master's is the CPU's INTR. */
static void pics_update(struct irqchip *irqchip)
{
	struct irqchip_state *s = &irqchip->state;
	bool intr;

	pic_set_line(&s->master, PIC_CASCADE, pic_request(&s->slave) >= 0);
	intr = pic_request(&s->master) >= 0;
	if (intr == irqchip->intr)
		return;
	irqchip->intr = intr;
	irqchip->host.pic_changed(irqchip->host.ctx, intr);
}

static void routes_update(struct irqchip *irqchip, bool always)
{
	struct msi_message routes[IRQCHIP_LINES];

	memset(routes, 0, sizeof(routes)); /* padding too: they are compared as bytes */
	for (unsigned int i = 0; i < IRQCHIP_LINES; i++) {
		struct msi_message message = ioapic_message(&irqchip->state.ioapic, i);

		routes[i].address = message.address;
		routes[i].data = message.data;
	}
	if (!always && !memcmp(routes, irqchip->routes, sizeof(routes)))
		return;
	memcpy(irqchip->routes, routes, sizeof(routes));
	if (irqchip->host.routes_changed)
		irqchip->host.routes_changed(irqchip->host.ctx, irqchip->routes);
}

static uint64_t pic_port_read(struct irqchip *irqchip, struct pic *pic, uint64_t offset)
{
	uint8_t value = pic_read(pic, offset & 1);

	device_touch(&irqchip->device);
	pics_update(irqchip); /* a poll may have acknowledged */
	return value;
}

static void pic_port_write(struct irqchip *irqchip, struct pic *pic, uint64_t offset, uint64_t data)
{
	pic_write(pic, offset & 1, (uint8_t)data);
	device_touch(&irqchip->device);
	pics_update(irqchip);
}

/* 16-bit accesses reach the two ports one after the other, as on the ISA bus. */
static uint64_t master_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct irqchip *irqchip = ctx;
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value |= pic_port_read(irqchip, &irqchip->state.master, offset + i) << 8 * i;
	return value;
}

static void master_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct irqchip *irqchip = ctx;

	for (unsigned int i = 0; i < size; i++)
		pic_port_write(irqchip, &irqchip->state.master, offset + i, data >> 8 * i);
}

static uint64_t slave_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct irqchip *irqchip = ctx;
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value |= pic_port_read(irqchip, &irqchip->state.slave, offset + i) << 8 * i;
	return value;
}

static void slave_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct irqchip *irqchip = ctx;

	for (unsigned int i = 0; i < size; i++)
		pic_port_write(irqchip, &irqchip->state.slave, offset + i, data >> 8 * i);
}

static uint64_t elcr_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct irqchip *irqchip = ctx;
	uint64_t both = irqchip->state.master.elcr | irqchip->state.slave.elcr << 8;

	return both >> 8 * offset;
}

static void elcr_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct irqchip *irqchip = ctx;

	if (offset == 0)
		irqchip->state.master.elcr = data & ELCR_MASTER_WRITABLE;
	if (offset == 1 || size == 2)
		irqchip->state.slave.elcr = (offset ? data : data >> 8) & ELCR_SLAVE_WRITABLE;
	device_touch(&irqchip->device);
	pics_update(irqchip);
}

static uint64_t window_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct irqchip *irqchip = ctx;

	return ioapic_read(&irqchip->state.ioapic, offset, size);
}

static void window_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct irqchip *irqchip = ctx;

	ioapic_write(&irqchip->state.ioapic, &irqchip->host.msi, offset, size, data);
	device_touch(&irqchip->device);
	routes_update(irqchip, false);
}

static const struct bus_ops master_ops = { master_read, master_write };
static const struct bus_ops slave_ops = { slave_read, slave_write };
static const struct bus_ops elcr_ops = { elcr_read, elcr_write };
static const struct bus_ops window_ops = { window_read, window_write };

static const struct bus_region region_list[REGIONS] = {
	[REGION_MASTER] = { "pic.master", BUS_PIO, PORT_MASTER, 2, &master_ops },
	[REGION_SLAVE] = { "pic.slave", BUS_PIO, PORT_SLAVE, 2, &slave_ops },
	[REGION_ELCR] = { "pic.elcr", BUS_PIO, PORT_ELCR, 2, &elcr_ops },
	[REGION_IOAPIC] = { "ioapic", BUS_MMIO, IRQCHIP_IOAPIC_BASE, IOAPIC_LEN, &window_ops },
};

static void set_inputs(struct irqchip *irqchip, uint32_t gsi, bool level)
{
	struct irqchip_state *s = &irqchip->state;

	if (gsi < 16) {
		pic_set_line(gsi < 8 ? &s->master : &s->slave, gsi & 7, level);
		pics_update(irqchip);
	}
	ioapic_set_line(&s->ioapic, &irqchip->host.msi, gsi == 0 ? 2 : gsi, level);
}

static void line_set(void *ctx, uint32_t gsi, bool level)
{
	struct irqchip *irqchip = ctx;

	if (gsi >= IRQCHIP_LINES || gsi == PIC_CASCADE)
		return;
	pthread_mutex_lock(&irqchip->device.lock);
	set_inputs(irqchip, gsi, level);
	device_touch(&irqchip->device);
	pthread_mutex_unlock(&irqchip->device.lock);
}

struct irq_line irqchip_line(struct irqchip *irqchip, uint32_t gsi)
{
	return (struct irq_line){ .set = line_set, .ctx = irqchip, .gsi = gsi };
}

void irqchip_eoi(struct irqchip *irqchip, uint8_t vector)
{
	pthread_mutex_lock(&irqchip->device.lock);
	ioapic_eoi(&irqchip->state.ioapic, &irqchip->host.msi, vector);
	device_touch(&irqchip->device);
	routes_update(irqchip, false);
	pthread_mutex_unlock(&irqchip->device.lock);
}

/* The slave's INT pin falls at INTA, so that a second request of its inputs is an edge to the master. */
static int acknowledge_slave(struct irqchip_state *s)
{
	int input = pic_acknowledge(&s->slave);

	pic_set_line(&s->master, PIC_CASCADE, false);
	return s->slave.vector_base + (input < 0 ? PIC_SPURIOUS : input);
}

static int acknowledge(struct irqchip_state *s)
{
	int input = pic_acknowledge(&s->master);

	if (input < 0)
		return -1;
	if (input == PIC_CASCADE)
		return acknowledge_slave(s);
	return s->master.vector_base + input;
}

int irqchip_pic_acknowledge(struct irqchip *irqchip)
{
	int vector;

	pthread_mutex_lock(&irqchip->device.lock);
	vector = acknowledge(&irqchip->state);
	device_touch(&irqchip->device);
	pics_update(irqchip);
	pthread_mutex_unlock(&irqchip->device.lock);
	return vector;
}

static void reset(struct device *device)
{
	struct irqchip *irqchip = container_of(device, struct irqchip, device);

	pic_reset(&irqchip->state.master);
	pic_reset(&irqchip->state.slave);
	ioapic_reset(&irqchip->state.ioapic);
	device_touch(device);
	pics_update(irqchip);
	routes_update(irqchip, true);
}

/* The host's view follows the loaded registers. Messages already sent live in the LAPICs' own state. */
static int after_load(struct device *device, struct error *err)
{
	struct irqchip *irqchip = container_of(device, struct irqchip, device);

	pics_update(irqchip);
	routes_update(irqchip, true);
	return 0;
}

static void destroy(struct device *device)
{
	struct irqchip *irqchip = container_of(device, struct irqchip, device);

	for (unsigned int i = 0; i < REGIONS; i++)
		bus_remove(irqchip->bus, &irqchip->regions[i]);
	device_release(device);
	free(irqchip);
}

static const struct device_ops irqchip_ops = {
	.reset = reset,
	.after_load = after_load,
	.destroy = destroy,
};

static int add_regions(struct irqchip *irqchip)
{
	int r = 0;

	for (unsigned int i = 0; i < REGIONS && r == 0; i++) {
		irqchip->regions[i] = region_list[i];
		irqchip->regions[i].ctx = irqchip;
		irqchip->regions[i].lock = &irqchip->device.lock;
		r = bus_add(irqchip->bus, &irqchip->regions[i]);
	}
	return r;
}

int irqchip_new(struct bus *bus, const struct irqchip_host *host, struct irqchip **ret_irqchip)
{
	struct irqchip *irqchip = calloc(1, sizeof(*irqchip));
	int r;

	if (!irqchip)
		return -ENOMEM;
	irqchip->bus = bus;
	irqchip->host = *host;
	device_init(&irqchip->device, &irqchip_ops, "irqchip", &irqchip_table, &irqchip->state);
	pic_reset(&irqchip->state.master);
	pic_reset(&irqchip->state.slave);
	ioapic_reset(&irqchip->state.ioapic);
	r = add_regions(irqchip);
	if (r < 0) {
		destroy(&irqchip->device);
		return r;
	}
	*ret_irqchip = irqchip;
	return 0;
}

struct device *irqchip_device(struct irqchip *irqchip)
{
	return &irqchip->device;
}
