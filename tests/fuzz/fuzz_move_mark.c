/* SPDX-License-Identifier: Apache-2.0 */
/* covers: move/marks_text.c */
/* What stands in a mark's file after a power cut, a full disk or an editor. What is taken is written back byte for byte. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "move/marks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_given(const uint8_t *data, size_t size)
{
	char again[MARK_GIVEN_BYTES + 1];
	struct mark_given given;

	if (mark_given_decode(data, size, &given) < 0)
		return;
	if (mark_given_encode(&given, again) < 0 || memcmp(again, data, size) != 0)
		abort();
	(void)mark_result_name(given.result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t token[MARK_TOKEN_BYTES];
	enum mark_result result;

	read_given(data, size);
	(void)!mark_taken_decode(data, size, token, &result);
	return 0;
}
