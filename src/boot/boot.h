/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Puts a kernel, its initial RAM disk, command line, memory map and ACPI tables into guest RAM and says
 * with which registers the boot vCPU starts. Runs before any vCPU exists; kernel and initrd are untrusted
 * files: sizes and offsets are checked, a refusal names the file.
 */

#include "base/error.h"
#include "boot/acpi.h"
#include "memory/memory.h"

enum boot_protocol { BOOT_LINUX64, BOOT_PVH };

struct boot_params {
	int kernel_fd;		/* open file; borrowed */
	const char *kernel_path; /* for messages */
	int initrd_fd;		/* -1: none */
	const char *initrd_path;
	const char *cmdline;	/* at most what the kernel says it takes */
	const struct acpi_params *acpi;
};

/* Where the boot vCPU starts. */
struct boot_entry {
	enum boot_protocol protocol;
	uint64_t rip, rsi, rbx; /* rsi: boot_params (LINUX64); rbx: start_info (PVH) */
	uint64_t cr3, gdt;	/* LINUX64: page tables and GDT made by boot; PVH: gdt only */
};

_must_check_ int boot_load(struct memory *memory, const struct boot_params *params,
			   struct boot_entry *ret_entry, struct error *err);
