/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Functions of an ELF file's symbol table: 64-bit, little-endian, x86-64 (System V ABI, chapter 4). Only headers and
 * the table are read, so the size of a vmlinux with debug information does not matter. Each number of the file is checked
 * before it is used: files come from anywhere.
 */

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/limits.h"
#include "watch/read/symbols_internal.h"

#define SYMBOLS_AT_ONCE 1024

struct elf {
	int fd;
	Elf64_Ehdr header;
	Elf64_Shdr *sections; /* header.e_shnum of them */
	char *section_names;
	size_t names_len;
	char *texts; /* the symbols' names */
	size_t texts_len;
};

static void elf_release(struct elf *elf)
{
	free(elf->sections);
	free(elf->section_names);
	free(elf->texts);
}

static int read_header(struct elf *elf)
{
	Elf64_Ehdr *h = &elf->header;
	int r = symbols_pread(elf->fd, h, sizeof(*h), 0);

	if (r < 0)
		return r;
	if (h->e_ident[EI_CLASS] != ELFCLASS64 || h->e_ident[EI_DATA] != ELFDATA2LSB ||
	    h->e_machine != EM_X86_64 || h->e_shentsize != sizeof(Elf64_Shdr) || !h->e_shnum)
		return -ENOEXEC;
	return 0;
}

static int read_sections(struct elf *elf)
{
	elf->sections = calloc(elf->header.e_shnum, sizeof(*elf->sections));
	if (!elf->sections)
		return -ENOMEM;
	return symbols_pread(elf->fd, elf->sections, elf->header.e_shnum * sizeof(*elf->sections),
			     elf->header.e_shoff);
}

/* A section of strings, with a NUL of ours behind it. */
static int read_strings(struct elf *elf, uint32_t index, char **ret_strings, size_t *ret_len)
{
	_cleanup_(freep) char *strings = NULL;
	const Elf64_Shdr *section;
	int r;

	if (index >= elf->header.e_shnum)
		return -ENOEXEC;
	section = &elf->sections[index];
	if (section->sh_type != SHT_STRTAB)
		return -ENOEXEC;
	if (section->sh_size > LIMIT_SYMBOL_NAMES)
		return -E2BIG;
	strings = calloc(1, section->sh_size + 1);
	if (!strings)
		return -ENOMEM;
	r = symbols_pread(elf->fd, strings, section->sh_size, section->sh_offset);
	if (r < 0)
		return r;
	*ret_len = section->sh_size;
	*ret_strings = TAKE_PTR(strings);
	return 0;
}

static const Elf64_Shdr *find_table(const struct elf *elf)
{
	for (unsigned int i = 0; i < elf->header.e_shnum; i++)
		if (elf->sections[i].sh_type == SHT_SYMTAB)
			return &elf->sections[i];
	return NULL;
}

static bool is_named_text(const struct elf *elf, const Elf64_Shdr *section)
{
	return section->sh_name < elf->names_len &&
	       strcmp(elf->section_names + section->sh_name, ".text") == 0;
}

/* A function, or a label in code as assembler makes them. Of a module, whose sections are placed one by one, .text only: it is
 * what `slide` is for. */
static bool is_function(const struct elf *elf, const Elf64_Sym *symbol)
{
	unsigned int type = ELF64_ST_TYPE(symbol->st_info);
	const Elf64_Shdr *section;

	if ((type != STT_FUNC && type != STT_NOTYPE) || symbol->st_shndx == SHN_UNDEF ||
	    symbol->st_shndx >= elf->header.e_shnum || symbol->st_name >= elf->texts_len)
		return false;
	section = &elf->sections[symbol->st_shndx];
	return (section->sh_flags & SHF_EXECINSTR) &&
	       (elf->header.e_type != ET_REL || is_named_text(elf, section));
}

static int add_symbols(const struct elf *elf, const Elf64_Sym *list, size_t n, uint64_t slide,
		       struct symbols *symbols)
{
	for (size_t i = 0; i < n; i++) {
		const char *name = elf->texts + list[i].st_name;
		int r;

		if (!is_function(elf, &list[i]))
			continue;
		r = symbols_add(symbols, list[i].st_value + slide, list[i].st_size, name,
				strnlen(name, LIMIT_SYMBOL_NAME), "", 0);
		if (r < 0)
			return r;
	}
	return 0;
}

static int read_table(const struct elf *elf, const Elf64_Shdr *table, uint64_t slide,
		      struct symbols *symbols)
{
	_cleanup_(freep) Elf64_Sym *list = calloc(SYMBOLS_AT_ONCE, sizeof(*list));
	uint64_t n = table->sh_size / sizeof(*list);

	if (!list)
		return -ENOMEM;
	if (n > LIMIT_SYMBOLS)
		return -E2BIG;
	for (uint64_t at = 0; at < n; at += SYMBOLS_AT_ONCE) {
		size_t part = MIN(n - at, (uint64_t)SYMBOLS_AT_ONCE);
		int r = symbols_pread(elf->fd, list, part * sizeof(*list),
				      table->sh_offset + at * sizeof(*list));

		if (r == 0)
			r = add_symbols(elf, list, part, slide, symbols);
		if (r < 0)
			return r;
	}
	return 0;
}

int symbols_read_elf(int fd, uint64_t slide, struct symbols *symbols)
{
	_cleanup_(elf_release) struct elf elf = { .fd = fd };
	const Elf64_Shdr *table;
	int r = read_header(&elf);

	if (r == 0)
		r = read_sections(&elf);
	if (r == 0)
		r = read_strings(&elf, elf.header.e_shstrndx, &elf.section_names, &elf.names_len);
	if (r < 0)
		return r;
	table = find_table(&elf);
	if (!table || table->sh_entsize != sizeof(Elf64_Sym))
		return table ? -ENOEXEC : 0;
	r = read_strings(&elf, table->sh_link, &elf.texts, &elf.texts_len);
	return r < 0 ? r : read_table(&elf, table, slide, symbols);
}
