/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where to draw requests that overlap: on as many lanes as are under way at once. On one lane slices follow each other
 * or lie inside one another, but never cross - which is what viewers ask of a track.
 */

#include <stdint.h>

#define LANES_MAX 64

struct lanes {
	uint32_t n;
	uint64_t begins[LANES_MAX], ends[LANES_MAX]; /* of the last slice on each */
};

/* The lane for [begin, end); a new one has the number that `n` was before. LANES_MAX: there is none. */
uint32_t lanes_place(struct lanes *lanes, uint64_t begin, uint64_t end);
/* The lane on whose last slice [begin, end) lies: it was caused by what is drawn there. LANES_MAX: on none. */
uint32_t lanes_place_inside(const struct lanes *lanes, uint64_t begin, uint64_t end);
