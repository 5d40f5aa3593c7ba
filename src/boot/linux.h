/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Linux's boot protocol: where things go, and the boot_params that tell the kernel. */

#include "boot/bzimage.h"
#include "boot/place.h"

_must_check_ int linux_load(const struct boot_load *load, const struct bzimage *bz,
			    struct boot_entry *ret_entry, struct error *err);
