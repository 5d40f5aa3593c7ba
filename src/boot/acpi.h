/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * ACPI tables (ACPI 6.4): the DSDT is AML compiled by iasl from dsdt.asl and never patched; what varies stands
 * in a parameter page that the AML reads (present vCPUs, PCI windows, generation ID's address). RSDP, XSDT,
 * FADT, FACS, MADT and MCFG are built here at run time from the same struct.
 *
 *   000e_0000  parameter page (struct acpi_parameter_page): the AML's operation region
 *   000e_1000  RSDP, XSDT, FADT, FACS, DSDT, MADT, MCFG
 *   000f_f000  one page for the VM generation ID; not written here
 */

#include <stdint.h>

#include "base/endian.h"
#include "base/error.h"
#include "memory/memory.h"

#define ACPI_AT 0xe0000ULL
#define ACPI_ROOM 0x1f000ULL
#define ACPI_GENERATION_AT 0xff000ULL

struct acpi_params {
	uint32_t cpus,
		cpus_max; /* APIC ids 0..cpus_max-1; those from `cpus` on are "online capable" */
	uint64_t ecam_base, ecam_len;
	uint64_t pci32_base, pci32_len, pci64_base, pci64_len;
	uint16_t io_base, io_len;
	uint64_t generation_at; /* guest address of the 16 bytes; 0: no such device */
	uint32_t ioapic_base, lapic_base;
	uint16_t pm_port, ged_port, reset_port;
	uint32_t sci_gsi, ged_gsi;
};

/* What the AML reads. Offsets are repeated in dsdt.asl; acpi.c asserts them. */
struct acpi_parameter_page {
	le64_t magic;		      /* 0x00: ACPI_PAGE_MAGIC */
	le64_t cpus_possible;	      /* 0x08: one bit per APIC id */
	le64_t cpus_present;	      /* 0x10: which of them the guest may use now */
	le64_t ecam_base, ecam_len;   /* 0x18, 0x20 */
	le64_t pci32_base, pci32_len; /* 0x28, 0x30 */
	le64_t pci64_base, pci64_len; /* 0x38, 0x40 */
	le64_t generation_at;	      /* 0x48 */
	le32_t io_base, io_len;	      /* 0x50, 0x54 */
	le32_t ged_port, ged_gsi;     /* 0x58, 0x5c */
};
#define ACPI_PAGE_MAGIC 0x3142415453555455ULL

/* Writes all tables at ACPI_AT, in at most ACPI_ROOM bytes, and says where the RSDP is. -EINVAL for
 * numbers that cannot be (no vCPU, more than LIMIT_VCPUS), -ENOSPC when the tables do not fit. */
_must_check_ int acpi_build(struct memory *memory, const struct acpi_params *params,
			    gpa_t *ret_rsdp);

/* Says which vCPUs are there now (bit n: APIC id n). The guest looks after GED_CPU_CHANGED. */
_must_check_ int acpi_set_present(struct memory *memory, uint64_t cpus);
