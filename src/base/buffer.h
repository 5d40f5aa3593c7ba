/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A growing byte buffer with a limit, and a reader that cannot leave its bounds. One thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/macros.h"

struct buffer {
	uint8_t *data; /* owned */
	size_t len, capacity;
	size_t limit; /* bytes; appending past it is -E2BIG */
};

void buffer_init(struct buffer *b, size_t limit);
void buffer_release(struct buffer *b);

/* -ENOMEM or -E2BIG; the buffer is unchanged then. */
_must_check_ int buffer_append(struct buffer *b, const void *data, size_t len);
/* Little-endian number of `size` bytes (1..8). */
_must_check_ int buffer_append_le(struct buffer *b, uint64_t value, size_t size);
/* Takes the first `len` bytes away, which must be there. */
void buffer_consume(struct buffer *b, size_t len);
/* The first whole line: its bytes, `*ret_len` of them without the newline, valid until the buffer changes; NULL when none is
 * whole yet. `*ret_len` + 1 are to be consumed. */
const char *buffer_line(const struct buffer *b, size_t *ret_len);

/* A cursor over untrusted bytes. After a short read every later one fails too. */
struct cursor {
	const uint8_t *data; /* borrowed */
	size_t left;
	bool bad;
};

/* `len` bytes, or NULL when they are not there (and the cursor turns bad). */
const void *cursor_take(struct cursor *c, size_t len);
/* Little-endian number of `size` bytes (1..8); 0 when they are not there. */
uint64_t cursor_take_le(struct cursor *c, size_t size);
