/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the models v2 and v3 have besides features: leaves with fixed content. Features are or-ed in later. */

#include "cpu/cpuid.h"
#include "cpu/model.h"

struct model_leaf {
	enum cpu_vendor vendor; /* OTHER: either */
	uint32_t leaf, subleaf;
	bool indexed;
	uint32_t registers[4];
};

struct model_tables {
	const char *name;
	uint32_t max_leaf;
	const struct model_leaf *leaves;
	size_t n_leaves;
};

/* Never NULL for v2 and v3; `host` has none. */
const struct model_tables *cpu_model_tables(enum cpu_model model);
