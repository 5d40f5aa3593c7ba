/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Shared by the three files of PCI: function (pci.c), MSI-X (pci_msix.c), host bridge (pci_host.c). */

#include <linux/pci_regs.h>

#include "bus/pci.h"

#define PCI_FIRST_CAPABILITY 0x40
#define PCI_CONVENTIONAL_SIZE 256
#define PCI_BAR_IO 0x1
#define PCI_BAR_64BIT 0x4

struct bus *pci_host_bus(struct pci_host *host);
const struct msi_sink *pci_host_msi(struct pci_host *host);
/* Whether [address, address + size) lies in one of the host's windows. */
bool pci_host_window_holds(const struct pci_host *host, bool is_io, uint64_t address,
			   uint64_t size);
/* As its capability says, which no load can change; 0: no MSI-X. */
unsigned int pci_msix_vectors(const struct pci_function *function);
void pci_host_free_slot(struct pci_host *host, uint16_t bdf);

/* Claims configuration space and remembers the power-on content. */
_must_check_ int pci_claim_config(struct pci_function *function, struct pci_host *host,
				  uint16_t bdf);
void pci_bar_place(struct pci_function *function, unsigned int index, uint64_t address);
/* Maps and unmaps BARs as the registers say. device.lock held, or nobody else there yet. */
void pci_bars_update(struct pci_function *function);

void pci_msix_reset(struct pci_function *function);
/* The message control register was written: what was pending may go out now. */
void pci_msix_control_written(struct pci_function *function);
