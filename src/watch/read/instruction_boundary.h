/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where instructions begin, for code in which several could end at one place ("40 89 07" is one instruction, or the last two
 * bytes of it are). Bytes do not tell; these do:
 *
 *  - where an exit stood, or an instruction was found, one begins; from there on, up to a branch, each that
 *    follows begins where the one before it ends;
 *  - decoding from each of many bytes well before the place: one of them is where an instruction begins, so when all
 *    ways agree on the last instruction before the place, that is the right one. Holds for code without data
 *    in between, as compilers make it.
 *
 * Private to watch/read/instruction*.c.
 */

#include <stddef.h>
#include <stdint.h>

#include "watch/record.h"

#define BOUNDARIES 1024 /* kept, a power of two */

struct boundary {
	uint64_t address; /* linear; an instruction surely begins here */
	uint8_t mode;
	uint8_t n_bytes;
	uint8_t code[RECORD_WINDOW];
};

struct boundaries {
	uint32_t n_added;
	struct boundary slots[BOUNDARIES]; /* by address */
};

/* An instruction begins at `address`; `code` is what is known from there on. */
void boundary_add(struct boundaries *boundaries, uint64_t address, uint8_t mode,
		  const uint8_t *code, size_t n_bytes);
/* And it was executed: what follows, up to a branch, is executed too. */
void boundary_add_straight(struct boundaries *boundaries, uint64_t address, uint8_t mode,
			   const uint8_t *code, size_t n_bytes);

/* The length of the instruction that ends at `address`, of whose `n_before` bytes before it `code` is the end, by the nearest boundary;
 * 0: none tells. */
unsigned int boundary_find_last(const struct boundaries *boundaries, uint64_t address, uint8_t mode,
				const uint8_t *code_end, size_t n_before);

#define BOUNDARY_FAR 128 /* bytes from which one can tell without boundaries */

/* The same from the BOUNDARY_FAR bytes before it alone. */
unsigned int boundary_agree_on_last(uint8_t mode, const uint8_t code[BOUNDARY_FAR]);
