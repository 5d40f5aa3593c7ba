/* SPDX-License-Identifier: Apache-2.0 */
#include "debug/gdb_packet.h"

#include <string.h>

#include "base/hex.h"

#define ESCAPE '}'
#define ESCAPE_BIT 0x20
#define INTERRUPT 0x03

static enum gdb_event take_outside(struct gdb_framing *framing, uint8_t byte)
{
	switch (byte) {
	case '$':
		framing->state = GDB_INSIDE;
		framing->len = 0;
		framing->sum = 0;
		framing->too_long = framing->bad_digit = false;
		return GDB_NOTHING;
	case '+':
		return GDB_ACK;
	case '-':
		return GDB_NAK;
	case INTERRUPT:
		return GDB_INTERRUPT;
	default: /* noise on the line */
		return GDB_NOTHING;
	}
}

static void keep(struct gdb_framing *framing, uint8_t byte)
{
	if (framing->len < LIMIT_GDB_PACKET)
		framing->data[framing->len++] = (char)byte;
	else
		framing->too_long = true;
}

static void take_inside(struct gdb_framing *framing, uint8_t byte)
{
	if (byte == '#') {
		framing->state = GDB_SUM_HIGH;
		return;
	}
	framing->sum = (uint8_t)(framing->sum + byte);
	if (byte == ESCAPE) {
		framing->state = GDB_ESCAPED;
		return;
	}
	keep(framing, byte);
}

static void take_escaped(struct gdb_framing *framing, uint8_t byte)
{
	framing->sum = (uint8_t)(framing->sum + byte);
	framing->state = GDB_INSIDE;
	keep(framing, byte ^ ESCAPE_BIT);
}

static void take_sum(struct gdb_framing *framing, uint8_t byte)
{
	int value = hex_digit((char)byte);

	framing->bad_digit |= value < 0;
	framing->told_sum = (uint8_t)(framing->told_sum << 4 | (value & 0xf));
}

static enum gdb_event finish(struct gdb_framing *framing)
{
	framing->state = GDB_OUTSIDE;
	framing->data[framing->len] = '\0';
	if (framing->bad_digit || framing->sum != framing->told_sum)
		return GDB_BAD_SUM;
	return framing->too_long ? GDB_TOO_LONG : GDB_PACKET;
}

enum gdb_event gdb_framing_take(struct gdb_framing *framing, uint8_t byte)
{
	switch (framing->state) {
	case GDB_OUTSIDE:
		return take_outside(framing, byte);
	case GDB_INSIDE:
		take_inside(framing, byte);
		return GDB_NOTHING;
	case GDB_ESCAPED:
		take_escaped(framing, byte);
		return GDB_NOTHING;
	case GDB_SUM_HIGH:
		take_sum(framing, byte);
		framing->state = GDB_SUM_LOW;
		return GDB_NOTHING;
	case GDB_SUM_LOW:
		take_sum(framing, byte);
		return finish(framing);
	}
	return GDB_NOTHING;
}

/* '*' would begin a repetition in what we send. */
static bool needs_escape(uint8_t byte)
{
	return byte == '$' || byte == '#' || byte == ESCAPE || byte == '*';
}

int gdb_packet_append(struct buffer *out, const void *payload, size_t len)
{
	const uint8_t *bytes = payload;
	uint8_t sum = 0;
	char end[4] = "#";
	int r = buffer_append(out, "$", 1);

	for (size_t i = 0; r == 0 && i < len; i++) {
		uint8_t pair[2] = { ESCAPE, bytes[i] ^ ESCAPE_BIT };
		bool escaped = needs_escape(bytes[i]);

		sum = (uint8_t)(sum + (escaped ? pair[0] + pair[1] : bytes[i]));
		r = escaped ? buffer_append(out, pair, 2) : buffer_append(out, bytes + i, 1);
	}
	hex_encode(&sum, 1, end + 1);
	return r < 0 ? r : buffer_append(out, end, 3);
}

size_t gdb_text_left(const struct gdb_text *text)
{
	return (size_t)(text->end - text->at);
}

bool gdb_text_skip(struct gdb_text *text, const char *word)
{
	size_t len = strlen(word);

	if (gdb_text_left(text) < len || memcmp(text->at, word, len) != 0)
		return false;
	text->at += len;
	return true;
}

bool gdb_text_number(struct gdb_text *text, uint64_t *ret_value)
{
	const char *at = text->at;
	uint64_t value = 0;

	for (; at < text->end && hex_digit(*at) >= 0; at++)
		value = value << 4 | (uint64_t)hex_digit(*at);
	if (at == text->at || at - text->at > 16)
		return false;
	text->at = at;
	*ret_value = value;
	return true;
}

bool gdb_text_bytes(struct gdb_text *text, void *ret_bytes, size_t len)
{
	uint8_t *bytes = ret_bytes;

	if (gdb_text_left(text) / 2 < len)
		return false;
	for (size_t i = 0; i < len; i++, text->at += 2) {
		int high = hex_digit(text->at[0]), low = hex_digit(text->at[1]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

int gdb_hex_append(struct buffer *out, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	char pair[3];
	int r = 0;

	for (size_t i = 0; r == 0 && i < len; i++) {
		hex_encode(p + i, 1, pair);
		r = buffer_append(out, pair, 2);
	}
	return r;
}
