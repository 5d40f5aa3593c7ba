/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which page of a saved VM stands where in its file (docs/save-format.md), for who reads them out of order. Untrusted as the rest of
 * the file: the index is judged as a whole, and each chunk against its entry when it is read.
 */

#include "move/saved/saved.h"

struct saved_chunk {
	uint64_t first; /* page */
	uint64_t at;	/* of its frame */
	uint32_t n_pages;
};

struct saved_index {
	const struct saved *saved; /* borrowed */
	uint64_t serial;	   /* of the first chunk's frame */
	uint64_t n_pages;	   /* of RAM */
	uint64_t n;
	struct saved_chunk
		*chunks; /* owned; by their pages, each the pages up to the next one's first */
};

/* After the state was read with saved_next, which stands at the first chunk then. -EBADMSG. Frees nothing on failure but its own. */
_must_check_ int saved_index_read(const struct saved *saved, struct saved_index *ret_index,
				  struct error *err);
void saved_index_release(struct saved_index *index);
/* The last chunk that begins at `page` or before; false: none does. */
_must_check_ bool saved_index_find(const struct saved_index *index, uint64_t page,
				   uint64_t *ret_chunk);
/* The first page that is not chunk `i`'s to tell of. */
uint64_t saved_index_end(const struct saved_index *index, uint64_t i);
/* The payload of chunk `i`, its checksum checked, as a MOVE_PACKED frame has it. Any thread, each with its own `payload`. */
_must_check_ int saved_index_chunk(const struct saved_index *index, uint64_t i,
				   struct buffer *payload, struct error *err);
