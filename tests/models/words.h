/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How models name things: identifiers of Promela have no "-". */

#include <stdbool.h>

static inline bool is_named(const char *word, const char *name)
{
	while (*word && (*word == *name || (*word == '_' && *name == '-')))
		word++, name++;
	return !*word && !*name;
}
