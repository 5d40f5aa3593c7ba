/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The MC146818A clock with 128 bytes of CMOS RAM: time, alarm, periodic and update interrupts. Its time is
 * read from the wall clock once, when made; afterwards it is an offset to the monotonic clock (invariant 13). */

#include "base/loop.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

_must_check_ int rtc_new(struct bus *bus, struct loop *loop, const struct irq_line *irq,
			 struct device **ret_device);
