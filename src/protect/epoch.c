/* SPDX-License-Identifier: Apache-2.0 */
#include "protect/epoch.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/limits.h"
#include "move/pages/sum.h"

static uint64_t content_bytes(const struct epoch *epoch)
{
	return epoch->max_pages * MEMORY_PAGE_SIZE;
}

static uint64_t numbers_bytes(const struct epoch *epoch)
{
	return ALIGN_UP(epoch->max_pages * sizeof(uint64_t), MEMORY_PAGE_SIZE);
}

int epoch_init(struct epoch *epoch, uint64_t max_pages)
{
	void *room;

	*epoch = (struct epoch){ .max_pages = max_pages };
	buffer_init(&epoch->state, EPOCH_STATE_MAX);
	if (!max_pages || max_pages > LIMIT_MEMORY / MEMORY_PAGE_SIZE)
		return -EINVAL;
	room = mmap(NULL, content_bytes(epoch) + numbers_bytes(epoch), PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return -ENOMEM;
	(void)!madvise(room, content_bytes(epoch), MADV_DONTDUMP);
	epoch->content = room;
	epoch->pages = (uint64_t *)(epoch->content + content_bytes(epoch));
	return 0;
}

void epoch_release(struct epoch *epoch)
{
	if (epoch->content)
		munmap(epoch->content, content_bytes(epoch) + numbers_bytes(epoch));
	buffer_release(&epoch->state);
	*epoch = (struct epoch){ 0 };
}

void epoch_clear(struct epoch *epoch, uint64_t keep_pages)
{
	epoch->used_pages = MAX(epoch->used_pages, epoch->n_pages);
	if (epoch->used_pages > keep_pages) {
		(void)!madvise(epoch_content(epoch, keep_pages),
			       (epoch->used_pages - keep_pages) * MEMORY_PAGE_SIZE, MADV_DONTNEED);
		epoch->used_pages = keep_pages;
	}
	epoch->n_pages = 0;
	epoch->state.len = 0;
}

/* ---- sums ---- */

uint64_t epoch_sum(uint64_t page, const void *content)
{
	uint64_t sum = page_sum(content) ^ (page + 1) * 0x9e3779b97f4a7c15ULL;

	/* The finalizer of MurmurHash3, so that parts which differ in few bits do not cancel out. */
	sum = (sum ^ sum >> 33) * 0xff51afd7ed558ccdULL;
	sum = (sum ^ sum >> 33) * 0xc4ceb9fe1a85ec53ULL;
	return sum ^ sum >> 33;
}

/* ---- backup ---- */

void epoch_apply(const struct epoch *epoch, const struct memory *memory)
{
	for (uint64_t i = 0; i < epoch->n_pages; i++)
		memcpy(epoch_page(memory, epoch->pages[i]), epoch_content(epoch, i),
		       MEMORY_PAGE_SIZE);
}
