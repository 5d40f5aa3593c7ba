/* SPDX-License-Identifier: Apache-2.0 */

/* Which of the guest's pages were ever touched, without touching them. */

#include <errno.h>
#include <unistd.h>

#include "base/fd.h"
#include "memory/memory.h"

#define HUGE_PAGE MIB(2)
#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_SWAPPED (1ULL << 62)

static int seek(int fd, uint64_t from, int whence, uint64_t *ret_offset)
{
	off_t at = lseek(fd, (off_t)from, whence);

	if (at < 0)
		return errno == ENXIO ? 0 : -errno;
	*ret_offset = (uint64_t)at;
	return 1;
}

/* shmem: the file system knows. `offset` and the answer are places in the memfd. */
static int next_in_shmem(struct memory *memory, uint64_t offset, uint64_t *ret_start,
			 uint64_t *ret_end)
{
	int r = seek(memory->fd, offset, SEEK_DATA, ret_start);

	if (r <= 0)
		return r;
	return seek(memory->fd, *ret_start, SEEK_HOLE, ret_end);
}

/* Whether the huge page at `host` is there: its first 4 KiB page is present in our own page table. A
 * page that only another process touched is not seen, so the keeper never touches guest RAM. */
static int huge_page_present(int pagemap, const uint8_t *host)
{
	uint64_t entry;
	int r = fd_read_at(pagemap, &entry, sizeof(entry),
			   (uintptr_t)host / MEMORY_PAGE_SIZE * sizeof(entry));

	if (r < 0)
		return r;
	return (entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) != 0;
}

static const struct memory_bank *bank_of_offset(const struct memory *memory, uint64_t offset)
{
	const struct memory_bank *bank = memory->banks;

	while (offset >= bank->offset + bank->len)
		bank++;
	return bank;
}

/* The first 2 MiB page at or after `offset` whose presence is `wanted`: its place in the memfd, or the
 * memory's size when there is none. */
static int find_huge_page(struct memory *memory, uint64_t offset, bool wanted, uint64_t *ret_offset)
{
	uint64_t at;

	for (at = ALIGN_DOWN(offset, HUGE_PAGE); at < memory->size; at += HUGE_PAGE) {
		const struct memory_bank *bank = bank_of_offset(memory, at);
		int r = huge_page_present(memory->pagemap, bank->host + (at - bank->offset));

		if (r < 0)
			return r;
		if (r == wanted)
			break;
	}
	*ret_offset = MAX(at, offset);
	return 0;
}

/* hugetlb: SEEK_DATA calls everything data, so the page table is asked, 2 MiB at a time. */
static int next_in_hugetlb(struct memory *memory, uint64_t offset, uint64_t *ret_start,
			   uint64_t *ret_end)
{
	int r = find_huge_page(memory, offset, true, ret_start);

	if (r < 0 || *ret_start >= memory->size)
		return r;
	r = find_huge_page(memory, *ret_start, false, ret_end);
	return r < 0 ? r : 1;
}

/* The bank whose part of the memfd holds the first byte at or after guest address `from`. */
static const struct memory_bank *bank_from(const struct memory *memory, uint64_t from)
{
	for (size_t i = 0; i < memory->n_banks; i++)
		if (from < memory->banks[i].start.v + memory->banks[i].len)
			return &memory->banks[i];
	return NULL;
}

int memory_next_populated(struct memory *memory, gpa_t from, struct memory_range *ret_range)
{
	const struct memory_bank *bank = bank_from(memory, from.v);
	uint64_t start, end;
	int r;

	if (!bank)
		return 0;
	start = bank->offset + (from.v > bank->start.v ? from.v - bank->start.v : 0);
	if (memory->hugepages == MEMORY_HUGE_ON)
		r = next_in_hugetlb(memory, start, &start, &end);
	else
		r = next_in_shmem(memory, start, &start, &end);
	if (r <= 0)
		return r;
	if (start >= memory->size)
		return 0;
	bank = bank_of_offset(memory, start);
	ret_range->start = gpa(bank->start.v + (start - bank->offset));
	ret_range->len = MIN(end, bank->offset + bank->len) - start;
	return 1;
}
