/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* RAM's file as the source's map sees it: which of it holds data, for each kind of file. */

#include "move/pages/map.h"

struct page_file {
	int fd; /* borrowed */
	uint64_t bytes;
	bool hugetlb;
	uint64_t block;	    /* bytes of the file's own pages */
	const uint8_t *ram; /* mapped to read */
};

_must_check_ int page_file_open(int fd, uint64_t bytes, struct page_file *ret_file,
				struct error *err);
void page_file_close(struct page_file *file);

/* Calls `found` for the ranges [start, end) that may hold something else than zeros, in order. Its error ends the walk. */
_must_check_ int page_file_walk(struct page_file *file,
				int (*found)(void *ctx, uint64_t start, uint64_t end), void *ctx);
