/* SPDX-License-Identifier: Apache-2.0 */

/* The 8259s and the IOAPIC, as their data sheets have them. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"
#include "device/irqchip.h"
#include "device_rig.h"

#define MASTER 0x20
#define SLAVE 0xa0
#define ELCR 0x4d0
#define MESSAGES 64

struct chip {
	struct device_rig rig;
	struct irqchip *irqchip;
	struct msi_message messages[MESSAGES];
	unsigned int n_messages;
	bool intr;
	unsigned int intr_changes;
	struct msi_message routes[IRQCHIP_LINES];
	unsigned int route_changes;
};

static void sent(void *ctx, const struct msi_message *message)
{
	struct chip *chip = ctx;

	chip->messages[chip->n_messages++ % MESSAGES] = *message;
}

static void pic_changed(void *ctx, bool asserted)
{
	struct chip *chip = ctx;

	chip->intr = asserted;
	chip->intr_changes++;
}

static void routes_changed(void *ctx, const struct msi_message messages[IRQCHIP_LINES])
{
	struct chip *chip = ctx;

	memcpy(chip->routes, messages, sizeof(chip->routes));
	chip->route_changes++;
}

static struct chip *chip_new(void)
{
	struct chip *chip = calloc(1, sizeof(*chip));
	const struct irqchip_host host = {
		.msi = { .send = sent, .ctx = chip },
		.pic_changed = pic_changed,
		.routes_changed = routes_changed,
		.ctx = chip,
	};

	rig_init(&chip->rig, 1);
	assert_int_equal(irqchip_new(chip->rig.bus, &host, &chip->irqchip), 0);
	chip->rig.device = irqchip_device(chip->irqchip);
	return chip;
}

static void chip_free(struct chip *chip)
{
	rig_release(&chip->rig);
	free(chip);
}

static void line(struct chip *chip, uint32_t gsi, bool level)
{
	const struct irq_line l = irqchip_line(chip->irqchip, gsi);

	irq_set(&l, level);
}

static void out(struct chip *chip, uint16_t port, uint8_t value)
{
	rig_out(&chip->rig, port, 1, value);
}

static uint8_t in(struct chip *chip, uint16_t port)
{
	return (uint8_t)rig_in(&chip->rig, port, 1);
}

/* ICW1-4 as a PC's firmware does, vectors 0x30 and 0x38; `icw4` of the master. All unmasked. */
static void initialise(struct chip *chip, uint8_t icw4)
{
	out(chip, MASTER, 0x11);
	out(chip, MASTER + 1, 0x30);
	out(chip, MASTER + 1, 0x04);
	out(chip, MASTER + 1, icw4);
	out(chip, SLAVE, 0x11);
	out(chip, SLAVE + 1, 0x38);
	out(chip, SLAVE + 1, 0x02);
	out(chip, SLAVE + 1, 0x01);
	out(chip, MASTER + 1, 0);
	out(chip, SLAVE + 1, 0);
}

static int ack(struct chip *chip)
{
	return irqchip_pic_acknowledge(chip->irqchip);
}

static void pulse(struct chip *chip, uint32_t gsi)
{
	line(chip, gsi, false);
	line(chip, gsi, true);
}

static void nothing_before_initialisation(void **state)
{
	struct chip *chip = chip_new();

	line(chip, 4, true);
	line(chip, 12, true);
	assert_false(chip->intr);
	assert_int_equal(ack(chip), -1);
	out(chip, MASTER + 1, 0xa5); /* the mask can be written and read back, as probes do */
	assert_int_equal(in(chip, MASTER + 1), 0xa5);
	chip_free(chip);
}

static void priority_is_by_number(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 1);
	line(chip, 5, true);
	line(chip, 3, true);
	assert_true(chip->intr);
	assert_int_equal(ack(chip), 0x33);
	assert_false(chip->intr); /* 5 waits for 3's end */
	out(chip, MASTER, 0x20);
	assert_true(chip->intr);
	assert_int_equal(ack(chip), 0x35);
	line(chip, 1, true); /* more urgent: nests */
	assert_int_equal(ack(chip), 0x31);
	out(chip, MASTER, 0x0b); /* read ISR */
	assert_int_equal(in(chip, MASTER), 0x22);
	out(chip, MASTER, 0x20);
	out(chip, MASTER, 0x20);
	assert_int_equal(in(chip, MASTER), 0);
	chip_free(chip);
}

static void slave_goes_through_the_cascade(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 1);
	line(chip, 12, true);
	line(chip, 9, true);
	assert_int_equal(ack(chip), 0x39);
	out(chip, SLAVE, 0x20);
	assert_false(chip->intr); /* the master's input 2 is in service still */
	out(chip, MASTER, 0x20);
	assert_true(chip->intr);
	assert_int_equal(ack(chip), 0x3c);
	chip_free(chip);
}

static void edge_needs_a_new_rise(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 1);
	line(chip, 4, true);
	assert_int_equal(ack(chip), 0x34);
	out(chip, MASTER, 0x20);
	assert_false(chip->intr);
	pulse(chip, 4);
	assert_true(chip->intr);
	line(chip, 4, false); /* gone before it was taken */
	assert_false(chip->intr);
	assert_int_equal(ack(chip), -1);
	chip_free(chip);
}

static void level_asks_while_it_is_high(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 1);
	rig_out(&chip->rig, ELCR, 2, 0xffff);
	assert_int_equal(rig_in(&chip->rig, ELCR, 2), 0xdef8); /* 0, 1, 2, 8 and 13 are edges */
	assert_int_equal(in(chip, ELCR + 1), 0xde);
	line(chip, 5, true);
	assert_int_equal(ack(chip), 0x35);
	out(chip, MASTER, 0x20);
	assert_int_equal(ack(chip), 0x35);
	line(chip, 5, false);
	out(chip, MASTER, 0x20);
	assert_false(chip->intr);
	out(chip, ELCR + 1, 0);
	assert_int_equal(rig_in(&chip->rig, ELCR, 2), 0x00f8);
	chip_free(chip);
}

static void whole_chip_can_be_level_triggered(void **state)
{
	struct chip *chip = chip_new();

	line(chip, 1, true);
	out(chip, MASTER, 0x1a); /* LTIM, single, no ICW4 */
	out(chip, MASTER + 1, 0x40);
	out(chip, MASTER + 1, 0); /* the mask already */
	assert_int_equal(ack(chip), 0x41);
	out(chip, MASTER, 0x20);
	assert_int_equal(ack(chip), 0x41);
	chip_free(chip);
}

static void mask_holds_back(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 1);
	out(chip, MASTER + 1, 0x10);
	line(chip, 4, true);
	assert_false(chip->intr);
	assert_int_equal(in(chip, MASTER), 0x10); /* IRR */
	out(chip, MASTER + 1, 0);
	assert_true(chip->intr);
	chip_free(chip);
}

static void auto_eoi_ends_at_once(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 3);
	line(chip, 3, true);
	line(chip, 6, true);
	assert_int_equal(ack(chip), 0x33);
	assert_int_equal(ack(chip), 0x36);
	out(chip, MASTER, 0x0b);
	assert_int_equal(in(chip, MASTER), 0);
	chip_free(chip);
}

static void auto_eoi_rotates_when_asked(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 3);
	out(chip, MASTER, 0x80);
	pulse(chip, 3);
	assert_int_equal(ack(chip), 0x33); /* now 4 is the most urgent */
	pulse(chip, 3);
	pulse(chip, 7);
	assert_int_equal(ack(chip), 0x37);
	assert_int_equal(ack(chip), 0x33);
	out(chip, MASTER, 0x00); /* stop */
	pulse(chip, 7);
	assert_int_equal(ack(chip), 0x37);
	pulse(chip, 5);
	pulse(chip, 4);
	assert_int_equal(ack(chip), 0x34); /* as it was left: 4 first */
	chip_free(chip);
}

static void rotation_by_eoi(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 1);
	pulse(chip, 3);
	assert_int_equal(ack(chip), 0x33);
	out(chip, MASTER, 0xa0); /* rotate on non-specific EOI */
	pulse(chip, 1);
	pulse(chip, 5);
	assert_int_equal(ack(chip), 0x35);
	out(chip, MASTER, 0xe5); /* rotate on specific EOI: 6 first */
	pulse(chip, 6);
	assert_int_equal(ack(chip), 0x36);
	out(chip, MASTER, 0x66); /* specific EOI */
	assert_int_equal(ack(chip), 0x31);
	out(chip, MASTER, 0x61);
	out(chip, MASTER, 0xc0); /* set priority: 0 is the least urgent */
	out(chip, MASTER, 0x40); /* no operation */
	pulse(chip, 0);
	pulse(chip, 7);
	assert_int_equal(ack(chip), 0x37);
	chip_free(chip);
}

static void special_mask_lets_lower_ones_in(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 1);
	pulse(chip, 3);
	assert_int_equal(ack(chip), 0x33);
	pulse(chip, 6);
	assert_false(chip->intr);
	out(chip, MASTER + 1, 0x08); /* mask the one in service */
	out(chip, MASTER, 0x68);     /* special mask on */
	assert_int_equal(ack(chip), 0x36);
	out(chip, MASTER, 0x20); /* ends 6, not the masked 3 */
	out(chip, MASTER, 0x0b);
	assert_int_equal(in(chip, MASTER), 0x08);
	out(chip, MASTER, 0x20); /* nothing that it may end */
	assert_int_equal(in(chip, MASTER), 0x08);
	out(chip, MASTER, 0x48); /* off */
	pulse(chip, 6);
	assert_false(chip->intr);
	chip_free(chip);
}

static void special_fully_nested_mode(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 0x11);
	line(chip, 12, true);
	assert_int_equal(ack(chip), 0x3c);
	line(chip, 8, true); /* more urgent, of the same slave */
	assert_true(chip->intr);
	assert_int_equal(ack(chip), 0x38);
	chip_free(chip);

	chip = chip_new();
	initialise(chip, 1);
	line(chip, 12, true);
	assert_int_equal(ack(chip), 0x3c);
	line(chip, 8, true);
	assert_false(chip->intr); /* without it the slave waits */
	chip_free(chip);
}

static void poll_acknowledges(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 1);
	line(chip, 6, true);
	out(chip, MASTER, 0x0c);
	assert_int_equal(in(chip, MASTER), 0x86);
	assert_false(chip->intr);
	out(chip, MASTER, 0x0c);
	assert_int_equal(in(chip, MASTER + 1) & 0x80, 0); /* none; either port answers */
	assert_int_equal(in(chip, MASTER + 1), 0);	  /* once: the mask again */
	chip_free(chip);
}

static void initialisation_forgets_edges(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 1);
	line(chip, 4, true);
	initialise(chip, 1);
	assert_false(chip->intr);
	pulse(chip, 4);
	assert_true(chip->intr);
	out(chip, MASTER, 0x11); /* half-way: nothing is asked for */
	assert_false(chip->intr);
	chip_free(chip);
}

static void sixteen_bit_write_reaches_both_ports(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 1);
	rig_out(&chip->rig, MASTER, 2, 0x5a0b);
	assert_int_equal(in(chip, MASTER + 1), 0x5a);
	rig_out(&chip->rig, SLAVE, 2, 0xa50a);
	assert_int_equal(rig_in(&chip->rig, SLAVE, 2), 0xa500);
	assert_int_equal(rig_in(&chip->rig, MASTER, 2), 0x5a00);
	chip_free(chip);
}

/* IOAPIC */

static uint32_t ioapic_in(struct chip *chip, uint8_t reg)
{
	rig_access(&chip->rig, BUS_MMIO, IRQCHIP_IOAPIC_BASE, 4, true, reg);
	return (uint32_t)rig_access(&chip->rig, BUS_MMIO, IRQCHIP_IOAPIC_BASE + 0x10, 4, false, 0);
}

static void ioapic_out(struct chip *chip, uint8_t reg, uint32_t value)
{
	rig_access(&chip->rig, BUS_MMIO, IRQCHIP_IOAPIC_BASE, 4, true, reg);
	rig_access(&chip->rig, BUS_MMIO, IRQCHIP_IOAPIC_BASE + 0x10, 4, true, value);
}

static void redirect(struct chip *chip, unsigned int input, uint64_t entry)
{
	ioapic_out(chip, (uint8_t)(0x11 + 2 * input), (uint32_t)(entry >> 32));
	ioapic_out(chip, (uint8_t)(0x10 + 2 * input), (uint32_t)entry);
}

static uint64_t entry_of(struct chip *chip, unsigned int input)
{
	return (uint64_t)ioapic_in(chip, (uint8_t)(0x11 + 2 * input)) << 32 |
	       ioapic_in(chip, (uint8_t)(0x10 + 2 * input));
}

#define LEVEL (1ULL << 15)
#define REMOTE_IRR (1ULL << 14)
#define MASKED (1ULL << 16)
#define TO_CPU(n) ((uint64_t)(n) << 56)

static void ioapic_registers(void **state)
{
	struct chip *chip = chip_new();

	assert_int_equal(ioapic_in(chip, 1), 0x00170020);
	ioapic_out(chip, 0, 0xff0000ff);
	assert_int_equal(ioapic_in(chip, 0), 0x0f000000);
	assert_int_equal(ioapic_in(chip, 2), 0x0f000000);
	ioapic_out(chip, 1, 0);
	assert_int_equal(ioapic_in(chip, 1), 0x00170020);
	assert_int_equal(ioapic_in(chip, 3), 0);
	assert_int_equal(ioapic_in(chip, 0x40), 0); /* past the last entry */
	ioapic_out(chip, 0x40, 0xffffffff);
	for (unsigned int i = 0; i < IRQCHIP_LINES; i++)
		assert_true(entry_of(chip, i) == MASKED);
	redirect(chip, 5, UINT64_MAX & ~MASKED);
	/* Reserved bits and the read-only ones (12, 14) stay 0. */
	assert_true(entry_of(chip, 5) == 0xff0000000000afffULL);
	assert_int_equal(rig_access(&chip->rig, BUS_MMIO, IRQCHIP_IOAPIC_BASE, 1, false, 0), 0x1a);
	assert_int_equal(rig_access(&chip->rig, BUS_MMIO, IRQCHIP_IOAPIC_BASE + 0x10, 1, false, 0),
			 0);
	chip_free(chip);
}

static void ioapic_edge(void **state)
{
	struct chip *chip = chip_new();

	redirect(chip, 4, TO_CPU(3) | 0x900 | 0x55); /* logical, lowest priority */
	line(chip, 4, true);
	assert_int_equal(chip->n_messages, 1);
	assert_true(chip->messages[0].address == (0xfee00000 | 3 << 12 | 4));
	assert_int_equal(chip->messages[0].data, 0x155);
	line(chip, 4, true);
	assert_int_equal(chip->n_messages, 1);
	pulse(chip, 4);
	assert_int_equal(chip->n_messages, 2);
	redirect(chip, 4, MASKED | 0x55);
	pulse(chip, 4); /* lost */
	redirect(chip, 4, 0x55);
	assert_int_equal(chip->n_messages, 2);
	chip_free(chip);
}

static void ioapic_level(void **state)
{
	struct chip *chip = chip_new();

	redirect(chip, 20, TO_CPU(1) | LEVEL | 0x61);
	assert_int_equal(chip->routes[20].data, 0xc061);
	assert_true(chip->routes[20].address == (0xfee00000 | 1 << 12));
	line(chip, 20, true);
	assert_int_equal(chip->n_messages, 1);
	assert_int_equal(chip->messages[0].data, 0xc061);
	assert_true(entry_of(chip, 20) & REMOTE_IRR);
	pulse(chip, 20); /* waits for the EOI */
	assert_int_equal(chip->n_messages, 1);
	irqchip_eoi(chip->irqchip, 0x62); /* another's */
	assert_int_equal(chip->n_messages, 1);
	irqchip_eoi(chip->irqchip, 0x61); /* still asserted: again */
	assert_int_equal(chip->n_messages, 2);
	line(chip, 20, false);
	irqchip_eoi(chip->irqchip, 0x61);
	assert_int_equal(chip->n_messages, 2);
	assert_false(entry_of(chip, 20) & REMOTE_IRR);
	chip_free(chip);
}

static void ioapic_unmasking_looks_at_the_level(void **state)
{
	struct chip *chip = chip_new();

	redirect(chip, 9, LEVEL | MASKED | 0x71);
	line(chip, 9, true);
	assert_int_equal(chip->n_messages, 0);
	redirect(chip, 9, LEVEL | 0x71);
	assert_int_equal(chip->n_messages, 1);
	chip_free(chip);
}

static void ioapic_masked_entry_still_owes_its_eoi(void **state)
{
	struct chip *chip = chip_new();

	redirect(chip, 9, LEVEL | 0x71);
	line(chip, 9, true);
	redirect(chip, 9, LEVEL | MASKED | 0x71);
	assert_true(chip->routes[9].address != 0); /* or KVM would not tell */
	irqchip_eoi(chip->irqchip, 0x71);
	assert_true(chip->routes[9].address == 0);
	assert_int_equal(chip->n_messages, 1);
	redirect(chip, 9, LEVEL | 0x71);
	assert_int_equal(chip->n_messages, 2);
	chip_free(chip);
}

static void ioapic_eoi_register(void **state)
{
	struct chip *chip = chip_new();

	redirect(chip, 9, LEVEL | 0x71);
	line(chip, 9, true);
	line(chip, 9, false);
	rig_access(&chip->rig, BUS_MMIO, IRQCHIP_IOAPIC_BASE + 0x40, 4, true, 0x71);
	assert_false(entry_of(chip, 9) & REMOTE_IRR);
	line(chip, 9, true);
	assert_int_equal(chip->n_messages, 2);
	redirect(chip, 9, MASKED | 0x71); /* edge: the old way to clear it */
	assert_false(entry_of(chip, 9) & REMOTE_IRR);
	chip_free(chip);
}

static void ioapic_wiring(void **state)
{
	struct chip *chip = chip_new();

	redirect(chip, 0, 0x40);
	redirect(chip, 2, 0x42);
	line(chip, 0, true); /* the timer */
	assert_int_equal(chip->n_messages, 1);
	assert_int_equal(chip->messages[0].data, 0x42);
	line(chip, 2, true);
	line(chip, 24, true);
	line(chip, UINT32_MAX, true);
	assert_int_equal(chip->n_messages, 1);
	redirect(chip, 7, 0x700); /* ExtINT: the PIC has its own way */
	line(chip, 7, true);
	assert_int_equal(chip->n_messages, 1);
	assert_true(chip->routes[7].address == 0);
	chip_free(chip);
}

static void routes_are_told_only_when_they_change(void **state)
{
	struct chip *chip = chip_new();
	unsigned int before;

	redirect(chip, 3, 0x43);
	before = chip->route_changes;
	redirect(chip, 3, 0x43);
	pulse(chip, 3);
	ioapic_in(chip, 1);
	assert_int_equal(chip->route_changes, before);
	redirect(chip, 3, 0x44);
	assert_int_equal(chip->route_changes, before + 1);
	chip_free(chip);
}

static void reset_masks_everything(void **state)
{
	struct chip *chip = chip_new();

	initialise(chip, 1);
	redirect(chip, 4, 0x44);
	line(chip, 5, true);
	assert_true(chip->intr);
	chip->rig.device->ops->reset(chip->rig.device);
	assert_false(chip->intr);
	assert_true(chip->routes[4].address == 0);
	assert_int_equal(in(chip, MASTER + 1), 0xff);
	assert_true(entry_of(chip, 4) == MASKED);
	chip_free(chip);
}

/* State */

static void copy(struct chip *to, struct chip *from)
{
	struct error err = { 0 };
	struct buffer saved;

	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(&from->rig, &saved);
	assert_int_equal(rig_load(&to->rig, NULL, &saved, &err), 0);
	buffer_release(&saved);
	rig_expect_equal(&from->rig, &to->rig);
}

static void saved_while_busy(void **state)
{
	struct chip *a = chip_new(), *b = chip_new();

	initialise(a, 1);
	redirect(a, 20, LEVEL | 0x71);
	line(a, 20, true);
	line(a, 3, true);
	assert_int_equal(ack(a), 0x33);
	line(a, 1, true);    /* asks, more urgent */
	out(a, SLAVE, 0x11); /* half-way through its initialisation */
	out(a, SLAVE + 1, 0x50);
	copy(b, a);
	assert_true(b->intr);
	assert_int_equal(b->n_messages, 0); /* what was sent is in the LAPIC's state */
	assert_memory_equal(a->routes, b->routes, sizeof(a->routes));
	for (unsigned int i = 0; i < 2; i++) {
		struct chip *chip = i ? b : a;

		out(chip, SLAVE + 1, 0x02);
		out(chip, SLAVE + 1, 0x01);
		assert_int_equal(ack(chip), 0x31);
		out(chip, MASTER, 0x20);
		out(chip, MASTER, 0x20);
		line(chip, 14, true);
		assert_int_equal(ack(chip), 0x56);
		irqchip_eoi(chip->irqchip, 0x71);
	}
	assert_int_equal(b->n_messages, 1);
	rig_expect_equal(&a->rig, &b->rig);
	chip_free(a);
	chip_free(b);
}

static void random_step(struct chip *chip, uint64_t r, uint64_t *ret_seen)
{
	uint8_t value = (uint8_t)(r >> 16);

	*ret_seen = 0;
	switch (r & 7) {
	case 0:
	case 1:
		line(chip, (uint32_t)(r >> 8) % 26, value & 1);
		break;
	case 2:
		*ret_seen = (uint64_t)ack(chip);
		break;
	case 3:
		irqchip_eoi(chip->irqchip, value & 15);
		break;
	case 4:
		ioapic_out(chip, (uint8_t)(0x10 + (r >> 8 & 63)), (uint32_t)(r >> 16) & 0xff01ff0f);
		break;
	case 5:
		*ret_seen = ioapic_in(chip, (uint8_t)(0x10 + (r >> 8 & 63)));
		break;
	case 6:
		*ret_seen = in(chip, (r >> 8 & 1 ? MASTER : SLAVE) + (r >> 9 & 1));
		break;
	default:
		if (r >> 11 & 7) /* an initialisation only now and then */
			value &= ~0x10;
		out(chip, (r >> 8 & 1 ? MASTER : SLAVE) + (r >> 9 & 1), value);
	}
}

static void random_sequences_agree_with_a_copy(void **state)
{
	for (uint64_t seed = 1; seed <= 30; seed++) {
		struct chip *a = chip_new(), *b = chip_new();
		uint64_t random = seed * 0x9e3779b97f4a7c15ULL, sa, sb;

		initialise(a, (uint8_t)(seed & 0x1f) | 1);
		for (unsigned int i = 0; i < 400; i++)
			random_step(a, rig_random(&random), &sa);
		copy(b, a);
		a->n_messages = b->n_messages = 0;
		for (unsigned int i = 0; i < 400; i++) {
			uint64_t r = rig_random(&random);

			random_step(a, r, &sa);
			random_step(b, r, &sb);
			assert_true(sa == sb);
			assert_int_equal(a->intr, b->intr);
			assert_int_equal(a->n_messages, b->n_messages);
		}
		for (unsigned int i = 0; i < MIN(a->n_messages, MESSAGES); i++) {
			assert_true(a->messages[i].address == b->messages[i].address);
			assert_int_equal(a->messages[i].data, b->messages[i].data);
		}
		assert_memory_equal(a->routes, b->routes, sizeof(a->routes));
		rig_expect_equal(&a->rig, &b->rig);
		chip_free(a);
		chip_free(b);
	}
}

/* Any one byte of a section replaced: refused, or taken as a state that works on. */
static void damaged_state_is_refused_or_harmless(void **state)
{
	struct chip *a = chip_new();
	struct buffer saved;
	unsigned int refused = 0;

	initialise(a, 1);
	redirect(a, 9, LEVEL | 0x71);
	line(a, 9, true);
	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(&a->rig, &saved);
	for (size_t at = 0; at < saved.len; at++) {
		struct chip *b = chip_new();
		struct error err = { 0 };

		saved.data[at] ^= 0xff;
		if (rig_load(&b->rig, NULL, &saved, &err) < 0)
			refused++;
		for (unsigned int gsi = 0; gsi < IRQCHIP_LINES; gsi++)
			pulse(b, gsi);
		ack(b);
		saved.data[at] ^= 0xff;
		chip_free(b);
	}
	assert_true(refused > 10);
	buffer_release(&saved);
	chip_free(a);
}

static void a_taken_port_is_an_error(void **state)
{
	struct chip *chip = chip_new();
	const struct irqchip_host host = { .pic_changed = pic_changed, .ctx = chip };
	struct irqchip *second = NULL;

	assert_true(irqchip_new(chip->rig.bus, &host, &second) < 0);
	assert_null(second);
	chip_free(chip);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_before_initialisation),
		cmocka_unit_test(priority_is_by_number),
		cmocka_unit_test(slave_goes_through_the_cascade),
		cmocka_unit_test(edge_needs_a_new_rise),
		cmocka_unit_test(level_asks_while_it_is_high),
		cmocka_unit_test(whole_chip_can_be_level_triggered),
		cmocka_unit_test(mask_holds_back),
		cmocka_unit_test(auto_eoi_ends_at_once),
		cmocka_unit_test(auto_eoi_rotates_when_asked),
		cmocka_unit_test(rotation_by_eoi),
		cmocka_unit_test(special_mask_lets_lower_ones_in),
		cmocka_unit_test(special_fully_nested_mode),
		cmocka_unit_test(poll_acknowledges),
		cmocka_unit_test(initialisation_forgets_edges),
		cmocka_unit_test(sixteen_bit_write_reaches_both_ports),
		cmocka_unit_test(ioapic_registers),
		cmocka_unit_test(ioapic_edge),
		cmocka_unit_test(ioapic_level),
		cmocka_unit_test(ioapic_unmasking_looks_at_the_level),
		cmocka_unit_test(ioapic_masked_entry_still_owes_its_eoi),
		cmocka_unit_test(ioapic_eoi_register),
		cmocka_unit_test(ioapic_wiring),
		cmocka_unit_test(routes_are_told_only_when_they_change),
		cmocka_unit_test(reset_masks_everything),
		cmocka_unit_test(saved_while_busy),
		cmocka_unit_test(random_sequences_agree_with_a_copy),
		cmocka_unit_test(damaged_state_is_refused_or_harmless),
		cmocka_unit_test(a_taken_port_is_an_error),
	};

	return cmocka_run_group_tests_name("device-irqchip", tests, NULL, NULL);
}
