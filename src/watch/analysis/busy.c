/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/analysis/busy.h"

#include <string.h>

#include "base/macros.h"

static void replace(struct busy *busy, uint32_t from, uint32_t to, struct busy_span span)
{
	memmove(&busy->spans[from + 1], &busy->spans[to], (busy->n - to) * sizeof(span));
	busy->spans[from] = span;
	busy->n = busy->n - (to - from) + 1;
}

static void retire(struct busy *busy, const struct busy_span *span)
{
	busy->total += span->end - span->begin;
	busy->floor = span->end;
}

static void retire_oldest(struct busy *busy)
{
	retire(busy, &busy->spans[0]);
	busy->n--;
	memmove(&busy->spans[0], &busy->spans[1], busy->n * sizeof(busy->spans[0]));
}

void busy_add(struct busy *busy, uint64_t begin, uint64_t end)
{
	struct busy_span span = { .begin = MAX(begin, busy->floor), .end = end };
	uint32_t from, to = busy->n;

	if (span.begin >= span.end)
		return;
	while (to > 0 && busy->spans[to - 1].begin > span.end)
		to--;
	from = to;
	while (from > 0 && busy->spans[from - 1].end >= span.begin) {
		from--;
		span.begin = MIN(span.begin, busy->spans[from].begin);
		span.end = MAX(span.end, busy->spans[from].end);
	}
	if (from == to && busy->n == BUSY_SPANS) {
		if (!to) {
			retire(busy, &span);
			return;
		}
		retire_oldest(busy);
		from = --to;
	}
	replace(busy, from, to, span);
}

uint64_t busy_before(const struct busy *busy, uint64_t until)
{
	uint64_t sum = busy->total;

	for (uint32_t i = 0; i < busy->n && busy->spans[i].begin < until; i++)
		sum += MIN(busy->spans[i].end, until) - busy->spans[i].begin;
	return sum;
}

void busy_cut(struct busy *busy, uint64_t until)
{
	uint32_t gone = 0;

	while (gone < busy->n && busy->spans[gone].end <= until)
		gone++;
	busy->n -= gone;
	memmove(&busy->spans[0], &busy->spans[gone], busy->n * sizeof(busy->spans[0]));
	if (busy->n && busy->spans[0].begin < until)
		busy->spans[0].begin = until;
	busy->floor = until;
	busy->total = 0;
}
