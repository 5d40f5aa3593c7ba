/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Copies of some pages, and the payload that they become: u32 n, u64 page * n (ascending), one zstd frame of n pages.
 * One thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/macros.h"
#include "move/pages/map.h"
#include "move/protocol.h"

#define DELTA_LINES 48			   /* of 64: a page that differs in more goes whole */
#define PACKED_WORTH(raw) ((raw) / 10 * 9) /* bytes: packed into more, pages go as they are */

struct page_batch {
	uint32_t n;
	uint64_t pages[MOVE_BATCH_PAGES];
	uint8_t *content; /* owned: MOVE_BATCH_PAGES pages, aligned */
};
_must_check_ int page_batch_init(struct page_batch *batch);
void page_batch_release(struct page_batch *batch);

static inline uint8_t *page_batch_at(const struct page_batch *batch, uint32_t i)
{
	return batch->content + i * PAGE_BYTES;
}

/* What stands before the pages: u32 n, u64 page * n. */
#define PAGE_NUMBERS_BYTES(n) (4 + 8 * (size_t)(n))
void page_numbers_fill(const struct page_batch *batch, uint8_t *ret_bytes);
/* The same backwards, from a peer: 1 to MOVE_BATCH_PAGES of them, ascending below `n_pages`; else -EBADMSG. */
_must_check_ int page_numbers_take(struct cursor *in, uint64_t n_pages, struct page_batch *batch,
				   struct error *err);

/* Packs and unpacks; keeps what zstd needs for both. */
struct packer;
_must_check_ int packer_new(struct packer **ret_packer);
void packer_free(struct packer *packer);

/* The payload of all of `batch`, which stays the packer's until the next call. */
_must_check_ int packer_pack(struct packer *packer, const struct page_batch *batch,
			     const uint8_t **ret_payload, size_t *ret_len);
/* The same backwards, from a peer: page numbers ascend below `n_pages`, and the frame holds exactly as many pages. */
_must_check_ int packer_unpack(struct packer *packer, const uint8_t *payload, size_t len,
			       uint64_t n_pages, struct page_batch *batch, struct error *err);
