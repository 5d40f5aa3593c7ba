/* SPDX-License-Identifier: Apache-2.0 */
#include "boot/place.h"

#include <errno.h>
#include <string.h>

#include "base/limits.h"
#include "boot/layout.h"

int place_cmdline(const struct boot_load *load, uint64_t max, struct error *err)
{
	const char *cmdline = load->request->cmdline ? load->request->cmdline : "";
	uint64_t len = strnlen(cmdline, LIMIT_CMDLINE);

	_Static_assert(LIMIT_CMDLINE <= BOOT_CMDLINE_MAX, "the command line has room");

	max = MIN(max, LIMIT_CMDLINE - 1);
	if (len > max)
		return error_set(
			err, -E2BIG, EXIT_STATUS_USAGE,
			"--cmdline: longer than %llu bytes, which is all that %s takes; shorten it",
			(unsigned long long)max, load->kernel.path);
	return memory_write(load->memory, gpa(BOOT_CMDLINE), cmdline, len + 1);
}

int place_initrd(const struct boot_load *load, uint64_t floor, uint64_t limit, uint64_t *ret_at,
		 struct error *err)
{
	const struct image *initrd = &load->initrd;
	uint64_t at;

	if (initrd->size == 0) {
		*ret_at = 0;
		return 0;
	}
	if (e820_find_high(&load->map, initrd->size, MEMORY_PAGE_SIZE, floor, MIN(limit, GIB(4)),
			   &at) < 0)
		return error_set(
			err, -ENOSPC, EXIT_STATUS_RESOURCE,
			"%s %s: its %llu MiB do not fit between the kernel and %#llx; give the "
			"guest more with --memory",
			initrd->option, initrd->path,
			(unsigned long long)(initrd->size + MIB(1) - 1) >> 20,
			(unsigned long long)limit);
	*ret_at = at;
	return image_load(initrd, 0, initrd->size, load->memory, gpa(at), err);
}
