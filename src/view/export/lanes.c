/* SPDX-License-Identifier: Apache-2.0 */
#include "view/export/lanes.h"

#include "base/macros.h"

/* The lane that was free for the shortest time: others stay free for longer ones that come late. */
uint32_t lanes_place(struct lanes *lanes, uint64_t begin, uint64_t end)
{
	uint32_t found = LANES_MAX;

	for (uint32_t i = 0; i < lanes->n; i++)
		if (lanes->ends[i] <= begin &&
		    (found == LANES_MAX || lanes->ends[i] > lanes->ends[found]))
			found = i;
	if (found == LANES_MAX && lanes->n < LANES_MAX)
		found = lanes->n++;
	if (found == LANES_MAX)
		return LANES_MAX;
	lanes->begins[found] = begin;
	lanes->ends[found] = MAX(begin, end);
	return found;
}

uint32_t lanes_place_inside(const struct lanes *lanes, uint64_t begin, uint64_t end)
{
	for (uint32_t i = 0; i < lanes->n; i++)
		if (lanes->begins[i] <= begin && end <= lanes->ends[i])
			return i;
	return LANES_MAX;
}
