/* SPDX-License-Identifier: Apache-2.0 */

/* What an owner's VM does of an epoch: in a file of its own, as its process links no more of them. */

#include <string.h>

#include "protect/epoch.h"

/* ---- RAM, by the numbers of pages in its file ---- */

/* Banks are mapped each for itself, and are of whole 2 MiB. */
uint8_t *epoch_page(const struct memory *memory, uint64_t page)
{
	const uint64_t offset = page * MEMORY_PAGE_SIZE;
	const struct memory_bank *bank = memory->banks;

	while (offset - bank->offset >= bank->len)
		bank++;
	return bank->host + (offset - bank->offset);
}

/* ---- owner ---- */

static void capture_word(struct epoch *epoch, const struct memory *memory, uint64_t first,
			 uint64_t bits)
{
	/* All 64 lie in one bank. */
	const uint8_t *from = epoch_page(memory, first);

	for (; bits; bits &= bits - 1) {
		const unsigned int i = (unsigned int)__builtin_ctzll(bits);

		epoch->pages[epoch->n_pages] = first + i;
		memcpy(epoch_content(epoch, epoch->n_pages), from + i * MEMORY_PAGE_SIZE,
		       MEMORY_PAGE_SIZE);
		epoch->n_pages++;
	}
}

void epoch_capture(struct epoch *epoch, const struct memory *memory, struct dirty_bitmap *dirty)
{
	for (uint64_t i = 0; i * 64 < dirty->n_pages; i++) {
		const uint64_t bits = dirty->words[i];

		dirty->words[i] = 0;
		if (bits)
			capture_word(epoch, memory, i * 64, bits);
	}
}
