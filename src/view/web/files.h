/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The page's files (web/ at the tree's root), built into the program. */

#include <stddef.h>
#include <stdint.h>

struct web_file {
	const char *path, *type;
	const uint8_t *bytes;
	const size_t *n_bytes;
};

/* NULL when the page has no such file. */
const struct web_file *web_file_find(const char *path);
