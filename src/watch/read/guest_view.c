/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/read/guest_view.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "vm/memory_map.h"

/* Read with pread: a file that somebody cuts gives an error then, where a mapping gives a signal. */

/* Page tables of 4 levels: Intel SDM volume 3, 4.5. */
#define LEVELS 4
#define ENTRY_PRESENT (1ULL << 0)
#define ENTRY_LARGE (1ULL << 7)
#define ENTRY_ADDRESS 0x000ffffffffff000ULL
#define PAGE_SHIFT 12
#define INDEX_BITS 9

struct guest_view {
	int fd;
	uint64_t size;
};

int guest_view_open(int fd, struct guest_view **ret_view)
{
	struct guest_view *view;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size <= 0 || (uint64_t)st.st_size > LIMIT_MEMORY)
		return -EINVAL;
	view = malloc(sizeof(*view));
	if (!view)
		return -ENOMEM;
	*view = (struct guest_view){ .fd = fd, .size = (uint64_t)st.st_size };
	*ret_view = view;
	return 0;
}

void guest_view_free(struct guest_view *view)
{
	free(view);
}

/* Where the range lies in the file: RAM goes on above the hole below 4 GiB. No range spans both banks. */
static int find_offset(const struct guest_view *view, uint64_t physical, size_t len,
		       off_t *ret_offset)
{
	uint64_t low = MIN(view->size, MAP_LOW_END);

	if (range_fits(physical, len, low)) {
		*ret_offset = (off_t)physical;
		return 0;
	}
	if (physical < MAP_RAM_ABOVE ||
	    !range_fits(physical - MAP_RAM_ABOVE, len, view->size - low))
		return -EFAULT;
	*ret_offset = (off_t)(physical - MAP_RAM_ABOVE + low);
	return 0;
}

int guest_view_read(void *ctx, uint64_t physical, void *buf, size_t len)
{
	const struct guest_view *view = ctx;
	off_t offset;
	ssize_t n;
	int r = find_offset(view, physical, len, &offset);

	if (r < 0)
		return r;
	do {
		n = pread(view->fd, buf, len, offset);
	} while (n < 0 && errno == EINTR);
	return n == (ssize_t)len ? 0 : -EFAULT;
}

static bool is_canonical(uint64_t linear)
{
	const int unused = 64 - (PAGE_SHIFT + LEVELS * INDEX_BITS);

	return (uint64_t)((int64_t)(linear << unused) >> unused) == linear;
}

/* Whether an entry of the table at `level` (4 is the root) is a page itself: of 1 GiB, 2 MiB or 4 KiB. */
static bool is_page(uint64_t entry, unsigned int level)
{
	return level == 1 || (level < LEVELS && (entry & ENTRY_LARGE));
}

int guest_view_translate(void *ctx, uint64_t cr3, uint64_t linear, uint64_t *ret_physical)
{
	uint64_t table = cr3 & ENTRY_ADDRESS;

	if (!is_canonical(linear))
		return 0;
	for (unsigned int level = LEVELS; level > 0; level--) {
		unsigned int shift = PAGE_SHIFT + (level - 1) * INDEX_BITS;
		uint64_t index = (linear >> shift) & ((1U << INDEX_BITS) - 1);
		uint64_t inside = (1ULL << shift) - 1;
		uint64_t entry;

		if (guest_view_read(ctx, table + index * sizeof(entry), &entry, sizeof(entry)) < 0)
			return -EFAULT;
		if (!(entry & ENTRY_PRESENT))
			return 0;
		if (is_page(entry, level)) {
			*ret_physical = (entry & ENTRY_ADDRESS & ~inside) | (linear & inside);
			return 1;
		}
		table = entry & ENTRY_ADDRESS;
	}
	return 0;
}
