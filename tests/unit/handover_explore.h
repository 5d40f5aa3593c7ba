/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Every state that the world of two hosts can reach, breadth first, each once: so what is found broken is found by a shortest way,
 * which is printed. Afterwards from each state a way without further faults must lead to a settled one.
 */

#include <stddef.h>

#include "handover_world.h"

struct explored {
	size_t states, edges;
	unsigned int depth;
	bool complete;	    /* nothing was left out for `max_states` */
	const char *broken; /* the promise that does not hold; its way was printed */
};

void explore(const struct world_rules *rules, size_t max_states, struct explored *ret_explored);
