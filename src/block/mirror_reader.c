/* SPDX-License-Identifier: Apache-2.0 */

/* A mirror's ring, as the process has it that takes from it: what stands there is copied once, and the copy judged. */

#include "block/mirror_layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"

static struct mirror_head *head_of(const struct mirror_reader *reader)
{
	return reader->map;
}

static int map_file(struct mirror_reader *reader)
{
	uint64_t bytes = MIRROR_HEAD + reader->ring_bytes;
	void *map;

	if (ftruncate(reader->fd, (off_t)bytes) < 0 ||
	    fcntl(reader->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, reader->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	reader->map = map;
	return 0;
}

int mirror_reader_make(uint64_t ring_bytes, struct mirror_reader *ret_reader)
{
	struct mirror_reader reader = { .fd = -1, .ring_bytes = ring_bytes };
	int r;

	if (!mirror_is_ring_size(ring_bytes))
		return -EINVAL;
	reader.fd = memfd_create("mirror", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (reader.fd < 0)
		return -errno;
	r = map_file(&reader);
	if (r < 0) {
		mirror_reader_release(&reader);
		return r;
	}
	*ret_reader = reader;
	return 0;
}

void mirror_reader_release(struct mirror_reader *reader)
{
	if (reader->map)
		munmap(reader->map, MIRROR_HEAD + reader->ring_bytes);
	fd_close(reader->fd);
	*reader = (struct mirror_reader){ .fd = -1 };
}

static void take(struct mirror_reader *reader, uint64_t bytes)
{
	reader->taken += bytes;
	__atomic_store_n(&head_of(reader)->taken, reader->taken, __ATOMIC_RELEASE);
}

/* Up to where there is something to take: all that was put, or `end`, up to which it must be there. */
static int find_limit(const struct mirror_reader *reader, uint64_t end, uint64_t *ret_limit)
{
	uint64_t put = __atomic_load_n(&head_of(reader)->put, __ATOMIC_ACQUIRE);

	if (put < reader->taken || put - reader->taken > reader->ring_bytes ||
	    !IS_ALIGNED(put, MIRROR_ALIGN))
		return -EBADMSG;
	if (end != UINT64_MAX && (end > put || !IS_ALIGNED(end, MIRROR_ALIGN)))
		return -EBADMSG;
	*ret_limit = MAX(MIN(end, put), reader->taken);
	return 0;
}

static bool is_right(const struct mirror_entry *entry)
{
	return entry->size && entry->size == mirror_entry_size(entry->kind, entry->len) &&
	       entry->disk < LIMIT_DISKS && entry->len <= LIMIT_MIRRORED_DISK &&
	       entry->offset <= LIMIT_MIRRORED_DISK - entry->len && entry->unmap <= 1 &&
	       !(entry->unmap && entry->kind == MIRROR_WRITE);
}

/* One entry, SKIPs among them: 1, 0, -EBADMSG. */
static int fetch(const struct mirror_reader *reader, uint64_t limit, struct mirror_entry *ret_entry)
{
	uint64_t at = reader->taken & (reader->ring_bytes - 1), to_end = reader->ring_bytes - at;
	const uint8_t *place = (const uint8_t *)reader->map + MIRROR_HEAD + at;
	const struct mirror_entry *placed = (const void *)place;
	struct mirror_entry entry;

	if (reader->taken == limit)
		return 0;
	memcpy(&entry, placed, offsetof(struct mirror_entry, done));
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* what is judged is the copy */
	entry.done = __atomic_load_n(&placed->done, __ATOMIC_ACQUIRE) != 0;
	if (entry.size > limit - reader->taken || entry.size > to_end)
		return -EBADMSG;
	if (entry.kind == MIRROR_SKIP ? entry.size != to_end : !is_right(&entry))
		return -EBADMSG;
	*ret_entry = entry;
	return 1;
}

int mirror_reader_next(struct mirror_reader *reader, uint64_t end, bool only_done,
		       struct mirror_entry *ret_entry, const void **ret_data)
{
	struct mirror_entry entry;
	uint64_t limit;
	int r = find_limit(reader, end, &limit);

	reader->shown = 0;
	if (r < 0)
		return r;
	while ((r = fetch(reader, limit, &entry)) > 0 && entry.kind == MIRROR_SKIP)
		take(reader, entry.size);
	if (r <= 0)
		return r;
	if (only_done && !entry.done)
		return 0;
	reader->shown = entry.size;
	*ret_entry = entry;
	*ret_data = (const uint8_t *)reader->map + MIRROR_HEAD + MIRROR_ALIGN +
		    (reader->taken & (reader->ring_bytes - 1));
	return 1;
}

void mirror_reader_took(struct mirror_reader *reader)
{
	take(reader, reader->shown);
	reader->shown = 0;
}
