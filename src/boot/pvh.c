/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/pvh.h"

#include <errno.h>
#include <string.h>

#include "base/endian.h"
#include "base/fd.h"
#include "base/limits.h"
#include "boot/layout.h"

#define START_INFO_MAGIC 0x336ec578
#define START_INFO_VERSION 1 /* the first with a memory map */

/* Xen, xen/include/public/arch-x86/hvm/start_info.h. */
struct start_info {
	le32_t magic, version, flags, n_modules;
	le64_t modules_at, cmdline_at, rsdp_at, map_at;
	le32_t n_map, reserved;
};
_Static_assert(sizeof(struct start_info) == 56, "as Xen has it");

struct module {
	le64_t at, len, cmdline_at, reserved;
};
_Static_assert(sizeof(struct module) == 32, "as Xen has it");

struct map_entry {
	le64_t start, len;
	le32_t type, reserved;
};
_Static_assert(sizeof(struct map_entry) == 24, "as Xen has it");
_Static_assert(BOOT_DATA + E820_MAX * sizeof(struct map_entry) <= BOOT_PAGE_TABLES, "the map fits");

static int find_entry(const struct image *image, struct elf_kernel *kernel, struct error *err)
{
	uint8_t _cleanup_(freep) *notes = malloc(ELF_NOTES_MAX);

	if (!notes)
		return -ENOMEM;
	for (size_t i = 0; i < kernel->n_notes; i++) {
		int r = fd_read_at(image->fd, notes, kernel->notes[i].file_len,
				   kernel->notes[i].offset);

		if (r < 0)
			return image_refuse(image, r, err, strerror(-r));
		if (elf_find_entry(notes, kernel->notes[i].file_len, &kernel->entry))
			return 0;
	}
	return image_refuse(
		image, -ENOEXEC, err,
		"an ELF file without a PVH entry; name a bzImage (vmlinuz) or a kernel built "
		"with CONFIG_PVH");
}

static int load_segment(const struct boot_load *load, const struct elf_segment *segment,
			struct error *err)
{
	int r;

	if (!e820_is_ram(&load->map, segment->at, segment->len))
		return error_set(
			err, -ENOSPC, EXIT_STATUS_RESOURCE,
			"%s %s: wants %llu KiB at %#llx, where the guest has no RAM; give it more "
			"with --memory",
			load->kernel.option, load->kernel.path,
			(unsigned long long)segment->len >> 10, (unsigned long long)segment->at);
	if (segment->file_len > 0) {
		r = image_load(&load->kernel, segment->offset, segment->file_len, load->memory,
			       gpa(segment->at), err);
		if (r < 0)
			return r;
	}
	return memory_fill(load->memory, gpa(segment->at + segment->file_len), 0,
			   segment->len - segment->file_len);
}

static int load_segments(const struct boot_load *load, const struct elf_kernel *kernel,
			 uint64_t *ret_end, struct error *err)
{
	uint64_t end = 0;
	bool entry_inside = false;

	for (size_t i = 0; i < kernel->n_segments; i++) {
		const struct elf_segment *segment = &kernel->segments[i];
		int r = load_segment(load, segment, err);

		if (r < 0)
			return r;
		end = MAX(end, segment->at + segment->len);
		entry_inside |= kernel->entry >= segment->at &&
				kernel->entry - segment->at < segment->len;
	}
	if (!entry_inside)
		return image_refuse(&load->kernel, -ENOEXEC, err,
				    "its PVH entry lies outside of it");
	*ret_end = end;
	return 0;
}

static int write_map(const struct boot_load *load)
{
	struct map_entry entries[E820_MAX] = { 0 };

	for (size_t i = 0; i < load->map.n; i++) {
		entries[i].start = le64_make(load->map.ranges[i].start);
		entries[i].len = le64_make(load->map.ranges[i].len);
		entries[i].type = le32_make(load->map.ranges[i].type);
	}
	return memory_write(load->memory, gpa(BOOT_DATA), entries,
			    load->map.n * sizeof(entries[0]));
}

static int write_info(const struct boot_load *load, uint64_t initrd_at)
{
	bool has_initrd = load->initrd.size > 0;
	struct module module = {
		.at = le64_make(initrd_at),
		.len = le64_make(load->initrd.size),
	};
	struct start_info info = {
		.magic = le32_make(START_INFO_MAGIC),
		.version = le32_make(START_INFO_VERSION),
		.n_modules = le32_make(has_initrd ? 1 : 0),
		.modules_at = le64_make(has_initrd ? BOOT_MODULES : 0),
		.cmdline_at = le64_make(BOOT_CMDLINE),
		.rsdp_at = le64_make(load->rsdp.v),
		.map_at = le64_make(BOOT_DATA),
		.n_map = le32_make((uint32_t)load->map.n),
	};
	int r;

	r = write_map(load);
	if (r == 0)
		r = memory_write(load->memory, gpa(BOOT_MODULES), &module, sizeof(module));
	if (r == 0)
		r = memory_write(load->memory, gpa(BOOT_INFO), &info, sizeof(info));
	return r;
}

int pvh_load(const struct boot_load *load, struct elf_kernel *kernel, struct boot_entry *ret_entry,
	     struct error *err)
{
	uint64_t end = 0, initrd_at;
	int r;

	r = find_entry(&load->kernel, kernel, err);
	if (r < 0)
		return r;
	r = load_segments(load, kernel, &end, err);
	if (r < 0)
		return r;
	r = place_cmdline(load, LIMIT_CMDLINE - 1, err);
	if (r < 0)
		return r;
	r = place_initrd(load, end, GIB(4), &initrd_at, err);
	if (r < 0)
		return r;
	r = write_info(load, initrd_at);
	if (r < 0)
		return image_refuse(&load->kernel, r, err, "its start info cannot be written");
	*ret_entry = (struct boot_entry){
		.protocol = BOOT_PVH,
		.start = {
			.mode = CPU_START_FLAT32,
			.rip = kernel->entry,
			.rbx = BOOT_INFO,
			.gdt = BOOT_GDT,
		},
	};
	return 0;
}
