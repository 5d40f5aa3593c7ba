/* SPDX-License-Identifier: Apache-2.0 */

/* Names for addresses: ELF files made by hand, maps as text, and files that lie. */

#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/macros.h"
#include "watch/read/symbols.h"

#define TEXT 0xffffffff81000000ULL

/* A file that is gone when it is closed. */
struct file {
	int fd;
	char path[32];
};

static struct file make_file(const void *data, size_t len)
{
	struct file file = { .fd = memfd_create("symbols", MFD_CLOEXEC) };

	assert_true(file.fd >= 0);
	assert_int_equal(write(file.fd, data, len), len);
	snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
	return file;
}

static int load(const void *data, size_t len, uint64_t slide, struct symbols **ret_symbols,
		struct error *err)
{
	struct file file = make_file(data, len);
	int r = symbols_load(file.path, slide, ret_symbols, err);

	if (r < 0)
		assert_non_null(strstr(err->message, file.path));
	close(file.fd);
	return r;
}

static struct symbols *load_text(const char *text)
{
	struct symbols *symbols = NULL;
	struct error err = { 0 };

	assert_int_equal(load(text, strlen(text), 0, &symbols, &err), 0);
	return symbols;
}

static void expect_name(const struct symbols *symbols, uint64_t address, const char *expected)
{
	char text[64] = "before";

	assert_int_equal(symbols_find(symbols, address, text, sizeof(text)), expected != NULL);
	assert_string_equal(text, expected ? expected : "");
}

static void expect_refused(const void *data, size_t len, int code, const char *why)
{
	struct symbols *symbols = NULL;
	struct error err = { 0 };

	assert_int_equal(load(data, len, 0, &symbols, &err), code);
	assert_null(symbols);
	if (!strstr(err.message, why))
		fail_msg("'%s' has no '%s'", err.message, why);
}

static const char kallsyms[] = "ffffffff81000000 T _stext\n"
			       "ffffffff81000100 t read_one\n"
			       "ffffffff81000100 t alias_of_it\n"
			       "ffffffff81000080 W write_one\n"
			       "ffffffff81000090 D some_data\n"
			       "0000000000000004 A absolute\n"
			       "ffffffffc0300000 t virtnet_poll\t[virtio_net]\n"
			       "ffffffffc0300200 t virtnet_open\t[virtio_net]\n";

static void a_map_names_functions(void **state _unused_)
{
	struct symbols *symbols = load_text(kallsyms);

	expect_name(symbols, TEXT, "_stext+0x0");
	expect_name(symbols, TEXT + 0x7f, "_stext+0x7f");
	expect_name(symbols, TEXT + 0x9f, "write_one+0x1f");
	expect_name(symbols, TEXT + 0x112, "read_one+0x12");
	expect_name(symbols, 0xffffffffc0300010ULL, "virtnet_poll+0x10 [virtio_net]");
	expect_name(symbols, 0xffffffffc0300201ULL, "virtnet_open+0x1 [virtio_net]");
	symbols_free(symbols);
}

static void what_is_far_from_all_has_no_name(void **state _unused_)
{
	struct symbols *symbols = load_text(kallsyms);

	expect_name(symbols, TEXT - 1, NULL);
	expect_name(symbols, 0, NULL);
	expect_name(symbols, 4, NULL);
	expect_name(symbols, TEXT + 0x1000000, NULL);
	expect_name(symbols, UINT64_MAX, NULL);
	expect_name(NULL, TEXT, NULL);
	symbols_free(symbols);
}

static void a_map_is_slid(void **state _unused_)
{
	struct symbols *symbols = NULL;
	struct error err = { 0 };

	assert_int_equal(load(kallsyms, strlen(kallsyms), 0x1e000000, &symbols, &err), 0);
	expect_name(symbols, TEXT + 0x1e000112, "read_one+0x12");
	expect_name(symbols, TEXT + 0x112, NULL);
	symbols_free(symbols);
}

static void the_last_line_needs_no_end(void **state _unused_)
{
	struct symbols *symbols = load_text("ffffffff81000000 T _stext\n1000 t last");

	expect_name(symbols, 0x1001, "last+0x1");
	symbols_free(symbols);
}

static void a_long_map_is_read_in_parts(void **state _unused_)
{
	const size_t n = 20000, width = sizeof("ffffffff81000000 t name00000\n") - 1;
	char *text = malloc(n * width + 1), *at = text;
	struct symbols *symbols;

	for (size_t i = 0; i < n; i++)
		at += snprintf(at, width + 1, "%016llx t name%05zu\n",
			       (unsigned long long)(TEXT + i * 16), i);
	symbols = load_text(text);
	expect_name(symbols, TEXT + 12345 * 16 + 3, "name12345+0x3");
	expect_name(symbols, TEXT + 19999 * 16, "name19999+0x0");
	symbols_free(symbols);
	free(text);
}

static void names_cannot_steer_a_terminal(void **state _unused_)
{
	struct symbols *symbols = load_text("1000 t ev\033[2Jil\t[m\001d]\n");

	expect_name(symbols, 0x1000, "ev?[2Jil+0x0 [m?d]");
	symbols_free(symbols);
}

static void a_text_that_is_too_long_is_cut(void **state _unused_)
{
	struct symbols *symbols = load_text(kallsyms);
	char small[5], one[1], none = 'x';

	assert_true(symbols_find(symbols, TEXT, small, sizeof(small)));
	assert_string_equal(small, "_ste");
	assert_true(symbols_find(symbols, TEXT, one, sizeof(one)));
	assert_string_equal(one, "");
	assert_true(symbols_find(symbols, TEXT, &none, 0));
	assert_int_equal(none, 'x');
	symbols_free(symbols);
}

static void what_is_no_symbol_file_is_refused(void **state _unused_)
{
	static const char *const texts[] = {
		"hello, world\n",	   "ffffffff81000000\n", "ffffffff81000000 TT name\n",
		"12345678123456789 t x\n", "zz t name\n",	 "\n\n\n\n"
	};
	char *line = malloc(KIB(128));

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		expect_refused(texts[i], strlen(texts[i]), -ENOEXEC, "no System.map");
	memset(line, 'a', KIB(128));
	expect_refused(line, KIB(128), -ENOEXEC, "no System.map");
	free(line);
	expect_refused("abc", 3, -ENOEXEC, "no System.map");
	expect_refused("1000 d data\n", 12, -ENOENT, "not stripped");
}

static void hidden_addresses_are_told_of(void **state _unused_)
{
	static const char text[] = "0000000000000000 T _stext\n0000000000000000 t other\n";

	expect_refused(text, strlen(text), -EACCES, "as root");
}

static void what_is_no_file_is_refused(void **state _unused_)
{
	struct symbols *symbols = NULL;
	struct error err = { 0 };

	assert_int_equal(symbols_load("/nowhere/at/all", 0, &symbols, &err), -ENOENT);
	assert_non_null(strstr(err.message, "/nowhere/at/all"));
	err = (struct error){ 0 };
	assert_int_equal(symbols_load("/dev/zero", 0, &symbols, &err), -EINVAL);
	assert_int_equal(symbols_load("/", 0, &symbols, NULL), -EINVAL);
}

/* An ELF file with one table; sections: none, .text, .data, .symtab, .strtab, .init.text. */
struct image {
	Elf64_Ehdr header;
	Elf64_Shdr sections[6];
	Elf64_Sym symbols[9];
	char strings[96];
};

enum { S_NONE, S_TEXT, S_DATA, S_SYMTAB, S_STRTAB, S_INIT };

static const char strings[] =
	"\0.text\0.data\0.symtab\0.strtab\0.init.text\0read_one\0write_one\0label\0datum\0early";

static uint32_t string(const char *text)
{
	for (size_t i = 1; i < sizeof(strings); i += strlen(strings + i) + 1)
		if (strcmp(strings + i, text) == 0)
			return (uint32_t)i;
	abort();
}

static Elf64_Sym symbol(const char *name, int type, uint16_t section, uint64_t value, uint64_t size)
{
	return (Elf64_Sym){
		.st_name = string(name),
		.st_info = (unsigned char)ELF64_ST_INFO(STB_GLOBAL, type),
		.st_shndx = section,
		.st_value = value,
		.st_size = size,
	};
}

static struct image make_image(uint16_t type)
{
	struct image image = {
		.header = {
			.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, 1 },
			.e_type = type,
			.e_machine = EM_X86_64,
			.e_shoff = offsetof(struct image, sections),
			.e_shentsize = sizeof(Elf64_Shdr),
			.e_shnum = ARRAY_SIZE(image.sections),
			.e_shstrndx = S_STRTAB,
		},
		.sections = {
			[S_TEXT] = { .sh_name = string(".text"), .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR },
			[S_DATA] = { .sh_name = string(".data"), .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC },
			[S_SYMTAB] = { .sh_name = string(".symtab"), .sh_type = SHT_SYMTAB, .sh_offset = offsetof(struct image, symbols),
				       .sh_size = sizeof(image.symbols), .sh_link = S_STRTAB, .sh_entsize = sizeof(Elf64_Sym) },
			[S_STRTAB] = { .sh_name = string(".strtab"), .sh_type = SHT_STRTAB, .sh_offset = offsetof(struct image, strings),
				       .sh_size = sizeof(image.strings) },
			[S_INIT] = { .sh_name = string(".init.text"), .sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR },
		},
	};

	_Static_assert(sizeof(strings) <= sizeof(image.strings), "they fit");
	memcpy(image.strings, strings, sizeof(strings));
	image.symbols[1] = symbol("read_one", STT_FUNC, S_TEXT, 0x1100, 0x20);
	image.symbols[2] = symbol("write_one", STT_FUNC, S_TEXT, 0x1000, 0x80);
	image.symbols[3] = symbol("label", STT_NOTYPE, S_TEXT, 0x2000, 0);
	image.symbols[4] = symbol("datum", STT_OBJECT, S_DATA, 0x1108, 8);
	image.symbols[5] = symbol("early", STT_FUNC, S_INIT, 0x1110, 8);
	image.symbols[6] = symbol("datum", STT_NOTYPE, S_DATA, 0x1104, 0);
	image.symbols[7] = symbol("datum", STT_FUNC, SHN_UNDEF, 0x1104, 0);
	image.symbols[8] = symbol("datum", STT_FUNC, SHN_ABS, 0x1104, 0);
	return image;
}

static void an_elf_file_names_functions(void **state _unused_)
{
	struct image image = make_image(ET_EXEC);
	struct symbols *symbols = NULL;
	struct error err = { 0 };

	assert_int_equal(load(&image, sizeof(image), TEXT, &symbols, &err), 0);
	expect_name(symbols, TEXT + 0x1000, "write_one+0x0");
	expect_name(symbols, TEXT + 0x107f, "write_one+0x7f");
	expect_name(symbols, TEXT + 0x1080, NULL);
	expect_name(symbols, TEXT + 0x1105, "read_one+0x5");
	expect_name(symbols, TEXT + 0x1112, "early+0x2");
	expect_name(symbols, TEXT + 0x2010, "label+0x10");
	symbols_free(symbols);
}

/* A module's sections are each somewhere else; `slide` says where .text is. */
static void a_module_names_its_text(void **state _unused_)
{
	struct image image = make_image(ET_REL);
	struct symbols *symbols = NULL;
	struct error err = { 0 };

	assert_int_equal(load(&image, sizeof(image), TEXT, &symbols, &err), 0);
	expect_name(symbols, TEXT + 0x1112, "read_one+0x12");
	symbols_free(symbols);
}

static void a_stripped_file_is_told_of(void **state _unused_)
{
	struct image image = make_image(ET_EXEC);

	image.sections[S_SYMTAB].sh_type = SHT_PROGBITS;
	expect_refused(&image, sizeof(image), -ENOENT, "not stripped");
}

static void damaged_elf_files_are_refused(void **state _unused_)
{
	static const struct {
		size_t offset, size;
		uint64_t value;
		int code;
	} damages[] = {
#define AT(field) offsetof(struct image, field), sizeof(((struct image *)0)->field)
		{ AT(header.e_ident[EI_CLASS]), ELFCLASS32, -ENOEXEC },
		{ AT(header.e_ident[EI_DATA]), ELFDATA2MSB, -ENOEXEC },
		{ AT(header.e_machine), EM_AARCH64, -ENOEXEC },
		{ AT(header.e_shentsize), 1, -ENOEXEC },
		{ AT(header.e_shnum), 0, -ENOEXEC },
		{ AT(header.e_shnum), 0xffff, -ENOEXEC },
		{ AT(header.e_shoff), UINT64_MAX - 8, -ENOEXEC },
		{ AT(header.e_shstrndx), 77, -ENOEXEC },
		{ AT(header.e_shstrndx), S_TEXT, -ENOEXEC },
		{ AT(sections[S_SYMTAB].sh_entsize), 3, -ENOEXEC },
		{ AT(sections[S_SYMTAB].sh_link), 77, -ENOEXEC },
		{ AT(sections[S_SYMTAB].sh_offset), 1 << 20, -ENOEXEC },
		{ AT(sections[S_SYMTAB].sh_size), UINT64_MAX, -E2BIG },
		{ AT(sections[S_STRTAB].sh_size), UINT64_MAX, -E2BIG },
		{ AT(sections[S_STRTAB].sh_size), 1 << 20, -ENOEXEC },
#undef AT
	};

	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		struct image image = make_image(ET_EXEC);

		memcpy((uint8_t *)&image + damages[i].offset, &damages[i].value, damages[i].size);
		expect_refused(&image, sizeof(image), damages[i].code, "symbols: ");
	}
	expect_refused("\177ELF", 4, -ENOEXEC, "no ELF file");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_map_names_functions),
		cmocka_unit_test(what_is_far_from_all_has_no_name),
		cmocka_unit_test(a_map_is_slid),
		cmocka_unit_test(the_last_line_needs_no_end),
		cmocka_unit_test(a_long_map_is_read_in_parts),
		cmocka_unit_test(names_cannot_steer_a_terminal),
		cmocka_unit_test(a_text_that_is_too_long_is_cut),
		cmocka_unit_test(what_is_no_symbol_file_is_refused),
		cmocka_unit_test(hidden_addresses_are_told_of),
		cmocka_unit_test(what_is_no_file_is_refused),
		cmocka_unit_test(an_elf_file_names_functions),
		cmocka_unit_test(a_module_names_its_text),
		cmocka_unit_test(a_stripped_file_is_told_of),
		cmocka_unit_test(damaged_elf_files_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
