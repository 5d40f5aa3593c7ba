/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Copies of some pages, and the payload that they become: u32 n, u64 page * n (ascending), one zstd frame of n pages.
 * One thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/macros.h"
#include "move/pages/map.h"
#include "move/protocol.h"

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
