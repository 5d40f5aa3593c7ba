/* SPDX-License-Identifier: Apache-2.0 */
#include "base/suggest.h"

#include <string.h>

#include "base/macros.h"

/* Longer names are never near: bounds the work on untrusted text. */
#define NAME_BYTES_MAX 32

void suggest_init(struct suggest *suggest, const char *wanted)
{
	*suggest = (struct suggest){ .wanted = wanted, .distance = (size_t)-1 };
}

/* Letters to add, take away, replace or swap (optimal string alignment), by three rows of the usual
 * table. */
static size_t edit_distance(const char *a, size_t len_a, const char *b, size_t len_b)
{
	size_t rows[3][NAME_BYTES_MAX + 1];

	for (size_t j = 0; j <= len_b; j++)
		rows[0][j] = j;
	for (size_t i = 1; i <= len_a; i++) {
		size_t *now = rows[i % 3], *above = rows[(i - 1) % 3], *two = rows[(i + 1) % 3];

		now[0] = i;
		for (size_t j = 1; j <= len_b; j++) {
			size_t replaced = above[j - 1] + (a[i - 1] != b[j - 1]);

			now[j] = MIN(replaced, MIN(above[j], now[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = MIN(now[j], two[j - 2] + 1);
		}
	}
	return rows[len_a % 3][len_b];
}

void suggest_offer(struct suggest *suggest, const char *name)
{
	size_t len = strlen(name), wanted = strnlen(suggest->wanted, NAME_BYTES_MAX + 1);
	size_t distance;

	if (len > NAME_BYTES_MAX || wanted > NAME_BYTES_MAX)
		return;
	distance = edit_distance(suggest->wanted, wanted, name, len);
	if (distance > MAX(len / 3, (size_t)1) || distance >= suggest->distance)
		return;
	suggest->best = name;
	suggest->distance = distance;
}
