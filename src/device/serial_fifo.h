/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One of a 16550's two FIFOs: bytes, each with the line errors that came with it. The caller locks. */

#include <stdbool.h>
#include <stdint.h>

#include "state/state.h"

#define SERIAL_FIFO_SIZE 16

struct serial_fifo {
	uint32_t count;
	uint8_t bytes
		[SERIAL_FIFO_SIZE]; /* those beyond `count` are 0: equal FIFOs are equal structs */
	uint8_t errors[SERIAL_FIFO_SIZE]; /* bits of the line status register */
};

extern const struct state_table serial_fifo_table;

/* There must be room. */
void serial_fifo_push(struct serial_fifo *fifo, uint8_t byte, uint8_t errors);
/* Removes the first `n` (at most count). */
void serial_fifo_drop(struct serial_fifo *fifo, uint32_t n);
void serial_fifo_clear(struct serial_fifo *fifo);
bool serial_fifo_has_error(const struct serial_fifo *fifo);
