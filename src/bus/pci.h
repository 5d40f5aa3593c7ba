/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * PCI: one host bridge, one bus, functions with BARs, MSI-X. Configuration space is reached by ports
 * 0xcf8/0xcfc and by ECAM; both end in bus_dispatch(BUS_PCI). PCI Local Bus 3.0, PCI Express Base 3.0.
 *
 * BARs are placed by us before the guest runs (there is no firmware) and may be moved by the guest.
 */

#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

#define PCI_CONFIG_SIZE 4096
#define PCI_BARS 6
#define PCI_SLOTS 32
#define PCI_MSIX_MAX 64 /* vectors of one function here; the specification allows 2048 */

struct pci_function;
struct pci_host;

struct pci_bar {
	struct bus_region region; /* ops, ctx, name, lock: set by the device; base: by the host */
	uint64_t size;		  /* a power of two >= 16; 0: no such BAR */
	bool is_64bit, prefetchable, is_io;
	bool mapped; /* claimed on the bus now: decoding on and the address sane */
};

struct pci_ops {
	/* Called after the stored bytes changed and BARs were mapped where they say (bars[i].mapped and
	 * bars[i].region.base are true then), under device.lock. NULL: none. */
	void (*config_written)(struct pci_function *function, unsigned int offset,
			       unsigned int size);
	/* Called before stored bytes are returned (registers that are computed). NULL: none. */
	void (*config_read)(struct pci_function *function, unsigned int offset, unsigned int size);
};

/* One MSI-X table entry as the guest programs it. */
struct pci_msix_entry {
	uint64_t address;
	uint32_t data;
	uint32_t control; /* bit 0: masked */
};

/* Everything the guest can see of a function's PCI side; part of its device's state table. */
struct pci_state {
	uint8_t config[PCI_CONFIG_SIZE];
	uint32_t n_msix;
	struct pci_msix_entry msix[PCI_MSIX_MAX];
	uint64_t msix_pending; /* one bit per vector */
};
extern const struct state_table pci_state_table;

struct pci_function {
	struct device *device; /* whose lock guards all of this */
	struct pci_host *host;
	const struct pci_ops *ops;
	uint16_t bdf; /* bus << 8 | slot << 3 | function */
	struct pci_state *state;
	uint8_t writable[PCI_CONFIG_SIZE]; /* which stored bits the guest may change */
	struct pci_bar bars[PCI_BARS];
	uint8_t power_on[PCI_CONFIG_SIZE]; /* configuration space as plugged: what reset restores */
	pthread_mutex_t msix_lock;	   /* guards state->msix*; after device.lock */
	uint8_t next_cap;		   /* where the next capability goes */
	uint16_t msix_cap;		   /* offset of the capability, 0: none */
	struct bus_region config_region;   /* in BUS_PCI */
};

struct pci_identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* class << 16 | subclass << 8 | interface */
	uint8_t revision;
};

/* Prepares the header and an empty capability list. `state` lies in the device's own state struct. */
void pci_function_init(struct pci_function *function, struct device *device,
		       struct pci_state *state, const struct pci_identity *identity,
		       const struct pci_ops *ops);

/* Appends a capability of `len` bytes (id and next pointer first, filled in here) and returns its
 * offset; `writable` (may be NULL: read-only) has one mask byte per byte. 0 when there is no room. */
uint8_t pci_add_capability(struct pci_function *function, uint8_t id, const void *body, size_t len,
			   const void *writable);

/* Declares a BAR. `size` is a power of two. The region's ops, ctx, name and lock are taken from `region`. */
void pci_set_bar(struct pci_function *function, unsigned int index, uint64_t size, bool is_64bit,
		 const struct bus_region *region);

/* Adds MSI-X with `vectors` (1..PCI_MSIX_MAX) whose table and PBA fill BAR `bar` (made here). */
_must_check_ int pci_add_msix(struct pci_function *function, unsigned int vectors,
			      unsigned int bar);

/* Sends vector `vector`, or marks it pending while masked. Any thread, with or without device.lock. */
void pci_msix_notify(struct pci_function *function, unsigned int vector);
bool pci_msix_enabled(const struct pci_function *function);

struct pci_windows {
	uint64_t ecam_base;		  /* 256 MiB of ECAM when 256 buses; here one bus: 1 MiB */
	uint64_t mmio32_base, mmio32_len; /* BARs below 4 GiB */
	uint64_t mmio64_base, mmio64_len; /* BARs above RAM */
	uint16_t io_base, io_len;
};

/* Makes the host bridge (function 00:00.0, identity as `identity` says) on `bus`. */
_must_check_ int pci_host_new(struct bus *bus, const struct pci_windows *windows,
			      const struct pci_identity *identity, const struct msi_sink *msi,
			      struct pci_host **ret_host);
struct device *pci_host_device(struct pci_host *host);

/* Plugs a function into slot 1..31 (0: the first free one), places its BARs and claims its configuration
 * space. -ENOSPC when slots or windows are used up. */
_must_check_ int pci_plug(struct pci_host *host, struct pci_function *function, unsigned int slot);
void pci_unplug(struct pci_function *function);

/* Back to power-on: command register, BAR addresses as placed at plug, MSI-X masked. device.lock held. */
void pci_function_reset(struct pci_function *function);
/* Whether `loaded` can be this function's registers: -EINVAL when read-only ones differ. Changes nothing. */
_must_check_ int pci_function_judge(const struct pci_function *function,
				    const struct pci_state *loaded, struct error *err);
/* After `state` was loaded: judges it, maps BARs where the loaded registers say. -EINVAL when they cannot be there. */
_must_check_ int pci_function_loaded(struct pci_function *function, struct error *err);
