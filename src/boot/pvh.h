/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The PVH boot protocol: an ELF kernel entered in 32-bit protected mode with a start_info. */

#include "boot/elf_kernel.h"
#include "boot/place.h"

_must_check_ int pvh_load(const struct boot_load *load, struct elf_kernel *kernel,
			  struct boot_entry *ret_entry, struct error *err);
