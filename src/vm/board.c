/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/board.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "block/mirror.h"
#include "device/generation.h"
#include "device/pit.h"
#include "device/power.h"
#include "device/rtc.h"
#include "device/serial.h"
#include "net/filters/hold.h"
#include "virtio/blk.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/rng.h"
#include "vm/interrupts.h"
#include "vm/memory_map.h"

struct board_entry {
	const char *what; /* for messages */
	int (*create)(struct vm *vm, struct error *err);
};

static void append(struct vm *vm, struct device *device)
{
	list_append(&vm->devices, &device->link);
}

static int create_irqchip(struct vm *vm, struct error *err _unused_)
{
	const struct irqchip_host host = interrupts_host(vm);
	int r = irqchip_new(vm->bus, &host, &vm->irqchip);

	if (r == 0)
		append(vm, irqchip_device(vm->irqchip));
	return r;
}

static int create_pit(struct vm *vm, struct error *err _unused_)
{
	const struct irq_line line = irqchip_line(vm->irqchip, GSI_PIT);
	struct device *device;
	int r = pit_new(vm->bus, vm->loop, &line, &device);

	if (r == 0)
		append(vm, device);
	return r;
}

static int create_rtc(struct vm *vm, struct error *err _unused_)
{
	const struct irq_line line = irqchip_line(vm->irqchip, GSI_RTC);
	struct device *device;
	int r = rtc_new(vm->bus, vm->loop, &line, &device);

	if (r == 0)
		append(vm, device);
	return r;
}

static int create_serial(struct vm *vm, struct error *err _unused_)
{
	const struct irq_line line = irqchip_line(vm->irqchip, GSI_SERIAL1);
	struct device *device;
	int r = serial_new(vm->bus, PORT_SERIAL1, &line, stream_hold_stream(vm->serial_hold),
			   &device);

	if (r == 0)
		append(vm, device);
	return r;
}

static int create_power(struct vm *vm, struct error *err _unused_)
{
	const struct irq_line sci = irqchip_line(vm->irqchip, GSI_SCI);
	const struct irq_line ged = irqchip_line(vm->irqchip, GSI_GED);
	const struct power_host host = { .happened = interrupts_power_event, .ctx = vm };
	int r = power_new(vm->bus, vm->loop, &sci, &ged, &host, &vm->power);

	if (r == 0)
		append(vm, vm->power);
	return r;
}

static int create_generation(struct vm *vm, struct error *err _unused_)
{
	uint8_t id[16];
	int r;

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return -EIO;
	r = generation_new(vm->memory, gpa(MAP_GENERATION_ID), id, &vm->generation);
	if (r == 0)
		append(vm, vm->generation);
	return r;
}

static int create_pci(struct vm *vm, struct error *err _unused_)
{
	/* q35's host bridge, which UEFI firmware insists on knowing. */
	const struct pci_identity identity = {
		.vendor = 0x8086,
		.device = 0x29c0,
		.subsystem_vendor = 0x1af4,
		.subsystem = 0x1100,
		.class_code = 0x060000,
	};
	const struct pci_windows windows = {
		.ecam_base = vm->acpi.ecam_base,
		.mmio32_base = vm->acpi.pci32_base,
		.mmio32_len = vm->acpi.pci32_len,
		.mmio64_base = vm->acpi.pci64_base,
		.mmio64_len = vm->acpi.pci64_len,
		.io_base = vm->acpi.io_base,
		.io_len = vm->acpi.io_len,
	};
	int r = pci_host_new(vm->bus, &windows, &identity, &vm->msi, &vm->pci);

	if (r < 0)
		return r;
	append(vm, pci_host_device(vm->pci));
	vm->virtio_host = (struct virtio_host){
		.memory = vm->memory,
		.pci = vm->pci,
		.doorbells = vm->doorbells,
		.quiesce = &vm->quiesce,
		.clock = loop_clock(vm->loop),
	};
	return 0;
}

/* Nearest to the guest, as what is written there is what a backup's disk must have. */
static int mirror_disk(struct vm *vm, uint32_t i)
{
	int r;

	if (vm->resources->blocks[i]->geometry.readonly)
		return 0;
	r = block_mirror_new(i, vm->resources->blocks[i], &vm->resources->blocks[i]);
	if (r == 0)
		vm->mirrors[i] = vm->resources->blocks[i];
	return r;
}

static int create_disks(struct vm *vm, struct error *err)
{
	for (uint32_t i = 0; i < vm->config->n_disks; i++) {
		int r = mirror_disk(vm, i);
		const struct virtio_blk_params params = {
			.index = i,
			.block = vm->resources->blocks[i],
			.serial = vm->config->disks[i].serial,
			.queues = vm->config->disks[i].queues,
		};
		struct device *device;

		if (r == 0)
			r = virtio_blk_new(&vm->virtio_host, &params, &device, err);
		if (r < 0)
			return r;
		vm->disks[i] = params.block;
		vm->resources->blocks[i] = NULL;
		append(vm, device);
	}
	return 0;
}

/* A locally administered address made from the VM's name and the device's index: the same at every run. */
static void default_mac(const struct vm *vm, uint32_t index, uint8_t ret_mac[6])
{
	uint64_t hash = 0xcbf29ce484222325ULL; /* FNV-1a */

	for (const char *p = vm->config->name; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 0x100000001b3ULL;
	hash = (hash ^ index) * 0x100000001b3ULL;
	memcpy(ret_mac, &hash, 6);
	ret_mac[0] = (uint8_t)((ret_mac[0] & 0xfc) | 0x02);
}

/* What the guest sends is held nearest to it: what other filters keep or lose has left. The kernel's vhost asks nobody. */
static int hold_net(struct vm *vm, uint32_t i)
{
	int r;

	if (vm->resources->vhost_fds[i] >= 0)
		return 0;
	r = net_hold_new(&vm->hold, LIMIT_NET_HOLD, vm->resources->nets[i],
			 &vm->resources->nets[i]);
	if (r == 0)
		vm->net_holds[i] = vm->resources->nets[i];
	return r;
}

static int create_nets(struct vm *vm, struct error *err)
{
	static const uint8_t no_mac[6];

	for (uint32_t i = 0; i < vm->config->n_nets; i++) {
		const struct net_config *config = &vm->config->nets[i];
		int r = hold_net(vm, i);
		struct virtio_net_params params = {
			.index = i,
			.net = vm->resources->nets[i],
			.vhost_fd = vm->resources->vhost_fds[i],
			.tap_fd = vm->resources->tap_fds[i],
		};
		struct device *device;

		if (r < 0)
			return r;
		memcpy(params.mac, config->mac, 6);
		if (memcmp(config->mac, no_mac, 6) == 0)
			default_mac(vm, i, params.mac);
		r = virtio_net_new(&vm->virtio_host, &params, &device, err);
		if (r < 0)
			return r;
		vm->resources->nets[i] = NULL;
		vm->resources->vhost_fds[i] = -1;
		append(vm, device);
	}
	return 0;
}

static int create_virtio_console(struct vm *vm, struct error *err)
{
	struct device *device;
	int r = virtio_console_new(&vm->virtio_host, stream_hold_stream(vm->virtio_hold), &device,
				   err);

	if (r == 0)
		append(vm, device);
	return r;
}

static int create_rng(struct vm *vm, struct error *err)
{
	struct device *device;
	int r;

	if (!vm->config->rng)
		return 0;
	r = virtio_rng_new(&vm->virtio_host, &device, err);
	if (r == 0)
		append(vm, device);
	return r;
}

static const struct board_entry board[] = {
	{ "interrupt controllers", create_irqchip },
	{ "timer", create_pit },
	{ "clock", create_rtc },
	{ "serial port", create_serial },
	{ "power", create_power },
	{ "VM generation ID", create_generation },
	{ "PCI host", create_pci },
	{ "disks", create_disks },
	{ "networks", create_nets },
	{ "virtio console", create_virtio_console },
	{ "virtio entropy", create_rng },
};

int board_create(struct vm *vm, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(board); i++) {
		int r = board[i].create(vm, err);

		if (r < 0)
			return error_set(err, r, EXIT_STATUS_FAILED, "cannot make the %s: %s",
					 board[i].what, strerror(-r));
	}
	return 0;
}

static struct device *device_of(struct list *item)
{
	return container_of(item, struct device, link);
}

void board_destroy(struct vm *vm)
{
	while (!list_empty(&vm->devices)) {
		struct device *device = device_of(vm->devices.prev);

		list_remove(&device->link);
		device->ops->destroy(device);
	}
}

int board_start(struct vm *vm, const struct thread_entry *enter, struct error *err)
{
	struct list *item, *next;

	list_for_each(item, next, &vm->devices) {
		struct device *device = device_of(item);
		int r = device->ops->start ? device->ops->start(device, enter, err) : 0;

		if (r < 0)
			return error_set(err, r, EXIT_STATUS_FAILED, "cannot start %s: %s",
					 device->name, strerror(-r));
	}
	return 0;
}

void board_stop(struct vm *vm)
{
	struct list *item, *next;

	list_for_each(item, next, &vm->devices) {
		struct device *device = device_of(item);

		if (device->ops->stop)
			device->ops->stop(device);
	}
}

void board_reset(struct vm *vm)
{
	struct list *item, *next;

	list_for_each(item, next, &vm->devices) {
		struct device *device = device_of(item);

		if (!device->ops->reset)
			continue;
		pthread_mutex_lock(&device->lock);
		device->ops->reset(device);
		pthread_mutex_unlock(&device->lock);
	}
}

bool board_busy(struct vm *vm)
{
	struct list *item, *next;

	list_for_each(item, next, &vm->devices) {
		struct device *device = device_of(item);

		if (device->ops->resetting && device->ops->resetting(device))
			return true;
	}
	return false;
}

void board_drain(struct vm *vm, bool on)
{
	struct list *item, *next;

	list_for_each(item, next, &vm->devices) {
		struct device *device = device_of(item);

		if (device->ops->drain)
			device->ops->drain(device, on);
	}
}

int board_drained(struct vm *vm, struct error *err)
{
	struct list *item, *next;
	int all = 1;

	list_for_each(item, next, &vm->devices) {
		struct device *device = device_of(item);
		int r = device->ops->drain ? device->ops->drained(device) : 1;

		if (r < 0)
			return error_set(err, r, EXIT_STATUS_RESOURCE,
					 "%s: what was written cannot be made durable: %s; see its "
					 "disk on this host",
					 device->name, strerror(-r));
		all &= r;
	}
	return all;
}

int board_own(struct vm *vm, bool own, struct error *err)
{
	struct list *item, *next;
	int r = 0;

	list_for_each(item, next, &vm->devices) {
		struct device *device = device_of(item);

		if (r == 0 && device->ops->own)
			r = device->ops->own(device, own, err);
	}
	if (r < 0 && own)
		(void)!board_own(vm, false, NULL);
	return r;
}
