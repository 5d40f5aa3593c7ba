/* SPDX-License-Identifier: Apache-2.0 */

/* The file between an owner's VM and its guard: one end makes it, the other trusts no more of it than it looked at. */

#include "protect/shared.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/limits.h"

struct layout {
	uint64_t pages_at, content_at, state_at, len;
};

static struct layout layout_of(uint64_t n_pages)
{
	struct layout layout;

	layout.pages_at = ALIGN_UP((n_pages + 63) / 64 * sizeof(uint64_t), MEMORY_PAGE_SIZE);
	layout.content_at = layout.pages_at +
			    ALIGN_UP(n_pages * sizeof(uint64_t), MEMORY_PAGE_SIZE);
	layout.state_at = layout.content_at + n_pages * MEMORY_PAGE_SIZE;
	layout.len = layout.state_at + EPOCH_STATE_MAX;
	return layout;
}

static int map_file(struct protect_shared *shared)
{
	const struct layout layout = layout_of(shared->n_pages);
	uint8_t *map = mmap(NULL, layout.len, PROT_READ | PROT_WRITE, MAP_SHARED, shared->fd, 0);

	if (map == MAP_FAILED)
		return -errno;
	(void)!madvise(map, layout.len, MADV_DONTDUMP);
	shared->map = map;
	shared->map_len = layout.len;
	shared->bitmap = (uint64_t *)map;
	shared->n_words = (shared->n_pages + 63) / 64;
	shared->pages = (uint64_t *)(map + layout.pages_at);
	shared->content = map + layout.content_at;
	shared->state = map + layout.state_at;
	return 0;
}

static bool is_ram(uint64_t bytes)
{
	return bytes && bytes <= LIMIT_MEMORY && bytes % MEMORY_PAGE_SIZE == 0;
}

int protect_shared_make(uint64_t ram_bytes, struct protect_shared *ret_shared)
{
	struct protect_shared shared = { .fd = -1, .n_pages = ram_bytes / MEMORY_PAGE_SIZE };
	int r = 0;

	if (!is_ram(ram_bytes))
		return -EINVAL;
	shared.fd = memfd_create("epochs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (shared.fd < 0)
		return -errno;
	if (ftruncate(shared.fd, (off_t)layout_of(shared.n_pages).len) < 0 ||
	    fcntl(shared.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		r = -errno;
	if (r == 0)
		r = map_file(&shared);
	if (r < 0) {
		protect_shared_release(&shared);
		return r;
	}
	*ret_shared = shared;
	return 0;
}

/* A file that could shrink under our map would end the VM at the next touch. */
static int judge(const struct protect_shared *shared)
{
	const int seals = fcntl(shared->fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK))
		return -EINVAL;
	if (fstat(shared->fd, &st) < 0)
		return -errno;
	return st.st_size < 0 || (uint64_t)st.st_size < layout_of(shared->n_pages).len ? -EINVAL
										       : 0;
}

int protect_shared_take(int fd, uint64_t ram_bytes, struct protect_shared *ret_shared,
			struct error *err)
{
	struct protect_shared shared = { .fd = fd, .n_pages = ram_bytes / MEMORY_PAGE_SIZE };
	int r = is_ram(ram_bytes) ? judge(&shared) : -EINVAL;

	if (r == 0)
		r = map_file(&shared);
	if (r < 0) {
		protect_shared_release(&shared);
		return error_set(err, r, EXIT_STATUS_FAILED,
				 "the guard's shared file cannot be used (%s); it must be a memfd, "
				 "large enough and sealed against shrinking",
				 strerror(-r));
	}
	*ret_shared = shared;
	return 0;
}

void protect_shared_release(struct protect_shared *shared)
{
	if (shared->map)
		munmap(shared->map, shared->map_len);
	fd_close(shared->fd);
	*shared = (struct protect_shared){ .fd = -1 };
}

void protect_shared_trim(struct protect_shared *shared, uint64_t keep_pages)
{
	const uint64_t keep = MIN(keep_pages, shared->n_pages);

	/* A hole: the file goes on to be as long as it was. */
	if (keep < shared->n_pages)
		(void)!madvise(shared->content + keep * MEMORY_PAGE_SIZE,
			       (shared->n_pages - keep) * MEMORY_PAGE_SIZE, MADV_REMOVE);
}
