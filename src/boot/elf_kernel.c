/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/elf_kernel.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/buffer.h"
#include "base/endian.h"
#include "boot/layout.h"

#define NOTE_NAME "Xen"
#define NOTE_PHYS32_ENTRY 18

bool elf_probe(const uint8_t *head, size_t len)
{
	return len >= EI_NIDENT && memcmp(head, ELFMAG, SELFMAG) == 0;
}

/* The fields that both classes of ELF have, in one width. */
struct header {
	uint64_t phoff, phnum, phentsize;
	uint64_t machine;
};

static int read_header(const uint8_t *head, size_t len, struct header *ret)
{
	if (head[EI_CLASS] == ELFCLASS64 && len >= sizeof(Elf64_Ehdr)) {
		Elf64_Ehdr ehdr;

		memcpy(&ehdr, head, sizeof(ehdr));
		*ret = (struct header){ ehdr.e_phoff, ehdr.e_phnum, ehdr.e_phentsize,
					ehdr.e_machine };
		return ehdr.e_phentsize == sizeof(Elf64_Phdr) ? 0 : -ENOEXEC;
	}
	if (head[EI_CLASS] == ELFCLASS32 && len >= sizeof(Elf32_Ehdr)) {
		Elf32_Ehdr ehdr;

		memcpy(&ehdr, head, sizeof(ehdr));
		*ret = (struct header){ ehdr.e_phoff, ehdr.e_phnum, ehdr.e_phentsize,
					ehdr.e_machine };
		return ehdr.e_phentsize == sizeof(Elf32_Phdr) ? 0 : -ENOEXEC;
	}
	return -ENOEXEC;
}

static uint32_t read_segment(const uint8_t *at, bool is_64bit, struct elf_segment *ret)
{
	if (is_64bit) {
		Elf64_Phdr phdr;

		memcpy(&phdr, at, sizeof(phdr));
		*ret = (struct elf_segment){ phdr.p_offset, phdr.p_filesz, phdr.p_paddr,
					     phdr.p_memsz };
		return phdr.p_type;
	} else {
		Elf32_Phdr phdr;

		memcpy(&phdr, at, sizeof(phdr));
		*ret = (struct elf_segment){ phdr.p_offset, phdr.p_filesz, phdr.p_paddr,
					     phdr.p_memsz };
		return phdr.p_type;
	}
}

/* Nothing below 1 MiB: boot's own pages and the ACPI tables are there. */
static bool segment_sane(const struct elf_segment *segment, const struct image *image)
{
	return range_fits(segment->offset, segment->file_len, image->size) &&
	       segment->file_len <= segment->len && segment->at >= BOOT_HIGH &&
	       range_fits(segment->at, segment->len, GIB(4));
}

static int add_segment(const struct image *image, uint32_t type, const struct elf_segment *segment,
		       struct elf_kernel *kernel, struct error *err)
{
	if (type == PT_LOAD && segment->len > 0) {
		if (kernel->n_segments == ELF_SEGMENTS_MAX || !segment_sane(segment, image))
			return image_refuse(
				image, -ENOEXEC, err,
				"an ELF kernel with a segment outside of the file, below 1 MiB "
				"or above 4 GiB, or with too many of them");
		kernel->segments[kernel->n_segments++] = *segment;
	}
	if (type == PT_NOTE && kernel->n_notes < ELF_SEGMENTS_MAX &&
	    range_fits(segment->offset, segment->file_len, image->size) &&
	    segment->file_len <= ELF_NOTES_MAX)
		kernel->notes[kernel->n_notes++] = *segment;
	return 0;
}

int elf_parse(const struct image *image, const uint8_t *head, size_t len, struct elf_kernel *ret,
	      struct error *err)
{
	struct elf_kernel kernel = { 0 };
	struct header header;
	int r;

	if (!elf_probe(head, len) || head[EI_DATA] != ELFDATA2LSB ||
	    read_header(head, len, &header) < 0)
		return image_refuse(image, -ENOEXEC, err,
				    "a damaged ELF file, or not for this processor");
	if (header.machine != EM_X86_64 && header.machine != EM_386)
		return image_refuse(image, -ENOEXEC, err,
				    "an ELF file for another processor than x86");
	if (!range_fits(header.phoff, header.phnum * header.phentsize, len))
		return image_refuse(image, -ENOEXEC, err,
				    "an ELF file whose program headers are not in its first 4 KiB");
	for (uint64_t i = 0; i < header.phnum; i++) {
		const uint8_t *at = head + header.phoff + i * header.phentsize;
		struct elf_segment segment;
		uint32_t type = read_segment(at, head[EI_CLASS] == ELFCLASS64, &segment);

		r = add_segment(image, type, &segment, &kernel, err);
		if (r < 0)
			return r;
	}
	if (kernel.n_segments == 0)
		return image_refuse(image, -ENOEXEC, err, "an ELF file with nothing to load");
	*ret = kernel;
	return 0;
}

bool elf_find_entry(const uint8_t *notes, size_t len, uint64_t *ret_entry)
{
	struct cursor cursor = { .data = notes, .left = len };

	while (!cursor.bad && cursor.left > 0) {
		uint32_t name_len = (uint32_t)cursor_take_le(&cursor, 4);
		uint32_t value_len = (uint32_t)cursor_take_le(&cursor, 4);
		uint32_t type = (uint32_t)cursor_take_le(&cursor, 4);
		const char *name = cursor_take(&cursor, ALIGN_UP(name_len, 4));
		const uint8_t *value = cursor_take(&cursor, ALIGN_UP(value_len, 4));

		if (!name || !value)
			return false;
		if (type != NOTE_PHYS32_ENTRY || name_len != sizeof(NOTE_NAME) ||
		    memcmp(name, NOTE_NAME, sizeof(NOTE_NAME)) != 0)
			continue;
		if (value_len != 4 && value_len != 8)
			continue;
		*ret_entry = le_load(value, value_len);
		return true;
	}
	return false;
}
