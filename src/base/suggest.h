/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* "Did you mean": the nearest of known names to one that is unknown. */

#include <stddef.h>

struct suggest {
	const char *wanted; /* borrowed */
	const char *best;   /* borrowed from the names offered; NULL: none is near */
	size_t distance;
};

void suggest_init(struct suggest *suggest, const char *wanted);
/* Offers one name; the nearest is kept when it is near enough (a third of its letters, at least
 * one). */
void suggest_offer(struct suggest *suggest, const char *name);
