/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "move/pages/batch.h"
#include "move/pages/sum.h"
#include "move/pages/receive.h"

struct pages_target {
	int fd; /* borrowed */
	uint64_t bytes, n_pages;
	uint64_t block; /* bytes of the file's own pages: what can become a hole again */
	bool hugetlb;
	uint8_t *ram;
	struct demand *demand; /* borrowed; NULL: RAM is ours to write */
	uint64_t *filled;      /* a bit per page that may hold something: atomic words */
	uint64_t *unlike;      /* a bit per page that does not agree with its sum: atomic words */
	uint64_t n_unlike;     /* of these: atomic */
	/* What came: atomic. */
	uint64_t data_pages, zero_pages, delta_pages, packed_pages;
};

struct pages_unpack {
	struct packer *packer;
	struct page_batch batch;
	uint8_t sums[PAGE_SUMS_BYTES(MOVE_BATCH_PAGES)];
};
