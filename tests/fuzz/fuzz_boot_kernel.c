/* SPDX-License-Identifier: Apache-2.0 */
/* Any file as kernel, with any size of initrd and command line, into a small guest.
 * covers: boot/boot.c boot/bzimage.c boot/elf_kernel.c boot/linux.c boot/place.c boot/pvh.c */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "boot/boot.h"
#include "boot/layout.h"

/* The input's first bytes; the kernel follows. */
struct choices {
	uint8_t cmdline_len; /* in units of 32 bytes */
	uint8_t initrd_kib;
	uint8_t large; /* bit 0: 40 MiB of RAM, else 34 */
};

static const struct acpi_params acpi = {
	.cpus = 1,
	.cpus_max = 2,
	.ecam_base = 0xb0000000,
	.ecam_len = MIB(1),
	.sci_gsi = 9,
};
static const struct boot_reserved reserved[] = { { MIB(33), MIB(1) } };

static int file_of(const void *bytes, size_t len, size_t size)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	assert(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	assert(pwrite(fd, bytes, len, 0) == (ssize_t)len);
	return fd;
}

/* One for each size, made once: making it is most of the work. */
static struct memory *guest_memory(uint64_t size)
{
	static struct memory *memories[2];
	struct memory **memory = &memories[size > MIB(34)];

	if (!*memory)
		assert(memory_create(size, GIB(2), GIB(4), MEMORY_HUGE_OFF, -1, memory, NULL) == 0);
	return *memory;
}

static void read_guest(struct memory *memory, uint64_t at, void *buf, size_t len)
{
	assert(memory_read(memory, gpa(at), buf, len) == 0);
}

/* Whatever the kernel's file says, it lies in RAM above 1 MiB and boot's own pages are whole. */
static void check_loaded(struct memory *memory, const struct boot_entry *entry)
{
	uint64_t gdt[CPU_START_GDT_ENTRIES], expected[CPU_START_GDT_ENTRIES];
	char rsdp[8];

	cpu_start_gdt(entry->start.mode, expected);
	read_guest(memory, BOOT_GDT, gdt, sizeof(gdt));
	assert(memcmp(gdt, expected, sizeof(gdt)) == 0);
	read_guest(memory, ACPI_AT + MEMORY_PAGE_SIZE, rsdp, sizeof(rsdp));
	assert(memcmp(rsdp, "RSD PTR ", sizeof(rsdp)) == 0);
	assert(entry->start.rip >= BOOT_HIGH);
	assert(memory_contains(memory, gpa(entry->start.rip), 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char cmdline[256 * 32];
	struct boot_request request = {
		.kernel_path = "kernel",
		.initrd_path = "initrd",
		.initrd_fd = -1,
		.cmdline = cmdline,
		.acpi = &acpi,
		.reserved = reserved,
		.n_reserved = ARRAY_SIZE(reserved),
	};
	struct boot_entry entry;
	struct choices choices;
	struct error err = { 0 };
	struct memory *memory;

	if (size < sizeof(choices))
		return 0;
	memcpy(&choices, data, sizeof(choices));
	memory = guest_memory(choices.large & 1 ? MIB(40) : MIB(34));
	memset(cmdline, 'x', sizeof(cmdline));
	cmdline[choices.cmdline_len * 32] = 0;
	request.kernel_fd = file_of(data + sizeof(choices), size - sizeof(choices),
				    size - sizeof(choices));
	if (choices.initrd_kib)
		request.initrd_fd = file_of("", 0, choices.initrd_kib * 1024);
	if (boot_load(memory, &request, &entry, &err) == 0)
		check_loaded(memory, &entry);
	else
		assert(err.code < 0 && err.message[0]);
	close(request.kernel_fd);
	if (request.initrd_fd >= 0)
		close(request.initrd_fd);
	return 0;
}
