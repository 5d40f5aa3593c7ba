/* SPDX-License-Identifier: Apache-2.0 */

/* Records of a recording: block by block, each checked before its entries are read. Of one that was cut off, all that is
 * whole. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "watch/read/recording.h"
#include "watch/read/source_internal.h"

struct recording_source {
	struct watch_source source;
	int fd;
	uint64_t len;	 /* of the file, when it was opened */
	uint64_t offset; /* of the next block */
	uint32_t n, at;	 /* entries of this block, and which is next */
	struct recording_entry entries[RECORDING_BLOCK_RECORDS];
};

/* The entries that are there, of a block at the end that may be cut off. */
static uint32_t whole_entries(const struct recording_source *s, uint32_t n)
{
	const uint64_t left = (s->len - s->offset) / sizeof(struct recording_entry);

	return (uint32_t)MIN(left, n);
}

/* 0; -ENODATA at the end, and where a last block was cut off in its header; -EPROTO: there is no block. */
static int read_block(struct recording_source *s)
{
	struct recording_block block;
	int r;

	if (!range_fits(s->offset, sizeof(block), s->len))
		return -ENODATA;
	r = fd_read_at(s->fd, &block, sizeof(block), s->offset);
	if (r < 0)
		return r;
	if (block.magic != RECORDING_BLOCK_MAGIC || block.n_records > RECORDING_BLOCK_RECORDS)
		return -EPROTO;
	s->offset += sizeof(block);
	s->n = whole_entries(s, block.n_records);
	s->at = 0;
	source_lose(&s->source, block.lost);
	r = fd_read_at(s->fd, s->entries, s->n * sizeof(s->entries[0]), s->offset);
	if (r < 0)
		s->n = 0;
	s->offset = s->n < block.n_records ? s->len
					   : s->offset + (uint64_t)s->n * sizeof(s->entries[0]);
	return r;
}

static int recording_next(struct watch_source *source, struct watch_record *ret_record,
			  uint32_t *ret_ring)
{
	struct recording_source *s = container_of(source, struct recording_source, source);

	for (;;) {
		struct recording_entry *entry;

		while (s->at == s->n) {
			int r = read_block(s);

			if (r < 0)
				return r;
		}
		entry = &s->entries[s->at++];
		if (entry->ring < source->header.n_rings && source_check_record(&entry->record)) {
			*ret_record = entry->record;
			*ret_ring = entry->ring;
			return 1;
		}
		source_lose(source, 1);
	}
}

static void recording_free(struct watch_source *source)
{
	struct recording_source *s = container_of(source, struct recording_source, source);

	source_release(source);
	fd_close(s->fd);
	free(s);
}
DEFINE_CLEANUP(struct watch_source, source_free, source_freep)

static const struct source_ops recording_ops = { .next = recording_next, .free = recording_free };

static int check_header(struct recording_header *header)
{
	if (header->magic != RECORDING_MAGIC)
		return -EPROTO;
	if (header->version != RECORDING_VERSION)
		return -EPROTONOSUPPORT;
	for (unsigned int i = 0; i < STORE_RINGS_MAX; i++)
		source_clean_text(header->rings[i], STORE_NAME);
	return source_check_header(&header->store);
}

static int open_file(struct recording_source *s, const char *path)
{
	struct recording_header header;
	struct stat st;
	int r;

	s->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (s->fd < 0 || fstat(s->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EPROTO;
	r = fd_read_at(s->fd, &header, sizeof(header), 0);
	if (r == 0)
		r = check_header(&header);
	if (r < 0)
		return r;
	s->len = (uint64_t)st.st_size;
	s->offset = RECORDING_HEADER;
	s->source.header = header.store;
	memcpy(s->source.rings, header.rings, sizeof(header.rings));
	return 0;
}

int source_open_recording(const char *path, struct watch_source **ret_source, struct error *err)
{
	_cleanup_(source_freep) struct watch_source *source = NULL;
	struct recording_source *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "%s: out of memory", path);
	s->fd = -1;
	source = &s->source;
	source->ops = &recording_ops;
	r = open_file(s, path);
	if (r < 0)
		return source_refuse(r, path, "recording", err);
	*ret_source = TAKE_PTR(source);
	return 0;
}
