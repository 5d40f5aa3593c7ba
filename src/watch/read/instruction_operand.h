/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What an instruction does to memory and ports, in a form that is compared with a record without decoding again: one
 * insn_access for each operand of each instruction that could have made an access of that kind, direction and
 * width. Private to watch/read/instruction*.c.
 */

#include <stdbool.h>

#include "watch/record.h"

#define INSN_LENGTH_MAX 15
#define INSN_ACCESSES 12 /* of one place; more are too many to tell apart */

/* Where registers have changed between the instruction's own look at them and the exit. */
enum insn_address {
	ADDRESS_PORT,	/* DX or the displacement */
	ADDRESS_FIXED,	/* registers are as the instruction saw them */
	ADDRESS_STRING, /* the base is a string pointer, perhaps stepped already */
	ADDRESS_STACK,	/* the base is the stack pointer, perhaps moved already */
	ADDRESS_UNKNOWN,
};

enum insn_source {
	SOURCE_UNKNOWN, /* memory, a vector or segment register, a result */
	SOURCE_REGISTER,
	SOURCE_SWAPPED,	 /* a register, its bytes reversed */
	SOURCE_CONSTANT, /* an immediate value, a call's return address */
	SOURCE_TRUTH,	 /* 0 or 1 */
};

struct insn_access {
	int64_t displacement; /* RIP-relative ones are absolute */
	uint64_t constant;
	uint16_t size;	    /* bytes of the operand */
	uint8_t before;	    /* the instruction begins so many bytes before RIP; 0: it is on RIP */
	uint8_t length;	    /* its bytes */
	uint8_t address;    /* enum insn_address */
	int8_t segment;	    /* whose base in `general` is added; -1: none, -2: not known */
	int8_t base, index; /* in `general`; -1: none */
	uint8_t scale;
	uint8_t address_bits;
	uint8_t step;	     /* bytes by which string and stack pointers move */
	int8_t bit_register; /* of BT and its kin: a bit's number, in operands; -1: none */
	uint8_t source;	     /* enum insn_source */
	uint8_t source_register, source_shift;
	bool repeated; /* REP */
	bool string;
	bool reads_and_writes; /* this operand */
	bool also_writes;      /* memory, this or another operand */
};

/* How well an access fits a record; what does not fit is not what made it. */
enum insn_fit {
	FIT_NOT,
	FIT_MAYBE,  /* nothing speaks against it, but its address cannot be known */
	FIT_OFFSET, /* the address within the page is right */
	FIT_WHOLE,  /* the address is right */
};

/* As insn_translate_fn, with the judge's own memory of it. */
typedef bool insn_maps_fn(void *ctx, uint64_t cr3, uint64_t linear, uint64_t physical);

/* Whether linear addresses are translated at all. */
bool insn_is_paged(const struct record_access *access);

/*
 * Appends to `list` (room for INSN_ACCESSES, `*n` are there) those accesses of the instruction at `code` that are of the
 * record's kind and direction and could have its width. `before` is 0 for the instruction on RIP, otherwise its distance and
 * length. False: it has no such instruction because bytes of it are missing, or the list is full.
 */
bool insn_find_accesses(const struct watch_record *record, const uint8_t *code, size_t n_bytes,
			unsigned int before, struct insn_access *list, unsigned int *n);

/* Compares address and data. `maps` tells whether a linear address means a physical one; NULL: cannot be told. */
enum insn_fit insn_fits(const struct insn_access *access, const struct watch_record *record,
			insn_maps_fn *maps, void *ctx);

/* The length of the instruction at `code`, 0: there is none. */
unsigned int insn_length(uint8_t mode, const uint8_t *code, size_t n_bytes);
/* The same when execution goes on behind it in any case, otherwise 0. */
unsigned int insn_straight_length(uint8_t mode, const uint8_t *code, size_t n_bytes);
