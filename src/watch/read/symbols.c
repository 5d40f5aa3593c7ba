/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/read/symbols.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/hex.h"
#include "base/limits.h"
#include "watch/read/symbols_internal.h"

#define READ_SIZE KIB(64)
#define REACH KIB(64) /* bytes from a symbol without a size that may still be its function's */

int symbols_pread(int fd, void *buf, size_t len, uint64_t offset)
{
	uint8_t *to = buf;

	if (offset > INT64_MAX - len)
		return -ENOEXEC;
	while (len) {
		ssize_t n = pread(fd, to, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOEXEC;
		to += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* Collecting */

static int make_room(struct symbols *symbols)
{
	size_t capacity = MAX(symbols->capacity * 2, (size_t)1024);
	struct symbol *list;

	if (symbols->n < symbols->capacity)
		return 0;
	if (symbols->n >= LIMIT_SYMBOLS)
		return -E2BIG;
	list = reallocarray(symbols->list, capacity, sizeof(*list));
	if (!list)
		return -ENOMEM;
	symbols->list = list;
	symbols->capacity = capacity;
	return 0;
}

/* A name goes to terminals: printable ASCII only. */
static int add_text(struct symbols *symbols, const char *text, size_t len, uint32_t *ret_at)
{
	char copy[LIMIT_SYMBOL_NAME];

	*ret_at = (uint32_t)symbols->names.len;
	len = MIN(len, sizeof(copy) - 1);
	for (size_t i = 0; i < len; i++)
		copy[i] = text[i] > ' ' && text[i] < 0x7f ? text[i] : '?';
	copy[len] = '\0';
	return buffer_append(&symbols->names, copy, len + 1);
}

/* Symbols of one module come one after the other. */
static int add_module(struct symbols *symbols, const char *module, size_t len, uint32_t *ret_at)
{
	uint32_t last = symbols->n ? symbols->list[symbols->n - 1].module : 0;
	const char *known = (const char *)symbols->names.data + last;

	*ret_at = 0;
	if (!len)
		return 0;
	if (last && strlen(known) == len && memcmp(known, module, len) == 0) {
		*ret_at = last;
		return 0;
	}
	return add_text(symbols, module, len, ret_at);
}

int symbols_add(struct symbols *symbols, uint64_t address, uint64_t size, const char *name,
		size_t name_len, const char *module, size_t module_len)
{
	struct symbol symbol = { .address = address, .size = size };
	int r;

	if (!name_len)
		return 0;
	r = make_room(symbols);
	if (r == 0)
		r = add_module(symbols, module, module_len, &symbol.module);
	if (r == 0)
		r = add_text(symbols, name, name_len, &symbol.name);
	if (r == 0)
		symbols->list[symbols->n++] = symbol;
	return r;
}

/* System.map and kallsyms: "ffffffff81000000 T name", and perhaps "\t[module]" */

static bool is_text(char type)
{
	return type == 't' || type == 'T' || type == 'w' || type == 'W';
}

/* A word of the line, and the line behind it. */
static const char *take_word(const char **line, const char *end, size_t *ret_len)
{
	const char *word = *line, *at;

	while (word < end && (*word == ' ' || *word == '\t'))
		word++;
	for (at = word; at < end && *at != ' ' && *at != '\t'; at++)
		;
	*ret_len = (size_t)(at - word);
	*line = at;
	return word;
}

static bool parse_address(const char *word, size_t len, uint64_t *ret_address)
{
	uint64_t address = 0;

	if (len == 0 || len > 16)
		return false;
	for (size_t i = 0; i < len; i++) {
		int digit = hex_digit(word[i]);

		if (digit < 0)
			return false;
		address = address << 4 | (uint64_t)digit;
	}
	*ret_address = address;
	return true;
}

/* -ENOEXEC: this is no line of such a file. */
static int add_line(struct symbols *symbols, const char *line, const char *end, uint64_t slide)
{
	size_t address_len, type_len, name_len, module_len;
	const char *word = take_word(&line, end, &address_len);
	const char *type = take_word(&line, end, &type_len);
	const char *name = take_word(&line, end, &name_len);
	const char *module = take_word(&line, end, &module_len);
	uint64_t address;

	if (!parse_address(word, address_len, &address) || type_len != 1 || !name_len)
		return -ENOEXEC;
	if (!is_text(*type))
		return 0;
	if (module_len > 2 && module[0] == '[' && module[module_len - 1] == ']') {
		module++;
		module_len -= 2;
	} else {
		module_len = 0;
	}
	return symbols_add(symbols, address + slide, 0, name, name_len, module, module_len);
}

/* Takes the whole lines of the buffer; how many bytes they have, or a negative errno. */
static ssize_t add_lines(struct symbols *symbols, const char *buf, size_t len, uint64_t slide)
{
	const char *at = buf, *end = buf + len, *newline;

	while ((newline = memchr(at, '\n', (size_t)(end - at)))) {
		int r = add_line(symbols, at, newline, slide);

		if (r < 0)
			return r;
		at = newline + 1;
	}
	return at - buf;
}

/* A file of /proc does not know its size: read until nothing comes. */
static int read_map(int fd, uint64_t slide, struct symbols *symbols)
{
	_cleanup_(freep) char *buf = malloc(READ_SIZE);
	uint64_t total = 0;
	size_t have = 0;

	if (!buf)
		return -ENOMEM;
	while (total <= LIMIT_SYMBOL_MAP) {
		ssize_t n = read(fd, buf + have, READ_SIZE - have), taken;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return have ? add_line(symbols, buf, buf + have, slide) : 0;
		total += (uint64_t)n;
		have += (size_t)n;
		taken = add_lines(symbols, buf, have, slide);
		if (taken < 0 || (taken == 0 && have == READ_SIZE))
			return taken < 0 ? (int)taken : -ENOEXEC;
		have -= (size_t)taken;
		memmove(buf, buf + taken, have);
	}
	return -E2BIG;
}

/* Looking up */

/* By address; of those at one address, one with a size first, then by order in the file. */
static int compare(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	if (x->size != y->size)
		return x->size > y->size ? -1 : 1;
	return x->name < y->name ? -1 : x->name > y->name;
}

/* Sorts, and keeps one symbol of each address. */
static void sort(struct symbols *symbols)
{
	size_t n = 0;

	qsort(symbols->list, symbols->n, sizeof(*symbols->list), compare);
	for (size_t i = 0; i < symbols->n; i++)
		if (n == 0 || symbols->list[n - 1].address != symbols->list[i].address)
			symbols->list[n++] = symbols->list[i];
	symbols->n = n;
}

static int read_file(int fd, uint64_t slide, struct symbols *symbols)
{
	char magic[4] = "";
	int r = symbols_pread(fd, magic, sizeof(magic), 0);

	if (r < 0)
		return r;
	if (memcmp(magic, "\177ELF", sizeof(magic)) == 0)
		return symbols_read_elf(fd, slide, symbols);
	return read_map(fd, slide, symbols);
}

static bool all_are_zero(const struct symbols *symbols)
{
	for (size_t i = 0; i < symbols->n; i++)
		if (symbols->list[i].address != symbols->list[0].address)
			return false;
	return symbols->n > 1;
}

static int explain(const char *path, int r, struct error *err)
{
	const char *why = strerror(-r);

	if (r == -ENOEXEC)
		why = "it is no ELF file of x86-64 with symbols, no System.map and no copy of kallsyms";
	else if (r == -E2BIG)
		why = "it has more symbols than are read (2 million)";
	return error_set(err, r, EXIT_STATUS_RESOURCE, "symbols: cannot read '%s': %s", path, why);
}

static int check(const struct symbols *symbols, const char *path, struct error *err)
{
	if (!symbols->n)
		return error_set(
			err, -ENOENT, EXIT_STATUS_RESOURCE,
			"symbols: '%s' names no function: give a file that was not stripped", path);
	if (all_are_zero(symbols))
		return error_set(
			err, -EACCES, EXIT_STATUS_RESOURCE,
			"symbols: in '%s' all addresses are hidden: copy /proc/kallsyms as root",
			path);
	return 0;
}

int symbols_load(const char *path, uint64_t slide, struct symbols **ret_symbols, struct error *err)
{
	_cleanup_(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct symbols *symbols;
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return explain(path, -errno, err);
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, EXIT_STATUS_RESOURCE, "symbols: '%s' is not a file",
				 path);
	symbols = calloc(1, sizeof(*symbols));
	if (!symbols)
		return explain(path, -ENOMEM, err);
	buffer_init(&symbols->names, LIMIT_SYMBOL_NAMES);
	r = buffer_append(&symbols->names, "", 1);
	if (r == 0)
		r = read_file(fd, slide, symbols);
	if (r < 0)
		r = explain(path, r, err);
	else
		r = check(symbols, path, err);
	if (r < 0) {
		symbols_free(symbols);
		return r;
	}
	sort(symbols);
	*ret_symbols = symbols;
	return 0;
}

void symbols_free(struct symbols *symbols)
{
	if (!symbols)
		return;
	free(symbols->list);
	buffer_release(&symbols->names);
	free(symbols);
}

/* The last symbol at or before the address. */
static const struct symbol *find(const struct symbols *symbols, uint64_t address)
{
	size_t low = 0, high = symbols->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (symbols->list[middle].address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? &symbols->list[low - 1] : NULL;
}

bool symbols_find(const struct symbols *symbols, uint64_t address, char *ret_text, size_t size)
{
	const struct symbol *symbol = symbols ? find(symbols, address) : NULL;
	const char *names, *module;
	uint64_t offset;

	if (size)
		*ret_text = '\0';
	if (!symbol)
		return false;
	offset = address - symbol->address;
	if (offset >= (symbol->size ? symbol->size : REACH))
		return false;
	names = (const char *)symbols->names.data;
	module = names + symbol->module;
	snprintf(ret_text, size, "%s+0x%llx%s%s%s", names + symbol->name,
		 (unsigned long long)offset, *module ? " [" : "", module, *module ? "]" : "");
	return true;
}
