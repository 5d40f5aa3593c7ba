/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The 8254 timer (three counters, read-back, all modes) and port 0x61's gate and output bits. Counter 0's
 * output drives `irq`. Runs on `loop`'s clock (the control thread's loop). */

#include "base/loop.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

_must_check_ int pit_new(struct bus *bus, struct loop *loop, const struct irq_line *irq,
			 struct device **ret_device);
