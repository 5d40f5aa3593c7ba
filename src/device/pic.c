/* SPDX-License-Identifier: Apache-2.0 */
#include "device/pic.h"

#include <errno.h>

#include "base/macros.h"

#define ICW1 0x10 /* command port: begins the initialisation */
#define ICW1_IC4 0x01
#define ICW1_SNGL 0x02
#define ICW1_LTIM 0x08

#define ICW4_AEOI 0x02
#define ICW4_SFNM 0x10

#define OCW3 0x08 /* command port, with ICW1 clear */
#define OCW3_RIS 0x01
#define OCW3_RR 0x02
#define OCW3_P 0x04
#define OCW3_SMM 0x20
#define OCW3_ESMM 0x40

#define POLL_PENDING 0x80

/* OCW2's three top bits: R, SL, EOI. */
enum ocw2 {
	OCW2_ROTATE_AUTO_CLEAR = 0,
	OCW2_EOI = 1,
	OCW2_NOTHING = 2,
	OCW2_EOI_SPECIFIC = 3,
	OCW2_ROTATE_AUTO_SET = 4,
	OCW2_ROTATE_EOI = 5,
	OCW2_SET_PRIORITY = 6,
	OCW2_ROTATE_EOI_SPECIFIC = 7,
};

static const struct state_field pic_fields[] = {
	STATE_FIELD_U8(struct pic, lines),	  STATE_FIELD_U8(struct pic, latched),
	STATE_FIELD_U8(struct pic, isr),	  STATE_FIELD_U8(struct pic, imr),
	STATE_FIELD_U8(struct pic, elcr),	  STATE_FIELD_U8(struct pic, all_level),
	STATE_FIELD_U8(struct pic, icw_expected), STATE_FIELD_U8(struct pic, vector_base),
	STATE_FIELD_U8(struct pic, cascade),	  STATE_FIELD_U8(struct pic, lowest),
	STATE_FIELD_U8(struct pic, flags),
};

const struct state_table pic_state_table = {
	.name = "pic",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct pic),
	.fields = pic_fields,
	.n_fields = ARRAY_SIZE(pic_fields),
};

void pic_reset(struct pic *pic)
{
	*pic = (struct pic){ .lines = pic->lines, .imr = 0xff, .lowest = 7 };
}

int pic_check(const struct pic *pic)
{
	if (pic->lowest > 7 || (pic->vector_base & 7) || pic->all_level > 1)
		return -EINVAL;
	if (pic->icw_expected == 1 || pic->icw_expected > 4)
		return -EINVAL;
	return pic->latched & ~pic->lines ? -EINVAL : 0;
}

static uint8_t level_inputs(const struct pic *pic)
{
	return pic->all_level ? 0xff : pic->elcr;
}

static uint8_t requests(const struct pic *pic)
{
	uint8_t level = level_inputs(pic);

	return (pic->lines & level) | (pic->latched & ~level);
}

/* The bit of highest priority in `bits`, counted from the most urgent one: 0..7, 8 when there is none. */
static unsigned int rank(const struct pic *pic, uint8_t bits)
{
	unsigned int rank = 0;

	while (rank < 8 && !(bits & (1u << ((pic->lowest + 1u + rank) & 7))))
		rank++;
	return rank;
}

static unsigned int input_at(const struct pic *pic, unsigned int rank)
{
	return (pic->lowest + 1u + rank) & 7;
}

int pic_request(const struct pic *pic)
{
	unsigned int asking = rank(pic, requests(pic) & ~pic->imr);
	uint8_t serving = pic->isr;

	if (asking == 8 || pic->icw_expected)
		return -1;
	/* In special mask mode a masked input that is in service holds nobody back. */
	if (pic->flags & PIC_SPECIAL_MASK)
		serving &= ~pic->imr;
	/* In the special fully nested mode the slave may ask again while one of its inputs is served. */
	if ((pic->flags & PIC_FULLY_NESTED) && input_at(pic, asking) == PIC_CASCADE)
		serving &= ~(1u << PIC_CASCADE);
	return asking < rank(pic, serving) ? (int)input_at(pic, asking) : -1;
}

void pic_set_line(struct pic *pic, unsigned int input, bool level)
{
	uint8_t bit = 1u << input;

	if (!level) {
		pic->lines &= ~bit;
		pic->latched &= ~bit;
	} else if (!(pic->lines & bit)) {
		pic->lines |= bit;
		pic->latched |= bit;
	}
}

int pic_acknowledge(struct pic *pic)
{
	int input = pic_request(pic);

	if (input < 0)
		return -1;
	pic->latched &= ~(1u << input);
	if (!(pic->flags & PIC_AUTO_EOI))
		pic->isr |= 1u << input;
	else if (pic->flags & PIC_ROTATE_ON_AUTO_EOI)
		pic->lowest = (uint8_t)input;
	return input;
}

/* Ends the most urgent input in service. */
static void end_of_interrupt(struct pic *pic, bool rotate)
{
	uint8_t serving = pic->isr;
	unsigned int first;

	/* Data sheet, "Special mask mode": a masked bit is not cleared by a non-specific EOI. */
	if (pic->flags & PIC_SPECIAL_MASK)
		serving &= ~pic->imr;
	first = rank(pic, serving);
	if (first == 8)
		return;
	first = input_at(pic, first);
	pic->isr &= ~(1u << first);
	if (rotate)
		pic->lowest = (uint8_t)first;
}

static void write_ocw2(struct pic *pic, uint8_t value)
{
	uint8_t input = value & 7;

	switch ((enum ocw2)(value >> 5)) {
	case OCW2_ROTATE_AUTO_CLEAR:
		pic->flags &= ~PIC_ROTATE_ON_AUTO_EOI;
		break;
	case OCW2_ROTATE_AUTO_SET:
		pic->flags |= PIC_ROTATE_ON_AUTO_EOI;
		break;
	case OCW2_EOI:
		end_of_interrupt(pic, false);
		break;
	case OCW2_ROTATE_EOI:
		end_of_interrupt(pic, true);
		break;
	case OCW2_EOI_SPECIFIC:
		pic->isr &= ~(1u << input);
		break;
	case OCW2_ROTATE_EOI_SPECIFIC:
		pic->isr &= ~(1u << input);
		pic->lowest = input;
		break;
	case OCW2_SET_PRIORITY:
		pic->lowest = input;
		break;
	case OCW2_NOTHING:
		break;
	}
}

static void set_flag(struct pic *pic, uint8_t flag, bool on)
{
	pic->flags = on ? pic->flags | flag : pic->flags & ~flag;
}

static void write_ocw3(struct pic *pic, uint8_t value)
{
	if (value & OCW3_ESMM)
		set_flag(pic, PIC_SPECIAL_MASK, value & OCW3_SMM);
	if (value & OCW3_RR)
		set_flag(pic, PIC_READ_ISR, value & OCW3_RIS);
	/* "Poll overrides read status when both are set." */
	if (value & OCW3_P)
		pic->flags |= PIC_POLL;
}

/* ICW1 forgets edges seen so far: an input must rise again ("Initialization Command Words", a to f). The
 * CALL addresses of an 8085 system (ADI, and ICW4.uPM 0) mean nothing on a PC. */
static void write_icw1(struct pic *pic, uint8_t value)
{
	pic->latched = pic->isr = pic->imr = 0;
	pic->lowest = 7;
	pic->all_level = !!(value & ICW1_LTIM);
	pic->flags = 0;
	set_flag(pic, PIC_WANTS_ICW4, value & ICW1_IC4);
	set_flag(pic, PIC_SINGLE, value & ICW1_SNGL);
	pic->icw_expected = 2;
}

static void write_data(struct pic *pic, uint8_t value)
{
	uint8_t after_icw3 = pic->flags & PIC_WANTS_ICW4 ? 4 : 0;

	switch (pic->icw_expected) {
	case 2:
		pic->vector_base = value & 0xf8;
		pic->icw_expected = pic->flags & PIC_SINGLE ? after_icw3 : 3;
		break;
	case 3:
		pic->cascade = value;
		pic->icw_expected = after_icw3;
		break;
	case 4:
		set_flag(pic, PIC_AUTO_EOI, value & ICW4_AEOI);
		set_flag(pic, PIC_FULLY_NESTED, value & ICW4_SFNM);
		pic->icw_expected = 0;
		break;
	default:
		pic->imr = value;
	}
}

void pic_write(struct pic *pic, bool a0, uint8_t value)
{
	if (a0)
		write_data(pic, value);
	else if (value & ICW1)
		write_icw1(pic, value);
	else if (value & OCW3)
		write_ocw3(pic, value);
	else
		write_ocw2(pic, value);
}

uint8_t pic_read(struct pic *pic, bool a0)
{
	int input;

	if (pic->flags & PIC_POLL) {
		pic->flags &= ~PIC_POLL;
		input = pic_acknowledge(pic);
		return input < 0 ? PIC_SPURIOUS : POLL_PENDING | (uint8_t)input;
	}
	if (a0)
		return pic->imr;
	return pic->flags & PIC_READ_ISR ? pic->isr : requests(pic);
}
