/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A 16550A UART at `base` (data sheet NS PC16550D), with FIFOs, its line `irq`, its bytes on `stream`. */

#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"
#include "device/stream.h"

_must_check_ int serial_new(struct bus *bus, uint16_t base, const struct irq_line *irq,
			    struct stream *stream, struct device **ret_device);
