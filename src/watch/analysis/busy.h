/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * How much of a time something was under way: the length of the union of intervals, which overlap, and which come
 * ordered by their begin or by their end. The last few disjoint spans are kept, so the sum is exact unless an
 * interval joins more gaps than there are spans; then it is too small by the oldest of those gaps at most.
 */

#include <stdint.h>

#define BUSY_SPANS 16

struct busy {
	uint64_t total; /* of spans that left the table */
	uint64_t floor; /* where the last one of those ended: nothing before it counts any more */
	uint32_t n;
	struct busy_span {
		uint64_t begin, end;
	} spans[BUSY_SPANS]; /* disjoint, ascending */
};

/* [begin, end); nothing when it is empty. */
void busy_add(struct busy *busy, uint64_t begin, uint64_t end);
/* The length of what lies before `until`. */
uint64_t busy_before(const struct busy *busy, uint64_t until);
/* Forgets what lies before `until`; what goes on beyond it stays. */
void busy_cut(struct busy *busy, uint64_t until);
