/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buffer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"

void buffer_init(struct buffer *b, size_t limit)
{
	*b = (struct buffer){ .limit = limit };
}

void buffer_release(struct buffer *b)
{
	free(b->data);
	*b = (struct buffer){ 0 };
}

static int buffer_reserve(struct buffer *b, size_t len)
{
	size_t capacity;
	void *data;

	if (!range_fits(b->len, len, b->limit))
		return -E2BIG;
	if (b->len + len <= b->capacity)
		return 0;
	capacity = MIN(MAX(b->capacity * 2, b->len + len + 256), b->limit);
	data = realloc(b->data, capacity);
	if (!data)
		return -ENOMEM;
	b->data = data;
	b->capacity = capacity;
	return 0;
}

int buffer_append(struct buffer *b, const void *data, size_t len)
{
	int r = buffer_reserve(b, len);

	if (r < 0 || len == 0)
		return r;
	memcpy(b->data + b->len, data, len);
	b->len += len;
	return 0;
}

int buffer_append_le(struct buffer *b, uint64_t value, size_t size)
{
	uint8_t bytes[8];

	le_store(bytes, size, value);
	return buffer_append(b, bytes, size);
}

void buffer_consume(struct buffer *b, size_t len)
{
	if (len == 0)
		return;
	memmove(b->data, b->data + len, b->len - len);
	b->len -= len;
}

const char *buffer_line(const struct buffer *b, size_t *ret_len)
{
	const char *text = (const char *)b->data;
	const char *newline = b->len ? memchr(text, '\n', b->len) : NULL;

	if (newline)
		*ret_len = (size_t)(newline - text);
	return newline ? text : NULL;
}

const void *cursor_take(struct cursor *c, size_t len)
{
	const void *p = c->data;

	if (c->bad || len > c->left) {
		c->bad = true;
		return NULL;
	}
	c->data += len;
	c->left -= len;
	return p;
}

uint64_t cursor_take_le(struct cursor *c, size_t size)
{
	const void *p = cursor_take(c, size);

	return p ? le_load(p, size) : 0;
}
