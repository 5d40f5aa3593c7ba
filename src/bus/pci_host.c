/* SPDX-License-Identifier: Apache-2.0 */

/* The host bridge: both ways into configuration space, slots, and the placing of BARs. */

#include <errno.h>
#include <stdlib.h>

#include "base/endian.h"
#include "bus/pci_internal.h"

#define CONFIG_ADDRESS_PORT 0xcf8
#define CONFIG_DATA_PORT 0xcfc
#define CONFIG_ENABLE 0x80000000U
#define ECAM_LEN 0x100000ULL /* one bus */
#define Q35_PCIEXBAR                                                                               \
	0x60 /* where q35's firmware looks for the ECAM base (Intel 3 Series, 5.1.15) */

struct pci_host_state {
	uint32_t config_address;
	struct pci_state pci; /* of the bridge's own function */
};

struct pci_host {
	struct device device;
	struct bus *bus;
	struct pci_windows windows;
	struct msi_sink msi;
	struct pci_host_state state;
	struct pci_function bridge;
	struct bus_region address_port, data_port, ecam;
	uint32_t slots; /* bit mask of those in use */
	uint64_t next32, next64, next_io;
};

struct bus *pci_host_bus(struct pci_host *host)
{
	return host->bus;
}

const struct msi_sink *pci_host_msi(struct pci_host *host)
{
	return &host->msi;
}

struct device *pci_host_device(struct pci_host *host)
{
	return &host->device;
}

static bool window_holds(uint64_t base, uint64_t len, uint64_t address, uint64_t size)
{
	return address >= base && range_fits(address - base, size, len);
}

bool pci_host_window_holds(const struct pci_host *host, bool is_io, uint64_t address, uint64_t size)
{
	const struct pci_windows *w = &host->windows;

	if (is_io)
		return window_holds(w->io_base, w->io_len, address, size);
	return window_holds(w->mmio32_base, w->mmio32_len, address, size) ||
	       window_holds(w->mmio64_base, w->mmio64_len, address, size);
}

void pci_host_free_slot(struct pci_host *host, uint16_t bdf)
{
	host->slots &= ~(1U << (bdf >> 3 & 31));
}

/* Dispatches the access again, as one to configuration space. */
static void forward(struct pci_host *host, struct bus_access *outer, uint64_t address)
{
	struct bus_access inner = *outer;

	inner.space = BUS_PCI;
	inner.nested = true;
	inner.address = address;
	bus_dispatch(host->bus, &inner);
	outer->data = inner.data;
}

static void handle_ecam(struct bus_region *region, struct bus_access *access)
{
	struct pci_host *host = region->ctx;

	forward(host, access, access->address - host->windows.ecam_base);
}

/* 0xcf8 is a register of 32 bits only: narrower accesses are not it. */
static void access_config_address(struct pci_host *host, struct bus_access *access)
{
	if (access->size != 4 || access->address != CONFIG_ADDRESS_PORT) {
		access->data = UINT64_MAX >> (64 - 8 * access->size);
		return;
	}
	if (access->write)
		__atomic_store_n(&host->state.config_address, (uint32_t)access->data & ~0x7f000003U,
				 __ATOMIC_RELAXED);
	else
		access->data = __atomic_load_n(&host->state.config_address, __ATOMIC_RELAXED);
	device_touch(&host->device);
}

static void handle_ports(struct bus_region *region, struct bus_access *access)
{
	struct pci_host *host = region->ctx;
	uint32_t address = __atomic_load_n(&host->state.config_address, __ATOMIC_RELAXED);
	unsigned int low = (unsigned int)(access->address & 3);

	if (access->address < CONFIG_DATA_PORT) {
		access_config_address(host, access);
	} else if ((address & CONFIG_ENABLE) && low + access->size <= 4) {
		uint64_t bdf = address >> 8 & 0xffff;

		forward(host, access, bdf << 12 | (address & 0xfc) | low);
	} else {
		access->data = UINT64_MAX >> (64 - 8 * access->size);
	}
}

static void host_reset(struct device *device)
{
	struct pci_host *host = container_of(device, struct pci_host, device);

	host->state.config_address = 0;
	pci_function_reset(&host->bridge);
}

static int host_judge(struct device *device, const void *loaded, struct error *err)
{
	struct pci_host *host = container_of(device, struct pci_host, device);
	const struct pci_host_state *state = loaded;

	return pci_function_judge(&host->bridge, &state->pci, err);
}

static int host_after_load(struct device *device, struct error *err)
{
	struct pci_host *host = container_of(device, struct pci_host, device);

	return pci_function_loaded(&host->bridge, err);
}

static void host_destroy(struct device *device)
{
	struct pci_host *host = container_of(device, struct pci_host, device);

	bus_remove(host->bus, &host->ecam);
	bus_remove(host->bus, &host->data_port);
	bus_remove(host->bus, &host->address_port);
	pci_unplug(&host->bridge);
	device_release(&host->device);
	free(host);
}

static const struct device_ops host_ops = {
	.reset = host_reset,
	.judge = host_judge,
	.after_load = host_after_load,
	.destroy = host_destroy,
};

static const struct state_field host_fields[] = {
	STATE_FIELD_U32(struct pci_host_state, config_address),
	STATE_FIELD_STRUCT(struct pci_host_state, pci, &pci_state_table),
};

static const struct state_table host_table = {
	.name = "pci-host",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct pci_host_state),
	.fields = host_fields,
	.n_fields = ARRAY_SIZE(host_fields),
};

static int claim_ranges(struct pci_host *host)
{
	int r;

	/* Claims its first byte only, and gets the whole access: byte 0xcf9 is the reset register. */
	host->address_port = (struct bus_region){
		.name = "pci-address",
		.space = BUS_PIO,
		.base = CONFIG_ADDRESS_PORT,
		.len = 1,
		.ctx = host,
		.bus = host->bus,
		.handle = handle_ports,
	};
	host->data_port = (struct bus_region){
		.name = "pci-data",
		.space = BUS_PIO,
		.base = CONFIG_DATA_PORT,
		.len = 4,
		.ctx = host,
		.bus = host->bus,
		.handle = handle_ports,
	};
	host->ecam = (struct bus_region){
		.name = "pci-ecam",
		.space = BUS_MMIO,
		.base = host->windows.ecam_base,
		.len = ECAM_LEN,
		.ctx = host,
		.bus = host->bus,
		.handle = handle_ecam,
	};
	r = pci_claim_config(&host->bridge, host, 0);
	if (r == 0)
		r = bus_add(host->bus, &host->address_port);
	if (r == 0)
		r = bus_add(host->bus, &host->data_port);
	if (r == 0)
		r = bus_add(host->bus, &host->ecam);
	return r;
}

int pci_host_new(struct bus *bus, const struct pci_windows *windows,
		 const struct pci_identity *identity, const struct msi_sink *msi,
		 struct pci_host **ret_host)
{
	struct pci_host *host = calloc(1, sizeof(*host));
	int r;

	if (!host)
		return -ENOMEM;
	host->bus = bus;
	host->windows = *windows;
	host->msi = *msi;
	host->slots = 1; /* the bridge itself */
	host->next32 = windows->mmio32_base;
	host->next64 = windows->mmio64_base;
	host->next_io = windows->io_base;
	device_init(&host->device, &host_ops, "pci-host", &host_table, &host->state);
	pci_function_init(&host->bridge, &host->device, &host->state.pci, identity, NULL);
	le_store(host->state.pci.config + Q35_PCIEXBAR, 8, windows->ecam_base | 1);
	r = claim_ranges(host);
	if (r < 0) {
		host_destroy(&host->device);
		return r;
	}
	*ret_host = host;
	return 0;
}

/* Takes `size` bytes, naturally aligned, from the window that `*next` is in. */
static int take(uint64_t *next, uint64_t base, uint64_t len, uint64_t size, uint64_t *ret_address)
{
	uint64_t at = ALIGN_UP(*next, size);

	if (!window_holds(base, len, at, size))
		return -ENOSPC;
	*next = at + size;
	*ret_address = at;
	return 0;
}

/* Small BARs go below 4 GiB even when they may be above: every kernel finds them there. */
#define LOW_BAR_MAX MIB(1)

static int place_bar(struct pci_host *host, struct pci_function *function, unsigned int index)
{
	const struct pci_windows *w = &host->windows;
	const struct pci_bar *bar = &function->bars[index];
	uint64_t address;
	int r;

	if (bar->is_io)
		r = take(&host->next_io, w->io_base, w->io_len, bar->size, &address);
	else if (bar->is_64bit && bar->size > LOW_BAR_MAX)
		r = take(&host->next64, w->mmio64_base, w->mmio64_len, bar->size, &address);
	else
		r = take(&host->next32, w->mmio32_base, w->mmio32_len, bar->size, &address);
	if (r == 0)
		pci_bar_place(function, index, address);
	return r;
}

int pci_plug(struct pci_host *host, struct pci_function *function, unsigned int slot)
{
	int r = 0;

	if (slot == 0)
		while (slot < PCI_SLOTS && (host->slots >> slot & 1))
			slot++;
	if (slot >= PCI_SLOTS || (host->slots >> slot & 1))
		return -ENOSPC;
	for (unsigned int i = 0; r == 0 && i < PCI_BARS; i++)
		if (function->bars[i].size)
			r = place_bar(host, function, i);
	if (r == 0)
		r = pci_claim_config(function, host, (uint16_t)(slot << 3));
	if (r < 0) {
		function->host = NULL;
		return r;
	}
	host->slots |= 1U << slot;
	return 0;
}
