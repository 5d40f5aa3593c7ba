/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/read/instruction_boundary.h"

#include <string.h>

#include "base/macros.h"
#include "watch/read/instruction_operand.h"

/* Of the far bytes, those from which ways begin: so many that an instruction begins among them. */
#define STARTS 32

_Static_assert(STARTS > INSN_LENGTH_MAX, "a true beginning is among them");

/* Neighbours never share a slot. */
static struct boundary *slot_of(struct boundaries *boundaries, uint64_t address)
{
	return &boundaries->slots[address % BOUNDARIES];
}

void boundary_add(struct boundaries *boundaries, uint64_t address, uint8_t mode,
		  const uint8_t *code, size_t n_bytes)
{
	struct boundary *boundary = slot_of(boundaries, address);

	*boundary = (struct boundary){ .address = address, .mode = mode };
	boundary->n_bytes = (uint8_t)MIN(n_bytes, sizeof(boundary->code));
	memcpy(boundary->code, code, boundary->n_bytes);
	boundaries->n_added++;
}

void boundary_add_straight(struct boundaries *boundaries, uint64_t address, uint8_t mode,
			   const uint8_t *code, size_t n_bytes)
{
	while (n_bytes) {
		unsigned int len = insn_straight_length(mode, code, n_bytes);

		boundary_add(boundaries, address, mode, code, n_bytes);
		if (!len)
			return;
		address += len;
		code += len;
		n_bytes -= len;
	}
}

/* The last instruction on the way from a boundary to `end`. */
static unsigned int walk(uint8_t mode, const uint8_t *end, size_t distance)
{
	while (distance) {
		unsigned int len = insn_straight_length(mode, end - distance, distance);

		if (len == distance)
			return len;
		if (!len)
			return 0;
		distance -= len;
	}
	return 0;
}

unsigned int boundary_find_last(const struct boundaries *boundaries, uint64_t address, uint8_t mode,
				const uint8_t *code_end, size_t n_before)
{
	for (size_t distance = 1; distance <= n_before; distance++) {
		const struct boundary *boundary =
			&boundaries->slots[(address - distance) % BOUNDARIES];

		if (boundary->address == address - distance && boundary->mode == mode &&
		    boundary->n_bytes >= distance &&
		    memcmp(boundary->code, code_end - distance, distance) == 0)
			return walk(mode, code_end, distance);
	}
	return 0;
}

unsigned int boundary_agree_on_last(uint8_t mode, const uint8_t code[BOUNDARY_FAR])
{
	/* The last instruction on the way from each byte; 0: the way does not end where the bytes end. */
	uint8_t last[BOUNDARY_FAR];
	unsigned int agreed = 0;

	for (size_t at = BOUNDARY_FAR; at-- > 0;) {
		size_t room = BOUNDARY_FAR - at;
		unsigned int len = insn_length(mode, code + at, room);

		if (len == room)
			last[at] = (uint8_t)len;
		else
			last[at] = len ? last[at + len] : 0;
	}
	for (size_t at = 0; at < STARTS; at++) {
		if (!last[at] || last[at] == agreed)
			continue;
		if (agreed)
			return 0;
		agreed = last[at];
	}
	return agreed;
}
