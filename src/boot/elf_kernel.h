/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * An ELF kernel with a PVH entry, judged: program headers and the note XEN_ELFNOTE_PHYS32_ENTRY (type 18, name
 * "Xen"; Xen, docs/misc/pvh.pandoc). 32- and 64-bit files, little-endian.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "boot/image.h"

#define ELF_SEGMENTS_MAX 16
#define ELF_HEAD 4096 /* bytes of the file in which ELF header and program headers must lie */
#define ELF_NOTES_MAX KIB(64)

struct elf_segment {
	uint64_t offset, file_len; /* in the file */
	uint64_t at, len;	   /* in guest memory; len >= file_len, the rest is zero */
};

struct elf_kernel {
	uint64_t entry; /* guest address, below 4 GiB; set by elf_find_entry */
	size_t n_segments;
	struct elf_segment segments[ELF_SEGMENTS_MAX];
	size_t n_notes;
	struct elf_segment notes[ELF_SEGMENTS_MAX]; /* where notes stand in the file */
};

bool elf_probe(const uint8_t *head, size_t len);

/* Judges headers from the first `len` bytes. -ENOEXEC with a reason. The entry is not known yet. */
_must_check_ int elf_parse(const struct image *image, const uint8_t *head, size_t len,
			   struct elf_kernel *ret, struct error *err);

/* Looks for the PVH entry in the bytes of one PT_NOTE: true and `*ret_entry` when there is one. */
bool elf_find_entry(const uint8_t *notes, size_t len, uint64_t *ret_entry);
