/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels made by hand, loaded into real guest memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <asm/bootparam.h>
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/boot.h"
#include "boot/e820.h"
#include "boot/layout.h"
#include "kernel_images.h"

struct fixture {
	struct memory *memory;
	struct boot_request request;
	struct boot_entry entry;
	struct boot_params params; /* what the kernel would read */
	struct error err;
	uint8_t bzimage[KERNEL_IMAGE_BYTES];
	uint8_t elf[KERNEL_IMAGE_ELF_BYTES];
	struct setup_header *header;
};

static const struct acpi_params acpi = {
	.cpus = 2,
	.cpus_max = 4,
	.ecam_base = 0xb0000000,
	.ecam_len = MIB(1),
	.sci_gsi = 9,
};
static const struct boot_reserved reserved[] = { { 0xb0000000, 0x10000000 } };

static int setup_with(void **state, uint64_t ram)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));

	assert_int_equal(memory_create(ram, 0xb0000000, GIB(4), MEMORY_HUGE_OFF, -1,
				       &fixture->memory, &fixture->err),
			 0);
	kernel_image_bzimage(fixture->bzimage);
	kernel_image_elf(fixture->elf);
	fixture->header = (struct setup_header *)(fixture->bzimage + KERNEL_IMAGE_HEADER);
	fixture->request = (struct boot_request){
		.kernel_fd = -1,
		.kernel_path = "vmlinuz",
		.initrd_fd = -1,
		.initrd_path = "initrd",
		.cmdline = "console=ttyS0",
		.acpi = &acpi,
		.reserved = reserved,
		.n_reserved = ARRAY_SIZE(reserved),
	};
	*state = fixture;
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, MIB(256));
}

static int setup_small(void **state)
{
	return setup_with(state, MIB(40));
}

static int setup_tiny(void **state)
{
	return setup_with(state, MIB(32));
}

static int setup_large(void **state)
{
	return setup_with(state, GIB(3));
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;

	memory_free(fixture->memory);
	free(fixture);
	return 0;
}

static int load(struct fixture *fixture, const void *image, size_t len)
{
	int r;

	memset(&fixture->err, 0, sizeof(fixture->err));
	fixture->request.kernel_fd = kernel_image_file(image, len);
	r = boot_load(fixture->memory, &fixture->request, &fixture->entry, &fixture->err);
	close(fixture->request.kernel_fd);
	if (r == 0)
		assert_int_equal(memory_read(fixture->memory, gpa(BOOT_INFO), &fixture->params,
					     sizeof(fixture->params)),
				 0);
	return r;
}

static int load_bzimage(struct fixture *fixture)
{
	return load(fixture, fixture->bzimage, sizeof(fixture->bzimage));
}

static uint64_t read_u64(struct fixture *fixture, uint64_t at)
{
	uint64_t value;

	assert_int_equal(memory_read(fixture->memory, gpa(at), &value, sizeof(value)), 0);
	return value;
}

static void assert_bytes(struct fixture *fixture, uint64_t at, const void *expected, size_t len)
{
	void *bytes = malloc(len);

	assert_int_equal(memory_read(fixture->memory, gpa(at), bytes, len), 0);
	assert_memory_equal(bytes, expected, len);
	free(bytes);
}

/* The guest-physical address that a virtual one leads to by the page tables that were written. */
static uint64_t walk(struct fixture *fixture, uint64_t address)
{
	uint64_t entry = read_u64(fixture, fixture->entry.start.cr3 + (address >> 39 & 511) * 8);

	assert_true(entry & 1);
	entry = read_u64(fixture, (entry & ~0xfffULL) + (address >> 30 & 511) * 8);
	assert_true(entry & 1);
	entry = read_u64(fixture, (entry & ~0xfffULL) + (address >> 21 & 511) * 8);
	assert_int_equal(entry & 0x83, 0x83);
	return (entry & ~0x1fffffULL) | (address & 0x1fffff);
}

static void test_linux_at_its_preferred_address(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(load_bzimage(fixture), 0);
	assert_int_equal(fixture->entry.protocol, BOOT_LINUX64);
	assert_int_equal(fixture->entry.start.mode, CPU_START_LONG64);
	assert_int_equal(fixture->entry.start.rip, MIB(16) + 0x200);
	assert_int_equal(fixture->entry.start.rsi, BOOT_INFO);
	assert_bytes(fixture, MIB(16), fixture->bzimage + 1024, KERNEL_IMAGE_PAYLOAD);
	assert_int_equal(fixture->params.hdr.code32_start, MIB(16));
	assert_int_equal(fixture->params.hdr.type_of_loader, 0xff);
	assert_int_equal(fixture->params.hdr.init_size, MIB(32));
	assert_int_equal(fixture->params.sentinel, 0);
}

static void test_linux_command_line(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(load_bzimage(fixture), 0);
	assert_bytes(fixture, fixture->params.hdr.cmd_line_ptr, "console=ttyS0", 14);
}

static void test_command_line_longer_than_the_kernel_takes(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->cmdline_size = 12;
	assert_int_equal(load_bzimage(fixture), -E2BIG);
	assert_non_null(strstr(fixture->err.message, "--cmdline"));
	fixture->header->cmdline_size = 13;
	assert_int_equal(load_bzimage(fixture), 0);
}

static void test_linux_memory_map(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(load_bzimage(fixture), 0);
	assert_int_equal(fixture->params.e820_entries, 5);
	assert_int_equal(fixture->params.e820_table[3].addr, MIB(1));
	assert_int_equal(fixture->params.e820_table[3].size, MIB(255));
	assert_int_equal(fixture->params.e820_table[3].type, E820_RAM);
}

static void test_linux_finds_acpi(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(load_bzimage(fixture), 0);
	assert_bytes(fixture, fixture->params.acpi_rsdp_addr, "RSD PTR ", 8);
}

static void test_linux_gets_a_seed_that_differs(void **state)
{
	struct fixture *fixture = *state;
	struct setup_data head;
	uint64_t first;

	assert_int_equal(load_bzimage(fixture), 0);
	assert_int_equal(memory_read(fixture->memory, gpa(fixture->params.hdr.setup_data), &head,
				     sizeof(head)),
			 0);
	assert_int_equal(head.type, SETUP_RNG_SEED);
	assert_int_equal(head.len, 32);
	assert_int_equal(head.next, 0);
	first = read_u64(fixture, fixture->params.hdr.setup_data + sizeof(head));
	assert_int_equal(load_bzimage(fixture), 0);
	assert_int_not_equal(first,
			     read_u64(fixture, fixture->params.hdr.setup_data + sizeof(head)));
}

static void test_page_tables_map_4_gib_to_itself(void **state)
{
	static const uint64_t addresses[] = { 0,	  0x7000,     MIB(16) + 0x200,
					      0xb0001234, 0xfee00000, GIB(4) - 1 };
	struct fixture *fixture = *state;

	assert_int_equal(load_bzimage(fixture), 0);
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++)
		assert_int_equal(walk(fixture, addresses[i]), addresses[i]);
}

static void test_descriptors_are_flat(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(load_bzimage(fixture), 0);
	assert_int_equal(read_u64(fixture, fixture->entry.start.gdt + CPU_START_CS),
			 0x00af9b000000ffff);
	assert_int_equal(read_u64(fixture, fixture->entry.start.gdt + CPU_START_DS),
			 0x00cf93000000ffff);
	fixture->header->xloadflags = 0;
	assert_int_equal(load_bzimage(fixture), 0);
	assert_int_equal(read_u64(fixture, fixture->entry.start.gdt + CPU_START_CS),
			 0x00cf9b000000ffff);
}

static void test_linux_32_bit_entry(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->xloadflags = 0;
	assert_int_equal(load_bzimage(fixture), 0);
	assert_int_equal(fixture->entry.protocol, BOOT_LINUX32);
	assert_int_equal(fixture->entry.start.mode, CPU_START_FLAT32);
	assert_int_equal(fixture->entry.start.rip, MIB(16));
	assert_int_equal(fixture->entry.start.rsi, BOOT_INFO);
}

static void test_old_protocol_has_defaults(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->version = 0x0205;
	fixture->header->relocatable_kernel = 0;
	assert_int_equal(load_bzimage(fixture), 0);
	assert_int_equal(fixture->entry.start.rip, MIB(1));
	assert_int_equal(fixture->params.hdr.setup_data, 0);
}

static void test_relocatable_kernel_takes_the_lowest_place(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(load_bzimage(fixture), 0);
	assert_int_equal(fixture->entry.start.rip, MIB(2) + 0x200);
}

static void test_fixed_kernel_without_room(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->relocatable_kernel = 0;
	assert_int_equal(load_bzimage(fixture), -ENOSPC);
	assert_non_null(strstr(fixture->err.message, "--memory"));
}

static void test_kernel_larger_than_memory(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(load_bzimage(fixture), -ENOSPC);
}

static void test_initrd_lies_high_and_below_the_limit(void **state)
{
	struct fixture *fixture = *state;
	static const char initrd[5000] = "initial RAM disk";

	fixture->request.initrd_fd = kernel_image_file(initrd, sizeof(initrd));
	assert_int_equal(load_bzimage(fixture), 0);
	assert_int_equal(fixture->params.hdr.ramdisk_image, GIB(2) - 8192);
	assert_int_equal(fixture->params.hdr.ramdisk_size, sizeof(initrd));
	assert_bytes(fixture, GIB(2) - 8192, initrd, sizeof(initrd));
	close(fixture->request.initrd_fd);
}

static void test_initrd_never_touches_the_kernel(void **state)
{
	struct fixture *fixture = *state;
	static const char initrd[5000] = "initial RAM disk";

	fixture->request.initrd_fd = kernel_image_file(initrd, sizeof(initrd));
	fixture->header->initrd_addr_max = (uint32_t)(MIB(48) + 4095);
	assert_int_equal(load_bzimage(fixture), -ENOSPC);
	assert_non_null(strstr(fixture->err.message, "--initrd"));
	fixture->header->initrd_addr_max = (uint32_t)(MIB(48) + 8191);
	assert_int_equal(load_bzimage(fixture), 0);
	assert_int_equal(fixture->params.hdr.ramdisk_image, MIB(48));
	close(fixture->request.initrd_fd);
}

static void test_cut_off_bzimage(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(load(fixture, fixture->bzimage, 1024 + 100), -ENOEXEC);
	assert_int_equal(load(fixture, fixture->bzimage, 1024), -ENOEXEC);
	assert_int_equal(load(fixture, fixture->bzimage, 0x200), -ENOEXEC);
}

static void test_signature_behind_the_kernel_is_not_loaded(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->syssize = 16;
	assert_int_equal(load_bzimage(fixture), 0);
	assert_bytes(fixture, MIB(16), fixture->bzimage + 1024, 256);
	assert_int_equal(read_u64(fixture, MIB(16) + 256), 0);
}

static void test_real_mode_image_is_refused_with_a_reason(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->version = 0x0203;
	assert_int_equal(load_bzimage(fixture), -ENOEXEC);
	assert_non_null(strstr(fixture->err.message, "real mode"));
	/* As iPXE is: a payload that is no code. */
	fixture->header->version = 0x0207;
	fixture->header->xloadflags = 0;
	fixture->header->code32_start = 0;
	assert_int_equal(load_bzimage(fixture), -ENOEXEC);
	assert_non_null(strstr(fixture->err.message, "real mode"));
}

static void test_bad_alignment(void **state)
{
	struct fixture *fixture = *state;

	fixture->header->kernel_alignment = 0x300000;
	assert_int_equal(load_bzimage(fixture), -ENOEXEC);
	fixture->header->kernel_alignment = 0x80000000;
	assert_int_equal(load_bzimage(fixture), -ENOEXEC);
}

static void test_files_that_are_no_kernel(void **state)
{
	struct fixture *fixture = *state;

	assert_int_equal(load(fixture, "#!/bin/sh\n", 10), -ENOEXEC);
	assert_non_null(strstr(fixture->err.message, "--kernel vmlinuz"));
	assert_int_equal(load(fixture, "", 0), -ENODATA);
	fixture->request.kernel_fd = -1;
	assert_int_equal(boot_load(fixture->memory, &fixture->request, &fixture->entry,
				   &fixture->err),
			 -EBADF);
}

static void test_pvh_kernel(void **state)
{
	struct fixture *fixture = *state;
	static const uint8_t zeroes[4096];
	static const char initrd[] = "module";

	fixture->request.initrd_fd = kernel_image_file(initrd, sizeof(initrd));
	assert_int_equal(load(fixture, fixture->elf, sizeof(fixture->elf)), 0);
	assert_int_equal(fixture->entry.protocol, BOOT_PVH);
	assert_int_equal(fixture->entry.start.mode, CPU_START_FLAT32);
	assert_int_equal(fixture->entry.start.rip, MIB(1) + 16);
	assert_int_equal(fixture->entry.start.rbx, BOOT_INFO);
	assert_bytes(fixture, MIB(1), fixture->elf + 4096, 4096);
	assert_bytes(fixture, MIB(1) + 4096, zeroes, 4096);
	close(fixture->request.initrd_fd);
}

static void test_pvh_start_info(void **state)
{
	struct fixture *fixture = *state;
	static const char initrd[] = "module";
	uint64_t module;

	fixture->request.initrd_fd = kernel_image_file(initrd, sizeof(initrd));
	assert_int_equal(load(fixture, fixture->elf, sizeof(fixture->elf)), 0);
	assert_int_equal(read_u64(fixture, BOOT_INFO), 0x1336ec578);	/* magic, version 1 */
	assert_int_equal(read_u64(fixture, BOOT_INFO + 8), 1ULL << 32); /* flags, one module */
	module = read_u64(fixture, BOOT_INFO + 16);
	assert_bytes(fixture, read_u64(fixture, module), initrd, sizeof(initrd));
	assert_int_equal(read_u64(fixture, module + 8), sizeof(initrd));
	assert_bytes(fixture, read_u64(fixture, BOOT_INFO + 24), "console=ttyS0", 14);
	assert_bytes(fixture, read_u64(fixture, BOOT_INFO + 32), "RSD PTR ", 8);
	assert_int_equal(read_u64(fixture, read_u64(fixture, BOOT_INFO + 40) + 8), 0x9fc00);
	assert_int_equal(read_u64(fixture, BOOT_INFO + 48), 5); /* entries of the map */
	close(fixture->request.initrd_fd);
}

/* One way to break the ELF file each. */
static void test_pvh_refusals(void **state)
{
	struct fixture *fixture = *state;
	Elf64_Ehdr *ehdr = (Elf64_Ehdr *)fixture->elf;
	Elf64_Phdr *load_header = (Elf64_Phdr *)(fixture->elf + sizeof(*ehdr));
	uint64_t *entry = (uint64_t *)(fixture->elf + KERNEL_IMAGE_ELF_NOTE + 36);
	struct {
		void *at;
		size_t len;
		uint64_t bad;
		int error;
	} cases[] = {
		{ &ehdr->e_machine, 2, EM_AARCH64, -ENOEXEC },
		{ &ehdr->e_phoff, 8, 4090, -ENOEXEC },
		{ &ehdr->e_phoff, 8, UINT64_MAX, -ENOEXEC },
		{ &ehdr->e_phentsize, 2, 8, -ENOEXEC },
		{ &ehdr->e_phnum, 2, 0, -ENOEXEC },
		{ &ehdr->e_ident[EI_CLASS], 1, 7, -ENOEXEC },
		{ &ehdr->e_ident[EI_DATA], 1, ELFDATA2MSB, -ENOEXEC },
		{ &load_header->p_paddr, 8, 0x8000, -ENOEXEC },
		{ &load_header->p_paddr, 8, UINT64_MAX - 100, -ENOEXEC },
		{ &load_header->p_paddr, 8, GIB(1), -ENOSPC },
		{ &load_header->p_filesz, 8, 8000, -ENOEXEC },
		{ &load_header->p_offset, 8, 8000, -ENOEXEC },
		{ &load_header->p_memsz, 8, 4000, -ENOEXEC },
		{ entry, 4, MIB(3), -ENOEXEC },
		{ entry - 2, 4, 17, -ENOEXEC }, /* the note's type */
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t good = 0;

		memcpy(&good, cases[i].at, cases[i].len);
		memcpy(cases[i].at, &cases[i].bad, cases[i].len);
		assert_int_equal(load(fixture, fixture->elf, sizeof(fixture->elf)), cases[i].error);
		memcpy(cases[i].at, &good, cases[i].len);
	}
	assert_int_equal(load(fixture, fixture->elf, sizeof(fixture->elf)), 0);
}

int main(void)
{
#define TEST(name, setup_function) cmocka_unit_test_setup_teardown(name, setup_function, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_linux_at_its_preferred_address, setup),
		TEST(test_linux_command_line, setup),
		TEST(test_command_line_longer_than_the_kernel_takes, setup),
		TEST(test_linux_memory_map, setup),
		TEST(test_linux_finds_acpi, setup),
		TEST(test_linux_gets_a_seed_that_differs, setup),
		TEST(test_page_tables_map_4_gib_to_itself, setup),
		TEST(test_descriptors_are_flat, setup),
		TEST(test_linux_32_bit_entry, setup),
		TEST(test_old_protocol_has_defaults, setup),
		TEST(test_relocatable_kernel_takes_the_lowest_place, setup_small),
		TEST(test_fixed_kernel_without_room, setup_small),
		TEST(test_kernel_larger_than_memory, setup_tiny),
		TEST(test_initrd_lies_high_and_below_the_limit, setup_large),
		TEST(test_initrd_never_touches_the_kernel, setup),
		TEST(test_cut_off_bzimage, setup),
		TEST(test_signature_behind_the_kernel_is_not_loaded, setup),
		TEST(test_real_mode_image_is_refused_with_a_reason, setup),
		TEST(test_bad_alignment, setup),
		TEST(test_files_that_are_no_kernel, setup),
		TEST(test_pvh_kernel, setup),
		TEST(test_pvh_start_info, setup),
		TEST(test_pvh_refusals, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
