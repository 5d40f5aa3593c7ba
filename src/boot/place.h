/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What Linux's protocol and PVH place in the same way. */

#include "boot/e820.h"
#include "boot/image.h"

/* What is being loaded; made by boot.c. */
struct boot_load {
	struct memory *memory;
	const struct boot_request *request;
	struct image kernel;
	struct image initrd; /* size 0: none */
	struct e820_map map;
	gpa_t rsdp;
};

/* Writes the command line at BOOT_CMDLINE; `max` is the kernel's limit in bytes without the NUL. */
_must_check_ int place_cmdline(const struct boot_load *load, uint64_t max, struct error *err);

/* Reads the initrd as high as it may be: below `limit`, not below `floor`, where the kernel unpacks itself.
 * `*ret_at` is 0 when there is none. */
_must_check_ int place_initrd(const struct boot_load *load, uint64_t floor, uint64_t limit,
			      uint64_t *ret_at, struct error *err);
