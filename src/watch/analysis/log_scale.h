/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Logarithms to base 2 in eighths, without floating point: the bins of histograms of times. */

#include <stdint.h>

/* floor(8 * log2(v)): 0..511; of 0: 0. */
static inline unsigned int log2_eighths(uint64_t v)
{
	/* 2^(n/8) in units of 2^-31: the smallest mantissa of each eighth, but for the first. */
	static const uint32_t steps[7] = { 0x8b95c1e4, 0x9837f052, 0xa5fed6aa, 0xb504f334,
					   0xc5672a11, 0xd744fccb, 0xeac0c6e8 };
	unsigned int top, eighth = 0;
	uint32_t mantissa;

	if (!v)
		return 0;
	top = 63 - (unsigned int)__builtin_clzll(v);
	mantissa = (uint32_t)(v << (63 - top) >> 32);
	while (eighth < 7 && mantissa >= steps[eighth])
		eighth++;
	return 8 * top + eighth;
}

/* The smallest number whose log2_eighths is `eighths` or more, rounded to the nearest; eighths <= 511. */
uint64_t exp2_eighths(unsigned int eighths);
