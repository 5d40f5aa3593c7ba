/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Puts a kernel, its initial RAM disk, command line, memory map and ACPI tables into guest RAM and says
 * with which registers the boot vCPU starts. Runs before any vCPU exists; kernel and initrd are untrusted
 * files: sizes and offsets are checked, a refusal names the file.
 *
 * What boot keeps below 1 MiB (boot/layout.h) is free for the kernel once it has read it, except the ACPI area.
 */

#include "base/error.h"
#include "boot/acpi.h"
#include "cpu/start.h"
#include "memory/memory.h"

enum boot_protocol {
	BOOT_LINUX64, /* bzImage, 64-bit entry (Linux, Documentation/arch/x86/boot.rst, "64-bit Boot Protocol") */
	BOOT_LINUX32, /* bzImage without a 64-bit entry: the 32-bit one */
	BOOT_PVH,     /* ELF with the note XEN_ELFNOTE_PHYS32_ENTRY */
};

/* A range of the guest's address space that is no RAM to use: e820 type 2. */
struct boot_reserved {
	uint64_t start, len;
};

struct boot_request {
	int kernel_fd;		 /* open regular file; borrowed */
	const char *kernel_path; /* for messages */
	int initrd_fd;		 /* -1: none */
	const char *initrd_path;
	const char *cmdline; /* NULL: empty; at most what the kernel says it takes */
	const struct acpi_params *acpi;
	const struct boot_reserved *reserved; /* ECAM, KVM's own pages, ... */
	size_t n_reserved;
};

/* How the boot vCPU starts: cpu_start_set(vcpu, &entry.start). */
struct boot_entry {
	enum boot_protocol protocol;
	struct cpu_start start;
};

/* Control thread. ACPI tables go to ACPI_AT, of ACPI_ROOM bytes. */
_must_check_ int boot_load(struct memory *memory, const struct boot_request *request,
			   struct boot_entry *ret_entry, struct error *err);
