/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"

#include <errno.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const void *bytes, size_t n, char *ret_text)
{
	const uint8_t *from = bytes;
	char *to = ret_text;

	for (size_t i = 0; i < n; i += 3, to += 4) {
		size_t left = n - i;
		uint32_t three = (uint32_t)from[i] << 16;

		if (left > 1)
			three |= (uint32_t)from[i + 1] << 8;
		if (left > 2)
			three |= from[i + 2];
		to[0] = digits[three >> 18];
		to[1] = digits[three >> 12 & 63];
		to[2] = left > 1 ? digits[three >> 6 & 63] : '=';
		to[3] = left > 2 ? digits[three & 63] : '=';
	}
	*to = '\0';
}

/* -1: it is none. */
static int digit_value(char c)
{
	const char *found = c ? strchr(digits, c) : NULL;

	return found ? (int)(found - digits) : -1;
}

static size_t padding_of(const char *text, size_t len)
{
	if (len < 4 || text[len - 1] != '=')
		return 0;
	return text[len - 2] == '=' ? 2 : 1;
}

static int check(const char *text, size_t len, size_t padding)
{
	size_t n_digits = len - padding;

	if (len % 4)
		return -EINVAL;
	for (size_t i = 0; i < n_digits; i++)
		if (digit_value(text[i]) < 0)
			return -EINVAL;
	/* The last digit's bits beyond the last byte: two spellings of the same would pass otherwise. */
	if (padding && digit_value(text[n_digits - 1]) & (padding == 2 ? 15 : 3))
		return -EINVAL;
	return 0;
}

int base64_decode(const char *text, size_t len, void *ret_bytes, size_t size, size_t *ret_n)
{
	size_t padding = padding_of(text, len), n = len / 4 * 3 - padding;
	uint8_t *to = ret_bytes;
	uint32_t bits = 0;
	int r = check(text, len, padding);

	if (r < 0 || n > size)
		return r < 0 ? r : -E2BIG;
	for (size_t i = 0; i < len - padding; i++) {
		bits = bits << 6 | (uint32_t)digit_value(text[i]);
		/* Each digit but the first of four completes a byte; the bits below it wait for the next digit. */
		if (i % 4)
			to[i / 4 * 3 + i % 4 - 1] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
	}
	*ret_n = n;
	return 0;
}
