/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: wire/compress.c
 *
 * A peer's compressed pages: bytes of its own, and ours with some changed. Ours unchanged must come out as they went in.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "wire/compress.h"

#define ROOM KIB(64)

struct bench {
	struct compressor *compressor;
	struct expander *expander;
	uint8_t packed[ROOM + 1024], plain[ROOM];
	size_t len;
};

static int expand(struct bench *bench, const void *bytes, size_t len, size_t expected)
{
	return expander_run(bench->expander, bytes, len, bench->plain, MIN(expected, ROOM));
}

static void there_and_back(struct bench *bench, const struct cursor *in)
{
	if (compressor_run(bench->compressor, in->data, in->left, bench->packed,
			   sizeof(bench->packed), &bench->len) < 0) {
		bench->len = 0;
		return;
	}
	if (expand(bench, bench->packed, bench->len, in->left) < 0 ||
	    memcmp(bench->plain, in->data, in->left) != 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };
	const size_t expected = cursor_take_le(&in, 2);
	const size_t at = cursor_take_le(&in, 2);
	const int level = (int8_t)cursor_take_le(&in, 1);
	const uint8_t change = (uint8_t)cursor_take_le(&in, 1);
	struct bench *bench = malloc(sizeof(*bench));

	if (!bench || compressor_new(1, &bench->compressor) < 0 ||
	    expander_new(&bench->expander) < 0)
		abort();
	if ((compressor_set_level(bench->compressor, level) < 0) != (level < -7 || level > 19))
		abort();
	(void)!expand(bench, in.data, in.left, expected);
	if (in.left <= ROOM) {
		there_and_back(bench, &in);
		if (at < bench->len)
			bench->packed[at] ^= change;
		(void)!expand(bench, bench->packed, bench->len, in.left);
	}
	compressor_free(bench->compressor);
	expander_free(bench->expander);
	free(bench);
	return 0;
}
