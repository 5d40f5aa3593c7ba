/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * ACPI fixed hardware and reset: PM1a event and control block, PM timer (ACPI 6.4, 4.8), sleep to S5,
 * power button; the reset register 0xcf9 and the keyboard controller's reset pulse (port 0x64, 0xfe);
 * the general event device's status port, which names what happened (vCPU changed, VM generation changed).
 */

#include "base/loop.h"
#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

enum power_event { POWER_OFF, POWER_RESET };

struct power_host {
	/* The guest asks to end or to start again. vCPU thread, device.lock held: only posts. */
	void (*happened)(void *ctx, enum power_event event);
	void *ctx;
};

/* Bits of the event device's status port: read by the guest's ACPI handler, cleared by reading. */
#define GED_CPU_CHANGED 0x01
#define GED_GENERATION_CHANGED 0x02

/* Offsets from PORT_ACPI_PM: PM1a event 0 (4 bytes), PM1a control 4 (2), PM timer 8 (4). The DSDT and FADT
 * are built from the same numbers. */
#define POWER_PM1_EVENT 0
#define POWER_PM1_CONTROL 4
#define POWER_PM_TIMER 8
#define POWER_SLEEP_TYPE_S5 5
#define POWER_PM_TIMER_BITS 24 /* FADT: TMR_VAL_EXT is not set */
#define POWER_PM_LEN 12
#define POWER_GED_LEN 4

/* On `loop`'s clock (the control thread's). `sci`: the fixed events' line, `ged`: the event device's; both level,
 * asserted until the guest has cleared what they tell. The lines and `host` are copied. */
_must_check_ int power_new(struct bus *bus, struct loop *loop, const struct irq_line *sci,
			   const struct irq_line *ged, const struct power_host *host,
			   struct device **ret_device);
/* Control thread. Presses the ACPI power button: false when the guest has not enabled it (yet). */
bool power_press_button(struct device *device);
/* Control thread: raises the event device with `bits`. */
void power_raise_event(struct device *device, uint32_t bits);
