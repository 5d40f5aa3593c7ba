/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A device's interrupt output: tells the controller only what has changed. Under the device's lock. */

#include "bus/irq.h"

struct output {
	struct irq_line line;
	bool known; /* false: the controller is told again, whatever it believes */
	bool level;
};

static inline void output_init(struct output *output, const struct irq_line *line)
{
	*output = (struct output){ .line = *line };
}

static inline void output_set(struct output *output, bool level)
{
	if (output->known && output->level == level)
		return;
	output->known = true;
	output->level = level;
	irq_set(&output->line, level);
}

/* After reset and load, when the controller may think otherwise. */
static inline void output_forget(struct output *output)
{
	output->known = false;
}
