/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The IOAPIC: 24 inputs, each with a redirection entry that says as which message it goes to the LAPICs
 * (Intel 82093AA data sheet, order 290566; version 0x20 with its EOI register as in the ICH's data sheets).
 * Registers and rules only: the caller locks.
 *
 * Inputs say "asserted" or not; a redirection entry's polarity bit is kept and otherwise ignored: which
 * voltage means "asserted" is a matter of wires that a virtual machine does not have.
 */

#include <stdbool.h>
#include <stdint.h>

#include "bus/irq.h"
#include "state/state.h"

#define IOAPIC_INPUTS 24

/* Offsets of the window (data sheet, 3.1; EOI: ICH9 data sheet, 13.5.1). 256 bytes are decoded. */
#define IOAPIC_SELECT 0x00
#define IOAPIC_WINDOW 0x10
#define IOAPIC_EOI 0x40
#define IOAPIC_LEN 0x100

/* Redirection entry (data sheet, 3.2.4). */
#define IOAPIC_ENTRY_VECTOR 0xffULL
#define IOAPIC_ENTRY_MODE 0x700ULL
#define IOAPIC_ENTRY_LOGICAL (1ULL << 11)
#define IOAPIC_ENTRY_REMOTE_IRR (1ULL << 14)
#define IOAPIC_ENTRY_LEVEL (1ULL << 15)
#define IOAPIC_ENTRY_MASKED (1ULL << 16)

struct ioapic {
	uint32_t lines; /* inputs asserted now */
	uint8_t id;	/* bits 27..24 of register 0 */
	uint8_t select;
	uint64_t entries[IOAPIC_INPUTS];
};

extern const struct state_table ioapic_state_table;

void ioapic_reset(struct ioapic *ioapic);
/* 0, or -EINVAL for a state that no sequence of accesses leads to. */
int ioapic_check(const struct ioapic *ioapic);

/* Accesses to the window; messages that become due go to `sink`. */
uint64_t ioapic_read(const struct ioapic *ioapic, uint64_t offset, unsigned int size);
void ioapic_write(struct ioapic *ioapic, const struct msi_sink *sink, uint64_t offset,
		  unsigned int size, uint64_t data);

/* Input 0..23. */
void ioapic_set_line(struct ioapic *ioapic, const struct msi_sink *sink, unsigned int input,
		     bool level);

/* A LAPIC finished the level-triggered `vector`: inputs that are still asserted ask again. */
void ioapic_eoi(struct ioapic *ioapic, const struct msi_sink *sink, uint8_t vector);

/* The message of input 0..23; address 0 when it leads nowhere (masked, and no EOI is owed). */
struct msi_message ioapic_message(const struct ioapic *ioapic, unsigned int input);
