/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which instruction made an access. At an exit RIP stands on the instruction or behind it, by kind of access and by
 * KVM's back end, and nothing says which: an instruction is named only when it is the one that fits - its operand's
 * address translates to the access's, and width, direction and data are the access's. Otherwise: ambiguous or unknown,
 * never a guess.
 *
 *   code before RIP: every suffix that decodes to exactly its length is a candidate
 *   code from RIP on: the one instruction there is a candidate
 *
 * Runs in the reader, over a copy of the record; untrusted, all of it. Decoding is Zydis's.
 */

#include <stdbool.h>

#include "watch/record.h"

/* A linear address to a guest-physical one by the page tables at `cr3`: 1, 0: not mapped, negative errno: memory cannot be
 * looked at now (then the page offset alone must fit). */
typedef int insn_translate_fn(void *ctx, uint64_t cr3, uint64_t linear, uint64_t *ret_physical);

/* Guest-physical memory as it is now: 0 or a negative errno. */
typedef int insn_read_fn(void *ctx, uint64_t physical, void *buf, size_t len);

struct judge; /* one for each ring */

/* `translate` and `read` may be NULL: then fewer instructions can be told apart. NULL when out of memory. */
struct judge *judge_new(insn_translate_fn *translate, insn_read_fn *read, void *ctx);
void judge_free(struct judge *judge);

/*
 * Fills verdict, instruction and length of a record of kind PIO or MMIO that is NOT_JUDGED, and the length of one that was
 * STEPPED; leaves others. To be given all records of one ring, in order: the first half of an access in two names
 * the second's instruction, and accesses with one candidate only teach where exits of this KVM stand, which decides
 * between a candidate on RIP and one before it. What was found is kept by address and compared with the code and the
 * operands each time, so most records cost no decoding.
 */
void judge_record(struct judge *judge, struct watch_record *record);

/* The code of the judged record's instruction, `access.length` bytes in the record itself; NULL when it has none. */
const uint8_t *insn_code(const struct watch_record *record);

/* Text, for views: Intel syntax, "mov dword ptr [rsi], eax"; its length in bytes, or 0 and "(bad)". */
unsigned int insn_format(const uint8_t *code, size_t n_bytes, uint8_t mode, uint64_t address,
			 char *ret_text, size_t size);
