/* SPDX-License-Identifier: Apache-2.0 */

/* MSI-X: the vector table and pending bits in a BAR. PCI Local Bus 3.0, 6.8.2. */

#include <errno.h>

#include "base/endian.h"
#include "bus/pci_internal.h"

#define MSIX_BAR_SIZE 4096
#define MSIX_PBA_OFFSET 2048
#define MSIX_ENTRY_SIZE 16
#define MSIX_CAP_LEN 12

static uint16_t message_control(const struct pci_function *function)
{
	return (uint16_t)le_load(function->state->config + function->msix_cap + 2, 2);
}

unsigned int pci_msix_vectors(const struct pci_function *function)
{
	return function->msix_cap ? (message_control(function) & PCI_MSIX_FLAGS_QSIZE) + 1U : 0;
}

bool pci_msix_enabled(const struct pci_function *function)
{
	return function->msix_cap && (message_control(function) & PCI_MSIX_FLAGS_ENABLE);
}

static bool masked(const struct pci_function *function, unsigned int vector)
{
	return (message_control(function) & PCI_MSIX_FLAGS_MASKALL) ||
	       (function->state->msix[vector].control & PCI_MSIX_ENTRY_CTRL_MASKBIT);
}

/* Takes the message of a vector that may be sent now; false (and pending) when it is masked. */
static bool claim_locked(struct pci_function *function, unsigned int vector,
			 struct msi_message *ret_message)
{
	struct pci_state *state = function->state;

	if (masked(function, vector)) {
		state->msix_pending |= 1ULL << vector;
		return false;
	}
	state->msix_pending &= ~(1ULL << vector);
	*ret_message = (struct msi_message){
		.address = state->msix[vector].address,
		.data = state->msix[vector].data,
	};
	return true;
}

void pci_msix_notify(struct pci_function *function, unsigned int vector)
{
	struct msi_message message;
	bool send;

	pthread_mutex_lock(&function->msix_lock);
	send = pci_msix_enabled(function) && vector < function->state->n_msix &&
	       claim_locked(function, vector, &message);
	pthread_mutex_unlock(&function->msix_lock);
	device_touch(function->device);
	if (send)
		msi_send(pci_host_msi(function->host), &message);
}

/* Sends what is pending and no longer masked. */
static void send_pending(struct pci_function *function)
{
	uint64_t pending;

	pthread_mutex_lock(&function->msix_lock);
	pending = pci_msix_enabled(function) ? function->state->msix_pending : 0;
	pthread_mutex_unlock(&function->msix_lock);
	while (pending) {
		pci_msix_notify(function, (unsigned int)__builtin_ctzll(pending));
		pending &= pending - 1;
	}
}

void pci_msix_control_written(struct pci_function *function)
{
	send_pending(function);
}

static uint64_t table_read(struct pci_function *function, uint64_t offset, unsigned int size)
{
	const struct pci_msix_entry *entry = &function->state->msix[offset / MSIX_ENTRY_SIZE];
	uint8_t bytes[MSIX_ENTRY_SIZE];

	le_store(bytes, 8, entry->address);
	le_store(bytes + 8, 4, entry->data);
	le_store(bytes + 12, 4, entry->control);
	return le_load(bytes + offset % MSIX_ENTRY_SIZE, size);
}

static void table_write(struct pci_function *function, uint64_t offset, unsigned int size,
			uint64_t data)
{
	struct pci_msix_entry *entry = &function->state->msix[offset / MSIX_ENTRY_SIZE];
	uint8_t bytes[MSIX_ENTRY_SIZE];

	le_store(bytes, 8, entry->address);
	le_store(bytes + 8, 4, entry->data);
	le_store(bytes + 12, 4, entry->control);
	le_store(bytes + offset % MSIX_ENTRY_SIZE, size, data);
	entry->address = le_load(bytes, 8);
	entry->data = (uint32_t)le_load(bytes + 8, 4);
	entry->control = (uint32_t)le_load(bytes + 12, 4) & PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

/* Only aligned accesses of 4 and 8 bytes are defined; others read zero and are ignored. */
static bool access_defined(uint64_t offset, unsigned int size)
{
	return (size == 4 || size == 8) && IS_ALIGNED(offset, size);
}

static uint64_t msix_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct pci_function *function = ctx;
	uint64_t value = 0;

	if (!access_defined(offset, size))
		return 0;
	pthread_mutex_lock(&function->msix_lock);
	if (offset < (uint64_t)function->state->n_msix * MSIX_ENTRY_SIZE)
		value = table_read(function, offset, size);
	else if (offset >= MSIX_PBA_OFFSET && offset < MSIX_PBA_OFFSET + 8)
		value = function->state->msix_pending >> (8 * (offset - MSIX_PBA_OFFSET));
	pthread_mutex_unlock(&function->msix_lock);
	return value;
}

static void msix_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct pci_function *function = ctx;

	if (!access_defined(offset, size) ||
	    offset >= (uint64_t)function->state->n_msix * MSIX_ENTRY_SIZE)
		return;
	pthread_mutex_lock(&function->msix_lock);
	table_write(function, offset, size, data);
	pthread_mutex_unlock(&function->msix_lock);
	device_touch(function->device);
	send_pending(function);
}

static const struct bus_ops msix_ops = { .read = msix_read, .write = msix_write };

void pci_msix_reset(struct pci_function *function)
{
	pthread_mutex_lock(&function->msix_lock);
	for (uint32_t i = 0; i < function->state->n_msix; i++)
		function->state->msix[i] =
			(struct pci_msix_entry){ .control = PCI_MSIX_ENTRY_CTRL_MASKBIT };
	function->state->msix_pending = 0;
	pthread_mutex_unlock(&function->msix_lock);
}

int pci_add_msix(struct pci_function *function, unsigned int vectors, unsigned int bar)
{
	const uint8_t writable[MSIX_CAP_LEN] = { [3] = 0xc0 }; /* enable, function mask */
	uint8_t body[MSIX_CAP_LEN] = { 0 };
	const struct bus_region region = {
		.name = function->device->name,
		.space = BUS_MMIO,
		.ops = &msix_ops,
		.ctx = function,
		.lock = &function->device->lock,
	};

	if (vectors == 0 || vectors > PCI_MSIX_MAX || bar >= PCI_BARS)
		return -EINVAL;
	le_store(body + 2, 2, vectors - 1);
	le_store(body + 4, 4, bar);
	le_store(body + 8, 4, MSIX_PBA_OFFSET | bar);
	function->msix_cap = pci_add_capability(function, PCI_CAP_ID_MSIX, body, sizeof(body),
						writable);
	if (!function->msix_cap)
		return -ENOSPC;
	function->state->n_msix = vectors;
	pci_set_bar(function, bar, MSIX_BAR_SIZE, false, &region);
	pci_msix_reset(function);
	return 0;
}
