/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * ACPI tables: the DSDT is AML compiled by iasl from dsdt.asl and never patched; what varies stands in a
 * parameter page that the AML reads (vCPU count, PCI windows, generation ID's address). RSDP, XSDT, FADT, MADT
 * and MCFG are built here at run time from the same struct.
 */

#include <stdint.h>

#include "base/error.h"
#include "memory/memory.h"

struct acpi_params {
	uint32_t cpus, cpus_max; /* APIC ids 0..cpus_max-1; those from `cpus` on are "online capable" */
	uint64_t ecam_base, ecam_len;
	uint64_t pci32_base, pci32_len, pci64_base, pci64_len;
	uint16_t io_base, io_len;
	uint64_t generation_at; /* guest address of the 16 bytes */
	uint32_t ioapic_base, lapic_base;
	uint16_t pm_port, ged_port, reset_port;
	uint32_t sci_gsi, ged_gsi;
};

/* Writes all tables from `at` (page aligned, below 1 MiB) on, at most `room` bytes, and says where the RSDP
 * is. -ENOSPC when they do not fit. */
_must_check_ int acpi_build(struct memory *memory, gpa_t at, uint64_t room,
			    const struct acpi_params *params, gpa_t *ret_rsdp);
