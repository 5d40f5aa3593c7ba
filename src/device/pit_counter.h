/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * One counter of an 8254 (Intel data sheet, order 231164): registers and rules. Time comes in as
 * nanoseconds, nothing ticks: what the counter shows follows from when it was loaded.
 *
 * Told apart from the chip: a count is loaded when its last byte is written, not at the next pulse of the clock
 * (0.8 us later), so the "null count" is seen only where loading waits for a trigger or for the end of
 * a period.
 */

#include <stdbool.h>
#include <stdint.h>

#include "state/state.h"

#define PIT_HZ 1193182ULL
#define PIT_NEVER UINT64_MAX

/*
 * elapsed_ns is CLOCK: nanoseconds of counting as of the save; the loader's counter goes on from there on its own
 * clock, the time of the stop counted. (While the gate holds the counter it stands still.) So are edges and edge_owed, which say what has been
 * told of the output by then.
 */
struct pit_counter {
	uint8_t mode;	/* 0..5 */
	uint8_t bcd;	/* 0, 1 */
	uint8_t access; /* 1: low byte, 2: high byte, 3: low then high */
	uint8_t gate;
	uint8_t write_high; /* of a two-byte write `low` is here, the high byte is due */
	uint8_t low;
	uint8_t read_high; /* of a two-byte read the high byte is due */
	uint8_t latched;   /* reads give `latch` */
	uint16_t latch;
	uint8_t status_latched;
	uint8_t status;
	uint8_t null_count; /* `written` is not yet what is counted from */
	uint8_t loaded;	    /* there is a count to count from; else the output rests */
	uint8_t counting;   /* time goes on since `started`; else elapsed_ns stands still */
	uint8_t edge_owed;  /* OUT rose, and nobody was told yet */
	uint32_t written;   /* the count register: 1..65536, or what BCD digits make */
	uint32_t count;	    /* what is counted from */
	uint64_t
		load_at; /* modes 2 and 3, null count: the tick since the load at which `written` takes over */
	uint64_t elapsed_ns;
	uint64_t edges; /* rising edges since the load that edge_owed knows of */
	uint64_t
		started; /* not saved: when counting began, on the host's clock; may lie before its 0 */
};

extern const struct state_table pit_counter_table;

/* 0, or -EINVAL for a state that no sequence of accesses leads to. */
int pit_counter_check(const struct pit_counter *counter);

/* As after power-on: undefined on the chip; here mode 0 at rest. The gate stays. */
void pit_counter_reset(struct pit_counter *counter);

/* A control word for this counter (bits 5..0). */
void pit_counter_control(struct pit_counter *counter, uint8_t word, uint64_t now);
/* The read-back command's two halves. */
void pit_counter_latch_count(struct pit_counter *counter, uint64_t now);
void pit_counter_latch_status(struct pit_counter *counter, uint64_t now);

void pit_counter_write(struct pit_counter *counter, uint8_t value, uint64_t now);
uint8_t pit_counter_read(struct pit_counter *counter, uint64_t now);
void pit_counter_set_gate(struct pit_counter *counter, bool level, uint64_t now);

/* The OUT pin. */
bool pit_counter_output(struct pit_counter *counter, uint64_t now);
/* Whether OUT has risen since the last call; and when it rises next (or deserves a look), or PIT_NEVER. */
bool pit_counter_take_edge(struct pit_counter *counter, uint64_t now);
uint64_t pit_counter_next_edge(struct pit_counter *counter, uint64_t now);

/* Around a save: elapsed_ns from the clock, and back; `now` of a load is when, on our clock, it was saved. */
void pit_counter_save(struct pit_counter *counter, uint64_t now);
void pit_counter_loaded(struct pit_counter *counter, uint64_t now);
