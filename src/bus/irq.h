/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Interrupts as devices see them: a line (ISA, PCI INTx, GSI) or a message (MSI, MSI-X). */

#include <stdbool.h>
#include <stdint.h>

/* One input of the interrupt controllers. Provided by the board; the device borrows it. */
struct irq_line {
	void (*set)(void *ctx, uint32_t gsi,
		    bool level); /* any thread; takes the controller's lock */
	void *ctx;
	uint32_t gsi;
};

static inline void irq_set(const struct irq_line *line, bool level)
{
	line->set(line->ctx, line->gsi, level);
}

/* A message-signalled interrupt (PCI Local Bus 3.0, 6.8). */
struct msi_message {
	uint64_t address;
	uint32_t data;
};

/* Where messages go: KVM's LAPICs, or a test. Any thread, no lock needed, never blocks. */
struct msi_sink {
	void (*send)(void *ctx, const struct msi_message *message);
	void *ctx;
};

static inline void msi_send(const struct msi_sink *sink, const struct msi_message *message)
{
	sink->send(sink->ctx, message);
}
