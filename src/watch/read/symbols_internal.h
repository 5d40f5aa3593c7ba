/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the readers of symbol files share. */

#include "base/buffer.h"
#include "watch/read/symbols.h"

struct symbol {
	uint64_t address;
	uint64_t size;	 /* 0: not known */
	uint32_t name;	 /* in `names` */
	uint32_t module; /* the same; 0: none */
};

struct symbols {
	struct symbol *list; /* sorted by address once loaded */
	size_t n, capacity;
	struct buffer names; /* texts with their NUL; the first is empty */
};

/* Copies the texts; `module` may be empty. -ENOMEM; -E2BIG: over a limit. Names without a character are passed over. */
_must_check_ int symbols_add(struct symbols *symbols, uint64_t address, uint64_t size,
			     const char *name, size_t name_len, const char *module,
			     size_t module_len);

/* An ELF file, recognised by its magic number. 0; -ENOEXEC: it is damaged, or of another kind; other negative errno. */
_must_check_ int symbols_read_elf(int fd, uint64_t slide, struct symbols *symbols);
/* `len` bytes at `offset`: 0; -ENOEXEC: the file ends before; other negative errno. */
_must_check_ int symbols_pread(int fd, void *buf, size_t len, uint64_t offset);
