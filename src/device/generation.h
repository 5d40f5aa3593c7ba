/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* VM generation ID (Microsoft, "Virtual Machine Generation ID", 2012): 16 bytes in guest RAM whose address the
 * DSDT tells; a new value and an event say that this VM was restored or cloned. */

#include "bus/device.h"
#include "memory/memory.h"

/* `at`: aligned to 8, in RAM, else -EFAULT. A load brings the saved value, and the RAM that belongs to it holds the bytes:
 * a VM that moved is the same one. */
_must_check_ int generation_new(struct memory *memory, gpa_t at, const uint8_t id[16],
				struct device **ret_device);

/* Writes the bytes, where RAM was made new (start, reset). On a vCPU's thread inside the barrier, or before there are
 * any: nobody sees a half-written value, and no other thread touches guest RAM. */
_must_check_ int generation_publish(struct device *device, struct error *err);

/* A new value, for a VM that was restored from a file or cloned; the caller tells the guest by power_raise_event.
 * On a thread as for generation_publish. */
_must_check_ int generation_renew(struct device *device, const uint8_t id[16], struct error *err);
