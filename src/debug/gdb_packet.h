/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Frames of the GDB remote serial protocol (GDB manual, appendix E.1), and the numbers inside them. What comes in is
 * untrusted; nothing here allocates by its length. One thread.
 *
 *   $ payload # xx      a packet; xx: the sum of the payload's bytes modulo 256, in hex
 *   } c                 inside a payload: the byte c ^ 0x20
 *   + -  0x03           outside: the last packet was good, was bad; stop the guest
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/limits.h"

enum gdb_event {
	GDB_NOTHING,   /* more bytes are needed */
	GDB_PACKET,    /* `data` and `len` hold a whole payload, unescaped, with a NUL behind it */
	GDB_TOO_LONG,  /* a packet of more than LIMIT_GDB_PACKET bytes has ended; it is lost */
	GDB_BAD_SUM,   /* a packet has ended whose sum is wrong */
	GDB_ACK,       /* + */
	GDB_NAK,       /* - */
	GDB_INTERRUPT, /* 0x03 */
};

enum gdb_framing_state { GDB_OUTSIDE, GDB_INSIDE, GDB_ESCAPED, GDB_SUM_HIGH, GDB_SUM_LOW };

/* Zeroed at the start of a connection. */
struct gdb_framing {
	enum gdb_framing_state state;
	size_t len;
	bool too_long;
	uint8_t sum;
	uint8_t told_sum; /* the packet's own, its first digit so far */
	bool bad_digit;
	char data[LIMIT_GDB_PACKET + 1];
};

/* Takes one byte. After GDB_PACKET the payload stays until the next byte. */
enum gdb_event gdb_framing_take(struct gdb_framing *framing, uint8_t byte);

/* Appends a payload as a packet, escaped where need be. -E2BIG or -ENOMEM: nothing useful was appended. */
_must_check_ int gdb_packet_append(struct buffer *out, const void *payload, size_t len);

/* A place in a payload. */
struct gdb_text {
	const char *at, *end;
};

/* Steps over `word` or the character, if it comes next. */
bool gdb_text_skip(struct gdb_text *text, const char *word);
/* A number in hex without a sign, 1 to 16 digits; false, and nothing is taken, where there is none or a longer one. */
bool gdb_text_number(struct gdb_text *text, uint64_t *ret_value);
/* Two digits for each byte, `len` bytes; false where they are not there. */
bool gdb_text_bytes(struct gdb_text *text, void *ret_bytes, size_t len);
size_t gdb_text_left(const struct gdb_text *text);

/* Two digits for each byte. */
_must_check_ int gdb_hex_append(struct buffer *out, const void *bytes, size_t len);
