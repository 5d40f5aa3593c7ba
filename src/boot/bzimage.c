/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/bzimage.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "boot/layout.h"

#define HEADER_AT offsetof(struct boot_params, hdr)
#define HEADER_MAGIC 0x53726448 /* "HdrS" */
#define BOOT_FLAG 0xaa55
#define SECTOR 512

/* Versions of the boot protocol that brought what we look at. */
#define VERSION_INITRD_MAX 0x0203
#define VERSION_RELOCATABLE 0x0205
#define VERSION_CMDLINE_SIZE 0x0206
#define VERSION_PREFERRED 0x020a
#define VERSION_ENTRY64 0x020c

#define OLD_INITRD_LIMIT 0x38000000ULL /* before 2.03 */
#define OLD_CMDLINE_MAX 255	       /* before 2.06 */

#define ALIGNMENT_MAX GIB(1)

/* How many bytes of the header the file has: its jump instruction at 0x200 leaps over it. */
static size_t header_length(const uint8_t *head, size_t len)
{
	size_t end = 0x202 + (size_t)head[0x201];

	end = MIN(end, HEADER_AT + sizeof(struct setup_header));
	return MIN(end, len) - HEADER_AT;
}

bool bzimage_probe(const uint8_t *head, size_t len)
{
	struct setup_header header;

	if (len < HEADER_AT + offsetof(struct setup_header, version) + sizeof(header.version))
		return false;
	memcpy(&header, head + HEADER_AT, offsetof(struct setup_header, version));
	return header.boot_flag == BOOT_FLAG && header.header == HEADER_MAGIC;
}

static int find_payload(const struct image *image, struct bzimage *bz, struct error *err)
{
	const struct setup_header *header = &bz->header;
	uint64_t sectors = header->setup_sects ? header->setup_sects : 4;
	uint64_t told = (uint64_t)header->syssize * 16;

	bz->payload_offset = (sectors + 1) * SECTOR;
	if (bz->payload_offset >= image->size)
		return image_refuse(image, -ENOEXEC, err, "a bzImage cut off in its header");
	bz->payload_len = image->size - bz->payload_offset;
	if (told > ALIGN_UP(bz->payload_len, 16))
		return image_refuse(image, -ENOEXEC, err,
				    "a bzImage cut off: its header tells more");
	if (told && told < bz->payload_len)
		bz->payload_len = told; /* a signature follows */
	return 0;
}

static int find_place(const struct image *image, struct bzimage *bz, struct error *err)
{
	const struct setup_header *header = &bz->header;

	bz->preferred = BOOT_HIGH;
	bz->alignment = MEMORY_PAGE_SIZE;
	bz->room = bz->payload_len;
	if (header->version >= VERSION_RELOCATABLE && header->relocatable_kernel) {
		bz->relocatable = true;
		bz->alignment = MAX(header->kernel_alignment, MEMORY_PAGE_SIZE);
	}
	if (header->version >= VERSION_PREFERRED) {
		bz->preferred = header->pref_address;
		bz->room = MAX(bz->room, header->init_size);
	}
	if (bz->alignment & (bz->alignment - 1) || bz->alignment > ALIGNMENT_MAX)
		return image_refuse(image, -ENOEXEC, err,
				    "a bzImage whose alignment is no power of two");
	return 0;
}

static void find_limits(struct bzimage *bz)
{
	const struct setup_header *header = &bz->header;

	bz->initrd_limit = OLD_INITRD_LIMIT;
	if (header->version >= VERSION_INITRD_MAX)
		bz->initrd_limit = (uint64_t)header->initrd_addr_max + 1;
	bz->cmdline_max = OLD_CMDLINE_MAX;
	if (header->version >= VERSION_CMDLINE_SIZE)
		bz->cmdline_max = header->cmdline_size;
	bz->entry64 = header->version >= VERSION_ENTRY64 && header->xloadflags & XLF_KERNEL_64;
}

/* Loaders in a bzImage's clothes (iPXE) say by an address of 0 that their payload is no code to enter. */
static bool has_protected_entry(const struct bzimage *bz)
{
	return bz->header.version >= VERSION_RELOCATABLE && bz->header.loadflags & LOADED_HIGH &&
	       (bz->entry64 || bz->header.code32_start != 0);
}

int bzimage_parse(const struct image *image, const uint8_t *head, size_t len, struct bzimage *ret,
		  struct error *err)
{
	struct bzimage bz = { 0 };
	int r;

	if (!bzimage_probe(head, len))
		return image_refuse(image, -ENOEXEC, err, "not a bzImage");
	memcpy(&bz.header, head + HEADER_AT, header_length(head, len));
	find_limits(&bz);
	if (!has_protected_entry(&bz))
		return image_refuse(
			image, -ENOEXEC, err,
			"a boot image that needs a BIOS (real mode); this monitor enters kernels in "
			"protected or long mode, boot protocol 2.05 or later");
	r = find_payload(image, &bz, err);
	if (r == 0)
		r = find_place(image, &bz, err);
	if (r < 0)
		return r;
	*ret = bz;
	return 0;
}
