/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/analysis/analysis.h"
#include "watch/analysis/log_scale.h"

uint64_t exp2_eighths(unsigned int eighths)
{
	/* 2^(n/8) in units of 2^-63 */
	static const uint64_t mantissas[8] = {
		0x8000000000000000, 0x8b95c1e3ea8bd6e6, 0x9837f0518db8a96f, 0xa5fed6a9b15138ea,
		0xb504f333f9de6484, 0xc5672a115506dadd, 0xd744fccad69d6af4, 0xeac0c6e7dd24392e,
	};
	unsigned int shift = 63 - eighths / 8 % 64;
	uint64_t mantissa = mantissas[eighths % 8];

	return shift ? (mantissa >> shift) + (mantissa >> (shift - 1) & 1) : mantissa;
}

void latency_add(struct latency *latency, uint64_t ns)
{
	unsigned int bin = log2_eighths(ns) / 2;

	latency->count++;
	latency->sum_ns += MIN(ns, UINT64_MAX - latency->sum_ns);
	latency->max_ns = MAX(latency->max_ns, ns);
	latency->bins[MIN(bin, LATENCY_BINS - 1U)]++;
}

/* Where in its bin the value is cannot be known: taken as evenly spread, which is nearer than either edge. */
static uint64_t bin_value(unsigned int bin, uint64_t rank, uint64_t in_bin)
{
	uint64_t low = bin ? exp2_eighths(2 * bin) : 0, high = exp2_eighths(2 * bin + 2);

	return low + (uint64_t)((double)(high - low) * ((double)rank / (double)in_bin));
}

uint64_t latency_percentile(const struct latency *latency, unsigned int permille)
{
	uint64_t below = 0, rank;

	if (!latency->count)
		return 0;
	/* The smallest rank with at least so much at or below it; counted from 1. */
	rank = (uint64_t)((double)latency->count * MIN(permille, 1000U) / 1000.0 + 0.999999);
	rank = MAX(MIN(rank, latency->count), 1);
	for (unsigned int bin = 0; bin < LATENCY_BINS; bin++) {
		if (bin < LATENCY_BINS - 1 && rank <= below + latency->bins[bin])
			return MIN(bin_value(bin, rank - below, latency->bins[bin]),
				   latency->max_ns);
		below += latency->bins[bin];
	}
	return latency->max_ns;
}
