/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One 8259A interrupt controller (Intel 8259A data sheet, order 231468) with the edge/level register that
 * PCs add (ELCR). Registers and rules only: no lock, no time; irqchip.c wires two of them together.
 */

#include <stdbool.h>
#include <stdint.h>

#include "state/state.h"

#define PIC_SPURIOUS 7 /* the input whose vector answers an INTA cycle without a request */
#define PIC_CASCADE 2  /* the master's input that the slave drives */

/* Bits of `flags`. */
#define PIC_AUTO_EOI 0x01	    /* ICW4.AEOI */
#define PIC_ROTATE_ON_AUTO_EOI 0x02 /* OCW2 */
#define PIC_SPECIAL_MASK 0x04	    /* OCW3.SMM */
#define PIC_FULLY_NESTED 0x08	    /* ICW4.SFNM: the special fully nested mode */
#define PIC_POLL 0x10		    /* OCW3.P: the next read acknowledges */
#define PIC_READ_ISR 0x20	    /* OCW3.RIS */
#define PIC_WANTS_ICW4 0x40	    /* ICW1.IC4 */
#define PIC_SINGLE 0x80		    /* ICW1.SNGL: no ICW3 follows */

struct pic {
	uint8_t lines;	 /* the inputs as they are now */
	uint8_t latched; /* edges seen and not yet acknowledged; a subset of `lines` */
	uint8_t isr, imr;
	uint8_t elcr;	      /* inputs that are level-triggered */
	uint8_t all_level;    /* ICW1.LTIM: all of them are */
	uint8_t icw_expected; /* 0: initialised or never begun; 2..4: that ICW comes next */
	uint8_t vector_base;  /* ICW2, low three bits 0 */
	uint8_t cascade;      /* ICW3; kept, the wiring is fixed */
	uint8_t lowest;	      /* the input of lowest priority: 7 unless rotated */
	uint8_t flags;
};

extern const struct state_table pic_state_table;

/* As after power-on: everything masked, so that nothing is asked for before software programs it. The inputs
 * and what they are wired to stay. */
void pic_reset(struct pic *pic);
/* 0, or -EINVAL for a state that no sequence of accesses leads to. */
int pic_check(const struct pic *pic);

/* `a0` false: command port, true: data port. Reads in poll mode acknowledge. */
void pic_write(struct pic *pic, bool a0, uint8_t value);
uint8_t pic_read(struct pic *pic, bool a0);

/* Input 0..7. An edge-triggered request lasts only while the input stays high until it is acknowledged
 * (data sheet, "Edge and level triggered modes"). */
void pic_set_line(struct pic *pic, unsigned int input, bool level);

/* The input to serve next, or -1: what the INT pin says. */
int pic_request(const struct pic *pic);

/* The INTA cycle: returns the input acknowledged, -1 for a spurious one (no bit is set then). */
int pic_acknowledge(struct pic *pic);
