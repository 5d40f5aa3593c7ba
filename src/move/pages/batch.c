/* SPDX-License-Identifier: Apache-2.0 */
#include "move/pages/batch.h"

#include <errno.h>
#include <stdlib.h>
#include <zstd.h>

#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/endian.h"

#define LEVEL                                                                                      \
	1 /* a wire that is slower than level 1 would be slower still with what a higher one costs */

int page_batch_init(struct page_batch *batch)
{
	batch->n = 0;
	batch->content = aligned_alloc(PAGE_BYTES, MOVE_BATCH_PAGES * PAGE_BYTES);
	return batch->content ? 0 : -ENOMEM;
}

void page_batch_release(struct page_batch *batch)
{
	free(TAKE_PTR(batch->content));
}

void page_numbers_fill(const struct page_batch *batch, uint8_t *ret_bytes)
{
	le_store(ret_bytes, 4, batch->n);
	for (uint32_t i = 0; i < batch->n; i++)
		le_store(ret_bytes + PAGE_NUMBERS_BYTES(i), 8, batch->pages[i]);
}

struct packer {
	ZSTD_CCtx *pack;
	ZSTD_DCtx *unpack;
	uint8_t *payload; /* made by who packs first */
	size_t capacity;
};

DEFINE_CLEANUP(struct packer, packer_free, packer_freep)

int packer_new(struct packer **ret_packer)
{
	_cleanup_(packer_freep) struct packer *packer = calloc(1, sizeof(*packer));

	if (!packer)
		return -ENOMEM;
	packer->pack = ZSTD_createCCtx();
	packer->unpack = ZSTD_createDCtx();
	if (!packer->pack || !packer->unpack)
		return -ENOMEM;
	*ret_packer = TAKE_PTR(packer);
	return 0;
}

void packer_free(struct packer *packer)
{
	if (!packer)
		return;
	ZSTD_freeCCtx(packer->pack);
	ZSTD_freeDCtx(packer->unpack);
	free(packer->payload);
	free(packer);
}

static int need_payload(struct packer *packer)
{
	if (packer->payload)
		return 0;
	packer->capacity = PAGE_NUMBERS_BYTES(MOVE_BATCH_PAGES) +
			   ZSTD_compressBound(MOVE_BATCH_PAGES * PAGE_BYTES);
	packer->payload = malloc(packer->capacity);
	return packer->payload ? 0 : -ENOMEM;
}

int packer_pack(struct packer *packer, const struct page_batch *batch, const uint8_t **ret_payload,
		size_t *ret_len)
{
	size_t head = PAGE_NUMBERS_BYTES(batch->n), len;
	int r = need_payload(packer);

	if (r < 0)
		return r;
	page_numbers_fill(batch, packer->payload);
	len = ZSTD_compressCCtx(packer->pack, packer->payload + head, packer->capacity - head,
				batch->content, batch->n * PAGE_BYTES, LEVEL);
	if (ZSTD_isError(len))
		return -EIO;
	*ret_payload = packer->payload;
	*ret_len = head + len;
	return 0;
}

int page_numbers_take(struct cursor *in, uint64_t n_pages, struct page_batch *batch,
		      struct error *err)
{
	uint64_t n = cursor_take_le(in, 4), lowest = 0;

	if (!n || n > MOVE_BATCH_PAGES)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "move: packed pages: %llu of them; 1 to %d are possible",
				 (unsigned long long)n, MOVE_BATCH_PAGES);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t page = cursor_take_le(in, 8);

		if (in->bad || page < lowest || page >= n_pages)
			return error_set(
				err, -EBADMSG, EXIT_STATUS_FAILED,
				"move: packed pages: page %llu where %llu to %llu are possible",
				(unsigned long long)page, (unsigned long long)lowest,
				(unsigned long long)n_pages - 1);
		batch->pages[i] = page;
		lowest = page + 1;
	}
	batch->n = (uint32_t)n;
	return 0;
}

int packer_unpack(struct packer *packer, const uint8_t *payload, size_t len, uint64_t n_pages,
		  struct page_batch *batch, struct error *err)
{
	struct cursor in = { .data = payload, .left = len };
	int r = page_numbers_take(&in, n_pages, batch, err);
	size_t unpacked;

	if (r < 0)
		return r;
	/* Never more than there is room for, whatever the frame says of itself. */
	unpacked = ZSTD_decompressDCtx(packer->unpack, batch->content, batch->n * PAGE_BYTES,
				       in.data, in.left);
	if (ZSTD_isError(unpacked))
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED, "move: packed pages: %s",
				 ZSTD_getErrorName(unpacked));
	if (unpacked != batch->n * PAGE_BYTES)
		return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
				 "move: packed pages: %zu bytes for %u pages", unpacked, batch->n);
	return 0;
}
