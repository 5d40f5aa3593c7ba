/* SPDX-License-Identifier: Apache-2.0 */

/* A PCI function: configuration header, capabilities, BARs. PCI Local Bus 3.0, chapter 6. */

#include "bus/pci.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "bus/pci_internal.h"

static void config_set(struct pci_function *function, unsigned int offset, unsigned int size,
		       uint64_t value)
{
	le_store(function->state->config + offset, size, value);
}

static uint64_t config_get(const struct pci_function *function, unsigned int offset,
			   unsigned int size)
{
	return le_load(function->state->config + offset, size);
}

void pci_function_init(struct pci_function *function, struct device *device,
		       struct pci_state *state, const struct pci_identity *identity,
		       const struct pci_ops *ops)
{
	*function = (struct pci_function){ .device = device, .state = state, .ops = ops };
	memset(state, 0, sizeof(*state));
	pthread_mutex_init(&function->msix_lock, NULL);
	function->next_cap = PCI_FIRST_CAPABILITY;
	config_set(function, PCI_VENDOR_ID, 2, identity->vendor);
	config_set(function, PCI_DEVICE_ID, 2, identity->device);
	config_set(function, PCI_CLASS_REVISION, 4,
		   (uint32_t)identity->class_code << 8 | identity->revision);
	config_set(function, PCI_SUBSYSTEM_VENDOR_ID, 2, identity->subsystem_vendor);
	config_set(function, PCI_SUBSYSTEM_ID, 2, identity->subsystem);
	le_store(function->writable + PCI_COMMAND, 2,
		 PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER |
			 PCI_COMMAND_INTX_DISABLE);
	function->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	function->writable[PCI_INTERRUPT_LINE] = 0xff;
}

uint8_t pci_add_capability(struct pci_function *function, uint8_t id, const void *body, size_t len,
			   const void *writable)
{
	uint8_t at = function->next_cap;
	size_t room = PCI_CONVENTIONAL_SIZE - at;
	uint8_t *last = &function->state->config[PCI_CAPABILITY_LIST];

	if (len < 2 || len > room)
		return 0;
	while (*last)
		last = &function->state->config[*last + 1];
	*last = at;
	memcpy(function->state->config + at, body, len);
	function->state->config[at] = id;
	function->state->config[at + 1] = 0;
	if (writable)
		memcpy(function->writable + at, writable, len);
	config_set(function, PCI_STATUS, 2,
		   config_get(function, PCI_STATUS, 2) | PCI_STATUS_CAP_LIST);
	function->next_cap = (uint8_t)ALIGN_UP(at + len, 4);
	/* A capability list that fills the page to its last byte leaves no room for another. */
	if (at + len > PCI_CONVENTIONAL_SIZE - 4)
		function->next_cap = PCI_CONVENTIONAL_SIZE - 1;
	return at;
}

static unsigned int bar_offset(unsigned int index)
{
	return PCI_BASE_ADDRESS_0 + 4 * index;
}

static uint64_t bar_address(const struct pci_function *function, unsigned int index)
{
	const struct pci_bar *bar = &function->bars[index];
	uint64_t value = config_get(function, bar_offset(index), bar->is_64bit ? 8 : 4);

	return value & (bar->is_io ? ~3ULL : ~15ULL);
}

void pci_set_bar(struct pci_function *function, unsigned int index, uint64_t size, bool is_64bit,
		 const struct bus_region *region)
{
	struct pci_bar *bar = &function->bars[index];
	uint64_t mask = ~(size - 1);

	bar->region = *region;
	bar->region.len = size;
	bar->size = size;
	bar->is_64bit = is_64bit;
	bar->is_io = region->space == BUS_PIO;
	config_set(function, bar_offset(index), 4,
		   bar->is_io ? PCI_BAR_IO : (is_64bit ? PCI_BAR_64BIT : 0));
	le_store(function->writable + bar_offset(index), is_64bit ? 8 : 4, mask);
}

void pci_bar_place(struct pci_function *function, unsigned int index, uint64_t address)
{
	const struct pci_bar *bar = &function->bars[index];
	uint64_t type = config_get(function, bar_offset(index), 4) & 0xf;

	config_set(function, bar_offset(index), bar->is_64bit ? 8 : 4, address | type);
}

static void bar_unmap(struct pci_function *function, struct pci_bar *bar)
{
	if (bar->mapped)
		bus_remove(pci_host_bus(function->host), &bar->region);
	bar->mapped = false;
}

/* Claims the BAR's range where the registers say, if decoding is on and the address lies in a window; a
 * BAR that is being sized (all ones) or overlaps another one is simply not there. */
static void bar_update(struct pci_function *function, unsigned int index)
{
	struct pci_bar *bar = &function->bars[index];
	uint16_t command = (uint16_t)config_get(function, PCI_COMMAND, 2);
	bool decode = command & (bar->is_io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY);
	uint64_t address = bar_address(function, index);

	if (!bar->size || (bar->mapped && decode && bar->region.base == address))
		return;
	bar_unmap(function, bar);
	if (!decode || !pci_host_window_holds(function->host, bar->is_io, address, bar->size))
		return;
	/* A vCPU that found the region at its old place may look at the base still: deliver() in bus.c. */
	__atomic_store_n(&bar->region.base, address, __ATOMIC_RELEASE);
	bar->mapped = bus_add(pci_host_bus(function->host), &bar->region) == 0;
}

void pci_bars_update(struct pci_function *function)
{
	for (unsigned int i = 0; i < PCI_BARS; i++)
		bar_update(function, i);
}

static uint64_t function_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct pci_function *function = ctx;

	if (function->ops && function->ops->config_read)
		function->ops->config_read(function, (unsigned int)offset, size);
	return config_get(function, (unsigned int)offset, size);
}

static bool touches(uint64_t offset, unsigned int size, unsigned int first, unsigned int last)
{
	return offset <= last && offset + size > first;
}

static void function_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct pci_function *function = ctx;
	uint8_t *config = function->state->config;

	/* Queue threads read MSI-X's control word under this lock only. */
	pthread_mutex_lock(&function->msix_lock);
	for (unsigned int i = 0; i < size; i++) {
		uint8_t mask = function->writable[offset + i];

		config[offset + i] = (uint8_t)((config[offset + i] & ~mask) |
					       ((data >> (8 * i)) & mask));
	}
	pthread_mutex_unlock(&function->msix_lock);
	device_touch(function->device);
	if (touches(offset, size, PCI_COMMAND, PCI_COMMAND + 1) ||
	    touches(offset, size, PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_5 + 3))
		pci_bars_update(function);
	if (function->msix_cap &&
	    touches(offset, size, function->msix_cap + 2U, function->msix_cap + 3U))
		pci_msix_control_written(function);
	if (function->ops && function->ops->config_written)
		function->ops->config_written(function, (unsigned int)offset, size);
}

static const struct bus_ops config_ops = { .read = function_read, .write = function_write };

int pci_claim_config(struct pci_function *function, struct pci_host *host, uint16_t bdf)
{
	function->host = host;
	function->bdf = bdf;
	function->config_region = (struct bus_region){
		.name = function->device->name,
		.space = BUS_PCI,
		.base = (uint64_t)bdf << 12,
		.len = PCI_CONFIG_SIZE,
		.ops = &config_ops,
		.ctx = function,
		.lock = &function->device->lock,
	};
	memcpy(function->power_on, function->state->config, PCI_CONFIG_SIZE);
	return bus_add(pci_host_bus(host), &function->config_region);
}

void pci_unplug(struct pci_function *function)
{
	if (!function->host)
		return;
	for (unsigned int i = 0; i < PCI_BARS; i++)
		bar_unmap(function, &function->bars[i]);
	bus_remove(pci_host_bus(function->host), &function->config_region);
	pci_host_free_slot(function->host, function->bdf);
	pthread_mutex_destroy(&function->msix_lock);
	function->host = NULL;
}

void pci_function_reset(struct pci_function *function)
{
	pthread_mutex_lock(&function->msix_lock);
	memcpy(function->state->config, function->power_on, PCI_CONFIG_SIZE);
	pthread_mutex_unlock(&function->msix_lock);
	pci_msix_reset(function);
	pci_bars_update(function);
}

int pci_function_judge(const struct pci_function *function, const struct pci_state *loaded,
		       struct error *err)
{
	for (unsigned int i = 0; i < PCI_CONFIG_SIZE; i++)
		if ((loaded->config[i] ^ function->power_on[i]) & ~function->writable[i])
			return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
					 "state of %s: PCI register 0x%x differs from this "
					 "device's; make the VM with the same configuration",
					 function->device->name, i);
	if (loaded->n_msix != pci_msix_vectors(function))
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "state of %s: %u MSI-X vectors, but this device has %u; make the "
				 "VM with the same configuration",
				 function->device->name, loaded->n_msix,
				 pci_msix_vectors(function));
	return 0;
}

int pci_function_loaded(struct pci_function *function, struct error *err)
{
	int r = pci_function_judge(function, function->state, err);

	if (r == 0)
		pci_bars_update(function);
	return r;
}

static const struct state_field msix_entry_fields[] = {
	STATE_FIELD_U64(struct pci_msix_entry, address),
	STATE_FIELD_U32(struct pci_msix_entry, data),
	STATE_FIELD_U32(struct pci_msix_entry, control),
};

static const struct state_table msix_entry_table = {
	.name = "msix-entry",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct pci_msix_entry),
	.fields = msix_entry_fields,
	.n_fields = ARRAY_SIZE(msix_entry_fields),
};

static const struct state_field pci_fields[] = {
	STATE_FIELD_BYTES(struct pci_state, config),
	STATE_FIELD_VARRAY(struct pci_state, msix, n_msix, &msix_entry_table),
	STATE_FIELD_U64(struct pci_state, msix_pending),
};

const struct state_table pci_state_table = {
	.name = "pci",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct pci_state),
	.fields = pci_fields,
	.n_fields = ARRAY_SIZE(pci_fields),
};
