/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Names for addresses of guest code, from a file that the user names: an ELF file with a symbol table (vmlinux, a
 * module), a System.map, or a copy of the guest's /proc/kallsyms (which knows about KASLR and modules). Untrusted: an
 * error, never a crash.
 */

#include "base/error.h"

struct symbols;

/* `slide` is added to every address (KASLR's offset for an ELF file or a System.map). Errors name the path. */
_must_check_ int symbols_load(const char *path, uint64_t slide, struct symbols **ret_symbols,
			      struct error *err);
void symbols_free(struct symbols *symbols);

/* "name+0x12" into the buffer; false (and "") when the address is in no function known. NULL symbols know none. */
bool symbols_find(const struct symbols *symbols, uint64_t address, char *ret_text, size_t size);
