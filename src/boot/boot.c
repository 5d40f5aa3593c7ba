/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/boot.h"

#include <errno.h>
#include <string.h>

#include "base/limits.h"
#include "boot/bzimage.h"
#include "boot/elf_kernel.h"
#include "boot/layout.h"
#include "boot/linux.h"
#include "boot/pvh.h"

#define PAGE_PRESENT_WRITE 0x3ULL
#define PAGE_LARGE 0x80ULL
#define ENTRIES 512
#define DIRECTORIES 4 /* of 1 GiB each */

struct page_tables {
	uint64_t pml4[ENTRIES];
	uint64_t pdpt[ENTRIES];
	uint64_t directories[DIRECTORIES][ENTRIES];
};
_Static_assert(BOOT_PAGE_TABLES + sizeof(struct page_tables) < BOOT_STACK - 1024,
	       "page tables and a small stack fit");

/* Pages of 2 MiB, not of 1 GiB: no CPU model need have those. */
static int write_page_tables(struct memory *memory)
{
	struct page_tables *tables = memory_at(memory, gpa(BOOT_PAGE_TABLES), sizeof(*tables),
					       MEMORY_WRITE);
	uint64_t at = BOOT_PAGE_TABLES;

	if (!tables)
		return -EFAULT;
	memset(tables, 0, sizeof(*tables));
	tables->pml4[0] = (at + offsetof(struct page_tables, pdpt)) | PAGE_PRESENT_WRITE;
	for (uint64_t d = 0; d < DIRECTORIES; d++) {
		tables->pdpt[d] =
			(at + offsetof(struct page_tables, directories) + d * MEMORY_PAGE_SIZE) |
			PAGE_PRESENT_WRITE;
		for (uint64_t i = 0; i < ENTRIES; i++)
			tables->directories[d][i] = GIB(d) | MIB(2 * i) | PAGE_PRESENT_WRITE |
						    PAGE_LARGE;
	}
	memory_mark_dirty(memory, gpa(BOOT_PAGE_TABLES), sizeof(*tables));
	return 0;
}

/* What the entry needs around the kernel: descriptors and, for 64-bit code, page tables. */
static int write_start(struct memory *memory, const struct cpu_start *start)
{
	uint64_t gdt[CPU_START_GDT_ENTRIES];
	int r;

	cpu_start_gdt(start->mode, gdt);
	r = memory_write(memory, gpa(start->gdt), gdt, sizeof(gdt));
	if (r == 0 && start->mode == CPU_START_LONG64)
		r = write_page_tables(memory);
	return r;
}

static int load_kernel(const struct boot_load *load, struct boot_entry *ret_entry,
		       struct error *err)
{
	_Alignas(8) uint8_t head[ELF_HEAD];
	struct elf_kernel elf;
	struct bzimage bz;
	size_t len;
	int r;

	r = image_head(&load->kernel, head, sizeof(head), &len, err);
	if (r < 0)
		return r;
	if (bzimage_probe(head, len)) {
		r = bzimage_parse(&load->kernel, head, len, &bz, err);
		return r < 0 ? r : linux_load(load, &bz, ret_entry, err);
	}
	if (elf_probe(head, len)) {
		r = elf_parse(&load->kernel, head, len, &elf, err);
		return r < 0 ? r : pvh_load(load, &elf, ret_entry, err);
	}
	return image_refuse(
		&load->kernel, -ENOEXEC, err,
		"neither a bzImage nor an ELF file; name a Linux kernel (/boot/vmlinuz-...)");
}

static int prepare(const struct boot_request *request, struct boot_load *load, struct error *err)
{
	int r;

	r = image_open("--kernel", request->kernel_path, request->kernel_fd, LIMIT_KERNEL,
		       &load->kernel, err);
	if (r == 0 && request->initrd_fd >= 0)
		r = image_open("--initrd", request->initrd_path, request->initrd_fd, LIMIT_INITRD,
			       &load->initrd, err);
	if (r < 0)
		return r;
	r = e820_build(load->memory, request->reserved, request->n_reserved, &load->map);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "guest memory map: %s", strerror(-r));
	r = acpi_build(load->memory, request->acpi, &load->rsdp);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "ACPI tables: %s", strerror(-r));
	return 0;
}

int boot_load(struct memory *memory, const struct boot_request *request,
	      struct boot_entry *ret_entry, struct error *err)
{
	struct boot_load load = { .memory = memory, .request = request };
	struct boot_entry entry;
	int r;

	r = prepare(request, &load, err);
	if (r == 0)
		r = load_kernel(&load, &entry, err);
	if (r < 0)
		return r;
	r = write_start(memory, &entry.start);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "first page tables: %s", strerror(-r));
	*ret_entry = entry;
	return 0;
}
