/* SPDX-License-Identifier: Apache-2.0 */
#include "device/ioapic.h"

#include <errno.h>

#include "base/macros.h"

#define REGISTER_ID 0x00
#define REGISTER_VERSION 0x01
#define REGISTER_ARBITRATION 0x02
#define REGISTER_ENTRIES 0x10

#define VERSION 0x20u /* has the EOI register */
#define VERSION_VALUE (VERSION | (IOAPIC_INPUTS - 1) << 16)

/* What software may write. Delivery status (bit 12) is always 0: a message is gone when it is due. */
#define ENTRY_WRITABLE 0xff0000000001afffULL

enum delivery { DELIVERY_EXTINT = 7 };

#define MSI_ADDRESS 0xfee00000ULL
#define MSI_LOGICAL (1ULL << 2)
#define MSI_ASSERT (1u << 14)
#define MSI_LEVEL (1u << 15)

static const struct state_field ioapic_fields[] = {
	STATE_FIELD_U32(struct ioapic, lines),
	STATE_FIELD_U8(struct ioapic, id),
	STATE_FIELD_U8(struct ioapic, select),
	STATE_ARRAY_OF(struct ioapic, entries, STATE_U64),
};

const struct state_table ioapic_state_table = {
	.name = "ioapic",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct ioapic),
	.fields = ioapic_fields,
	.n_fields = ARRAY_SIZE(ioapic_fields),
};

void ioapic_reset(struct ioapic *ioapic)
{
	*ioapic = (struct ioapic){ .lines = ioapic->lines };
	for (unsigned int i = 0; i < IOAPIC_INPUTS; i++)
		ioapic->entries[i] = IOAPIC_ENTRY_MASKED;
}

int ioapic_check(const struct ioapic *ioapic)
{
	if (ioapic->lines >> IOAPIC_INPUTS || ioapic->id > 15)
		return -EINVAL;
	for (unsigned int i = 0; i < IOAPIC_INPUTS; i++) {
		uint64_t entry = ioapic->entries[i];

		if (entry & ~(ENTRY_WRITABLE | IOAPIC_ENTRY_REMOTE_IRR))
			return -EINVAL;
		if ((entry & IOAPIC_ENTRY_REMOTE_IRR) && !(entry & IOAPIC_ENTRY_LEVEL))
			return -EINVAL;
	}
	return 0;
}

/* Intel SDM volume 3, 11.11, "Message Signalled Interrupts": the same fields in other places. */
static struct msi_message entry_message(uint64_t entry)
{
	struct msi_message message = {
		.address = MSI_ADDRESS | entry >> 56 << 12,
		.data = entry & (IOAPIC_ENTRY_VECTOR | IOAPIC_ENTRY_MODE),
	};

	if (entry & IOAPIC_ENTRY_LOGICAL)
		message.address |= MSI_LOGICAL;
	if (entry & IOAPIC_ENTRY_LEVEL)
		message.data |= MSI_LEVEL | MSI_ASSERT;
	return message;
}

/* An ExtINT entry asks for the PIC's vector; the PIC reaches the boot vCPU by LINT0 instead, and a
 * LAPIC takes no such message. */
static bool leads_somewhere(uint64_t entry)
{
	if ((entry & IOAPIC_ENTRY_MODE) >> 8 == DELIVERY_EXTINT)
		return false;
	return !(entry & IOAPIC_ENTRY_MASKED) || (entry & IOAPIC_ENTRY_REMOTE_IRR);
}

struct msi_message ioapic_message(const struct ioapic *ioapic, unsigned int input)
{
	uint64_t entry = ioapic->entries[input];

	return leads_somewhere(entry) ? entry_message(entry) : (struct msi_message){ 0 };
}

static void deliver(struct ioapic *ioapic, const struct msi_sink *sink, unsigned int input)
{
	uint64_t *entry = &ioapic->entries[input];
	struct msi_message message;

	if ((*entry & IOAPIC_ENTRY_MASKED) || !leads_somewhere(*entry))
		return;
	if (*entry & IOAPIC_ENTRY_LEVEL)
		*entry |= IOAPIC_ENTRY_REMOTE_IRR;
	message = entry_message(*entry);
	msi_send(sink, &message);
}

/* A level-triggered input that is asserted asks, unless its last message still waits for the EOI. */
static void look_at_level(struct ioapic *ioapic, const struct msi_sink *sink, unsigned int input)
{
	uint64_t entry = ioapic->entries[input];

	if ((entry & IOAPIC_ENTRY_LEVEL) && !(entry & IOAPIC_ENTRY_REMOTE_IRR) &&
	    (ioapic->lines & (1u << input)))
		deliver(ioapic, sink, input);
}

void ioapic_set_line(struct ioapic *ioapic, const struct msi_sink *sink, unsigned int input,
		     bool level)
{
	uint32_t bit = 1u << input;
	bool rose = level && !(ioapic->lines & bit);

	ioapic->lines = level ? ioapic->lines | bit : ioapic->lines & ~bit;
	if (ioapic->entries[input] & IOAPIC_ENTRY_LEVEL)
		look_at_level(ioapic, sink, input);
	else if (rose) /* an edge at a masked input is lost (data sheet, 3.2.4, bit 16) */
		deliver(ioapic, sink, input);
}

void ioapic_eoi(struct ioapic *ioapic, const struct msi_sink *sink, uint8_t vector)
{
	for (unsigned int i = 0; i < IOAPIC_INPUTS; i++) {
		uint64_t *entry = &ioapic->entries[i];

		if ((*entry & IOAPIC_ENTRY_VECTOR) != vector || !(*entry & IOAPIC_ENTRY_REMOTE_IRR))
			continue;
		*entry &= ~IOAPIC_ENTRY_REMOTE_IRR;
		look_at_level(ioapic, sink, i);
	}
}

static uint32_t read_register(const struct ioapic *ioapic)
{
	unsigned int half = ioapic->select - REGISTER_ENTRIES;

	switch (ioapic->select) {
	case REGISTER_ID:
	case REGISTER_ARBITRATION: /* takes the ID's value whenever that is written */
		return (uint32_t)ioapic->id << 24;
	case REGISTER_VERSION:
		return VERSION_VALUE;
	default:
		if (ioapic->select < REGISTER_ENTRIES || half >= 2 * IOAPIC_INPUTS)
			return 0;
		return (uint32_t)(ioapic->entries[half / 2] >> (half & 1 ? 32 : 0));
	}
}

static void write_entry(struct ioapic *ioapic, const struct msi_sink *sink, unsigned int half,
			uint32_t data)
{
	uint64_t *entry = &ioapic->entries[half / 2];
	unsigned int shift = half & 1 ? 32 : 0;
	uint64_t mask = (0xffffffffULL << shift) & ENTRY_WRITABLE;

	*entry = (*entry & ~mask) | (((uint64_t)data << shift) & mask);
	/* An edge-triggered entry has no remote IRR: software without the EOI register clears it thus. */
	if (!(*entry & IOAPIC_ENTRY_LEVEL))
		*entry &= ~IOAPIC_ENTRY_REMOTE_IRR;
	look_at_level(ioapic, sink, half / 2);
}

static void write_register(struct ioapic *ioapic, const struct msi_sink *sink, uint32_t data)
{
	unsigned int half = ioapic->select - REGISTER_ENTRIES;

	if (ioapic->select == REGISTER_ID)
		ioapic->id = data >> 24 & 15;
	else if (ioapic->select >= REGISTER_ENTRIES && half < 2 * IOAPIC_INPUTS)
		write_entry(ioapic, sink, half, data);
}

/* The data register takes 32-bit accesses only (data sheet, 3.0). */
uint64_t ioapic_read(const struct ioapic *ioapic, uint64_t offset, unsigned int size)
{
	if (offset == IOAPIC_SELECT)
		return ioapic->select;
	if (offset == IOAPIC_WINDOW && size == 4)
		return read_register(ioapic);
	return 0;
}

void ioapic_write(struct ioapic *ioapic, const struct msi_sink *sink, uint64_t offset,
		  unsigned int size, uint64_t data)
{
	if (offset == IOAPIC_SELECT)
		ioapic->select = (uint8_t)data;
	else if (offset == IOAPIC_WINDOW && size == 4)
		write_register(ioapic, sink, (uint32_t)data);
	else if (offset == IOAPIC_EOI && size == 4)
		ioapic_eoi(ioapic, sink, (uint8_t)data);
}
