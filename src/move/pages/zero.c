/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/zero.h"

#include <stddef.h>

#include "move/pages/map.h"

/* A register that every x86-64 has: faster than memory is, so wider ones bring nothing. */
typedef uint64_t vec_t __attribute__((vector_size(16), may_alias));
#define LINE_VECS 4 /* in a line of the cache */
#define PAGE_VECS (PAGE_BYTES / sizeof(vec_t))

static inline bool line_is_zero(const vec_t *v)
{
	vec_t all = (v[0] | v[1]) | (v[2] | v[3]);

	return !(all[0] | all[1]);
}

/* The guest may write while we read: whatever is seen then, its dirty bit brings the page again. */
__attribute__((no_sanitize("thread"))) bool page_is_zero(const void *page)
{
	const vec_t *v = page;

	for (size_t i = 0; i < PAGE_VECS; i += 2 * LINE_VECS) {
		vec_t lines[LINE_VECS];

		for (size_t k = 0; k < LINE_VECS; k++)
			lines[k] = v[i + k] | v[i + LINE_VECS + k];
		if (!line_is_zero(lines))
			return false;
	}
	return true;
}

unsigned int page_xor(void *before, const void *page)
{
	const vec_t *now = page;
	vec_t *v = before;
	unsigned int different = 0;

	for (size_t i = 0; i < PAGE_VECS; i += LINE_VECS) {
		for (size_t k = 0; k < LINE_VECS; k++)
			v[i + k] ^= now[i + k];
		different += !line_is_zero(v + i);
	}
	return different;
}
