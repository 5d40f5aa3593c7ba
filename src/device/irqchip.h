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
#define IRQCHIP_IOAPIC_BASE 0xfec00000ULL /* 82093AA data sheet, 3.0: the power-on place */

struct irqchip_host {
	struct msi_sink msi;
	/* The PIC's output changed (any thread, irqchip lock held): kick the boot vCPU to look. */
	void (*pic_changed)(void *ctx, bool asserted);
	/* Where the IOAPIC's inputs lead has changed (irqchip lock held): KVM must know which vectors need an
	 * EOI exit and where irqfds lead (KVM_SET_GSI_ROUTING). `messages[i].address` 0: nowhere, the input is
	 * masked; but a masked level-triggered one whose EOI is still owed stays listed. May be NULL. */
	void (*routes_changed)(void *ctx, const struct msi_message messages[IRQCHIP_LINES]);
	void *ctx;
};

_must_check_ int irqchip_new(struct bus *bus, const struct irqchip_host *host,
			     struct irqchip **ret_irqchip);
struct device *irqchip_device(struct irqchip *irqchip);

/* An input for a device; `gsi` 0..23 (0..15 also reach the PICs). GSI 0 is the PIT: PIC input 0 and IOAPIC
 * input 2, as MADT's override says; so GSI 2, the PICs' own cascade, is connected to nothing, and so is
 * any number above 23. Value to keep; lives as long as the irqchip. */
struct irq_line irqchip_line(struct irqchip *irqchip, uint32_t gsi);

/* vCPU thread: a LAPIC finished the level-triggered `vector`. */
void irqchip_eoi(struct irqchip *irqchip, uint8_t vector);

/* Boot vCPU's thread, when it can take an interrupt and pic_changed said that the PIC asks: the INTA cycle.
 * Returns the vector (0..255). -1: the request has gone meanwhile; as the CPU has not begun a cycle for it,
 * the spurious vector 7 is not due either. */
int irqchip_pic_acknowledge(struct irqchip *irqchip);
