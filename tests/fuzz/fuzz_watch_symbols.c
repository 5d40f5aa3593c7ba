/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: watch/read/symbols.c watch/read/symbols_elf.c
 *
 * A file of symbols: whatever it holds, either names that can be looked up, or an error with a message.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "watch/read/symbols.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look_up(const struct symbols *symbols, uint64_t address)
{
	char text[48];
	bool found = symbols_find(symbols, address, text, sizeof(text));

	if (found != (text[0] != '\0') || strlen(text) >= sizeof(text))
		abort();
	for (const char *at = text; *at; at++)
		if (*at < ' ' || *at > '~')
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("symbols", MFD_CLOEXEC);
	struct symbols *symbols = NULL;
	struct error err = { 0 };
	char path[32];
	int r;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	r = symbols_load(path, size ? data[size - 1] : 0, &symbols, &err);
	if ((r == 0) != (symbols != NULL) || (r < 0) != (err.message[0] != '\0'))
		abort();
	for (size_t i = 0; symbols && i + 8 <= size; i += 8) {
		uint64_t address;

		memcpy(&address, data + i, sizeof(address));
		look_up(symbols, address);
		look_up(symbols, address & 0xffff);
	}
	symbols_free(symbols);
	close(fd);
	return 0;
}
