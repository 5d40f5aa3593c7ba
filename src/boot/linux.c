/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/linux.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "boot/layout.h"
#include "boot/place.h"

#define LOADER_UNDEFINED 0xff
#define VIDEO_NORMAL 0xffff
#define ENTRY64 0x200 /* from the load address */
#define SEED_BYTES 32

/*
 * Where the protected-mode code goes. At the address that the kernel prefers it need not move itself; where
 * that is no RAM, a relocatable kernel takes the lowest place. Either way `room` bytes must be RAM: the kernel
 * unpacks itself there, and chooses its final address (KASLR) from e820 only afterwards.
 */
static int place_kernel(const struct boot_load *load, const struct bzimage *bz, uint64_t *ret_at,
			struct error *err)
{
	if (bz->preferred >= BOOT_HIGH && IS_ALIGNED(bz->preferred, bz->alignment) &&
	    range_fits(bz->preferred, bz->room, GIB(4)) &&
	    e820_is_ram(&load->map, bz->preferred, bz->room)) {
		*ret_at = bz->preferred;
		return 0;
	}
	if (bz->relocatable &&
	    e820_find_low(&load->map, bz->room, bz->alignment, BOOT_HIGH, GIB(4), ret_at) == 0)
		return 0;
	return error_set(err, -ENOSPC, EXIT_STATUS_RESOURCE,
			 "%s %s: needs %llu MiB at %#llx to unpack itself, and --memory gives less",
			 load->kernel.option, load->kernel.path,
			 (unsigned long long)(bz->room + MIB(1) - 1) >> 20,
			 (unsigned long long)bz->preferred);
}

/* The list of one element that seeds the guest's random generator (boot_params.hdr.setup_data). */
static int write_seed(struct memory *memory)
{
	struct {
		struct setup_data head;
		uint8_t seed[SEED_BYTES];
	} __attribute__((packed)) data = {
		.head = { .type = SETUP_RNG_SEED, .len = SEED_BYTES },
	};
	int r;

	if (getrandom(data.seed, sizeof(data.seed), 0) != sizeof(data.seed))
		return -EIO;
	r = memory_write(memory, gpa(BOOT_DATA), &data, sizeof(data));
	explicit_bzero(&data, sizeof(data));
	return r;
}

static void fill_e820(const struct e820_map *map, struct boot_params *params)
{
	_Static_assert(E820_MAX == E820_MAX_ENTRIES_ZEROPAGE, "as many as boot_params holds");

	params->e820_entries = (uint8_t)map->n;
	for (size_t i = 0; i < map->n; i++)
		params->e820_table[i] = (struct boot_e820_entry){
			.addr = map->ranges[i].start,
			.size = map->ranges[i].len,
			.type = map->ranges[i].type,
		};
}

static int write_params(const struct boot_load *load, const struct bzimage *bz, uint64_t kernel_at,
			uint64_t initrd_at)
{
	struct boot_params params = { 0 };
	struct setup_header *header = &params.hdr;

	*header = bz->header;
	header->type_of_loader = LOADER_UNDEFINED;
	header->vid_mode = VIDEO_NORMAL;
	header->code32_start = (uint32_t)kernel_at;
	header->cmd_line_ptr = BOOT_CMDLINE;
	header->ramdisk_image = (uint32_t)initrd_at;
	header->ramdisk_size = (uint32_t)load->initrd.size;
	header->setup_data = bz->header.version >= 0x0209 ? BOOT_DATA : 0;
	params.acpi_rsdp_addr = load->rsdp.v;
	fill_e820(&load->map, &params);
	return memory_write(load->memory, gpa(BOOT_INFO), &params, sizeof(params));
}

static struct boot_entry entry_of(const struct bzimage *bz, uint64_t kernel_at)
{
	return (struct boot_entry){
		.protocol = bz->entry64 ? BOOT_LINUX64 : BOOT_LINUX32,
		.start = {
			.mode = bz->entry64 ? CPU_START_LONG64 : CPU_START_FLAT32,
			.rip = kernel_at + (bz->entry64 ? ENTRY64 : 0),
			.rsp = BOOT_STACK,
			.rsi = BOOT_INFO,
			.cr3 = bz->entry64 ? BOOT_PAGE_TABLES : 0,
			.gdt = BOOT_GDT,
		},
	};
}

int linux_load(const struct boot_load *load, const struct bzimage *bz, struct boot_entry *ret_entry,
	       struct error *err)
{
	uint64_t kernel_at, initrd_at = 0;
	int r;

	r = place_kernel(load, bz, &kernel_at, err);
	if (r < 0)
		return r;
	r = place_cmdline(load, bz->cmdline_max, err);
	if (r < 0)
		return r;
	r = image_load(&load->kernel, bz->payload_offset, bz->payload_len, load->memory,
		       gpa(kernel_at), err);
	if (r < 0)
		return r;
	r = place_initrd(load, kernel_at + bz->room, bz->initrd_limit, &initrd_at, err);
	if (r < 0)
		return r;
	r = write_seed(load->memory);
	if (r == 0)
		r = write_params(load, bz, kernel_at, initrd_at);
	if (r < 0)
		return image_refuse(&load->kernel, r, err, "its boot parameters cannot be written");
	*ret_entry = entry_of(bz, kernel_at);
	return 0;
}
