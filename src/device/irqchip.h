/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The interrupt controllers outside the LAPIC: two 8259 PICs (with ELCR) and a 24-input IOAPIC (82093AA),
 * ours because of the split irqchip. One device, one lock, one state struct: an input line reaches both.
 *
 * Messages of the IOAPIC go to the msi_sink; the PIC's INTR goes to the boot vCPU by `pic_changed`.
 * A level-triggered IOAPIC input is looked at again on KVM_EXIT_IOAPIC_EOI: irqchip_eoi.
 */

#include "bus/bus.h"
#include "bus/device.h"
#include "bus/irq.h"

struct irqchip;

#define IRQCHIP_LINES 24

struct irqchip_host {
	struct msi_sink msi;
	/* The PIC's output changed (any thread, irqchip lock held): kick the boot vCPU to look. */
	void (*pic_changed)(void *ctx, bool asserted);
	/* The IOAPIC's redirection table changed (irqchip lock held): KVM must know which vectors need an EOI
	 * exit and where irqfds lead (KVM_SET_GSI_ROUTING). `messages[i].address` 0: input masked. May be NULL. */
	void (*routes_changed)(void *ctx, const struct msi_message messages[IRQCHIP_LINES]);
	void *ctx;
};

_must_check_ int irqchip_new(struct bus *bus, const struct irqchip_host *host,
			     struct irqchip **ret_irqchip);
struct device *irqchip_device(struct irqchip *irqchip);

/* An input for a device; `gsi` 0..23 (0..15 also reach the PICs; GSI 0 is the PIT: IOAPIC input 2, as MADT's
 * override says). Borrowed by the device. */
struct irq_line irqchip_line(struct irqchip *irqchip, uint32_t gsi);

/* vCPU thread: a LAPIC finished the level-triggered `vector`. */
void irqchip_eoi(struct irqchip *irqchip, uint8_t vector);

/* Boot vCPU's thread: whether the PIC asks, and the vector (acknowledging it). -1: nothing. */
bool irqchip_pic_pending(struct irqchip *irqchip);
int irqchip_pic_acknowledge(struct irqchip *irqchip);
