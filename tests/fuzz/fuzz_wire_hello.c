/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: wire/hello.c
 *
 * Two greetings in one input: each by itself, and what both sides make of the other's.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/hello.h"

static void same_after_encoding(const struct hello *hello)
{
	uint8_t bytes[HELLO_BYTES], again[HELLO_BYTES];
	struct hello decoded;

	hello_encode(hello, bytes);
	if (hello_parse(bytes, sizeof(bytes), &decoded, NULL) < 0)
		abort();
	hello_encode(&decoded, again);
	if (memcmp(bytes, again, sizeof(bytes)) != 0)
		abort();
}

static void same_answer(const struct hello *a, const struct hello *b)
{
	struct hello_agreed of_a, of_b;
	struct error err_a = { 0 }, err_b = { 0 };
	const int r = hello_agree(a, b, &of_a, &err_a);

	if (hello_agree(b, a, &of_b, &err_b) != r || err_a.code != r || err_b.code != r)
		abort();
	if (r < 0)
		return;
	if (of_a.version != of_b.version || of_a.features != of_b.features)
		abort();
	if (of_a.version < a->version_min || of_a.version > a->version_max ||
	    of_a.version < b->version_min || of_a.version > b->version_max)
		abort();
}

/* The part that `hello` expects at the other end. */
static struct hello partner_of(const struct hello *hello)
{
	struct hello partner = *hello;

	partner.role = hello->role == HELLO_GIVES ? HELLO_TAKES : HELLO_GIVES;
	return partner;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const size_t half = size / 2;
	struct hello a, b, partner;
	struct error err = { 0 };
	int r = hello_parse(data, half, &a, &err);

	if (err.code != r)
		abort();
	if (r < 0)
		return 0;
	same_after_encoding(&a);
	partner = partner_of(&a);
	same_answer(&a, &partner);
	if (hello_parse(data + half, size - half, &b, NULL) == 0)
		same_answer(&a, &b);
	return 0;
}
