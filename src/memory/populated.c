/* SPDX-License-Identifier: Apache-2.0 */

/* Which of the guest's pages were ever touched, without touching them. */

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory/memory.h"

static int seek(int fd, uint64_t from, int whence, uint64_t *ret_offset)
{
	off_t at = lseek(fd, (off_t)from, whence);

	if (at < 0)
		return errno == ENXIO ? 0 : -errno;
	*ret_offset = (uint64_t)at;
	return 1;
}

/* The file system knows. `offset` and the answer are places in the memfd. */
static int next_in_file(const struct memory *memory, uint64_t offset, uint64_t *ret_start,
			uint64_t *ret_end)
{
	int r = seek(memory->fd, offset, SEEK_DATA, ret_start);

	if (r <= 0)
		return r;
	return seek(memory->fd, *ret_start, SEEK_HOLE, ret_end);
}

static const struct memory_bank *bank_of_offset(const struct memory *memory, uint64_t offset)
{
	const struct memory_bank *bank = memory->banks;

	while (offset >= bank->offset + bank->len)
		bank++;
	return bank;
}

/* The bank whose part of the memfd holds the first byte at or after guest address `from`. */
static const struct memory_bank *bank_from(const struct memory *memory, uint64_t from)
{
	for (size_t i = 0; i < memory->n_banks; i++)
		if (from < memory->banks[i].start.v + memory->banks[i].len)
			return &memory->banks[i];
	return NULL;
}

int memory_populated(const struct memory *memory, uint64_t *ret_bytes)
{
	struct stat st;

	if (fstat(memory->fd, &st) < 0)
		return -errno;
	*ret_bytes = (uint64_t)st.st_blocks * 512; /* the unit of st_blocks: stat(2) */
	return 0;
}

int memory_next_populated(struct memory *memory, gpa_t from, struct memory_range *ret_range)
{
	const struct memory_bank *bank = bank_from(memory, from.v);
	uint64_t start, end = 0;
	int r;

	if (!bank)
		return 0;
	start = bank->offset + (from.v > bank->start.v ? from.v - bank->start.v : 0);
	r = next_in_file(memory, start, &start, &end);
	if (r <= 0)
		return r;
	if (start >= memory->size)
		return 0;
	bank = bank_of_offset(memory, start);
	ret_range->start = gpa(bank->start.v + (start - bank->offset));
	ret_range->len = MIN(end, bank->offset + bank->len) - start;
	return 1;
}

/* Of a range that has data only: reading a hole would fill it. */
static void map_range(struct memory *memory, const struct memory_range *range)
{
	void *host = memory_at(memory, range->start, range->len, MEMORY_READ);

	/* Advice: without it (Linux before 5.14) each page is mapped at its first touch. */
	if (host)
		(void)madvise(host, range->len, MADV_POPULATE_READ);
}

void memory_map_populated(struct memory *memory)
{
	struct memory_range range;
	gpa_t from = gpa(0);

	/* The file system of huge pages calls all of its file data. */
	if (memory->hugepages == MEMORY_HUGE_ON)
		return;
	while (memory_next_populated(memory, from, &range) == 1) {
		map_range(memory, &range);
		from = gpa(range.start.v + range.len);
	}
}
