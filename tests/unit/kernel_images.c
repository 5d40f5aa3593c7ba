/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel_images.h"

#include <asm/bootparam.h>
#include <assert.h>
#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/macros.h"

void kernel_image_bzimage(uint8_t image[KERNEL_IMAGE_BYTES])
{
	const struct setup_header header = {
		.setup_sects = 1,
		.syssize = KERNEL_IMAGE_PAYLOAD / 16,
		.boot_flag = 0xaa55,
		.jump = 0x66eb,
		.header = 0x53726448,
		.version = 0x020f,
		.loadflags = LOADED_HIGH,
		.code32_start = 0x100000,
		.initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000,
		.relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64,
		.cmdline_size = 2047,
		.pref_address = MIB(16),
		.init_size = MIB(32),
	};

	memset(image, 0, KERNEL_IMAGE_BYTES);
	memcpy(image + KERNEL_IMAGE_HEADER, &header, sizeof(header));
	for (size_t i = 0; i < KERNEL_IMAGE_PAYLOAD; i++)
		image[1024 + i] = (uint8_t)(i * 7 + 1);
}

void kernel_image_elf(uint8_t image[KERNEL_IMAGE_ELF_BYTES])
{
	const Elf64_Ehdr ehdr = {
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT },
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_phoff = sizeof(ehdr),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 2,
	};
	const Elf64_Phdr phdrs[] = {
		{ .p_type = PT_LOAD,
		  .p_offset = 4096,
		  .p_paddr = MIB(1),
		  .p_filesz = 4096,
		  .p_memsz = 8192 },
		{ .p_type = PT_NOTE, .p_offset = KERNEL_IMAGE_ELF_NOTE, .p_filesz = 44 },
	};
	/* A note of another kind first, then the entry. */
	const uint32_t notes[] = {
		4, 4, 6, 0x006e6558, 0, 4, 8, 18, 0x006e6558, MIB(1) + 16, 0,
	};

	memset(image, 0, KERNEL_IMAGE_ELF_BYTES);
	memcpy(image, &ehdr, sizeof(ehdr));
	memcpy(image + sizeof(ehdr), phdrs, sizeof(phdrs));
	memcpy(image + KERNEL_IMAGE_ELF_NOTE, notes, sizeof(notes));
	for (size_t i = 4096; i < KERNEL_IMAGE_ELF_BYTES; i++)
		image[i] = (uint8_t)(i * 5 + 3);
}

int kernel_image_file(const void *bytes, size_t len)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	assert(fd >= 0);
	assert(write(fd, bytes, len) == (ssize_t)len);
	return fd;
}
