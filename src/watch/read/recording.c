/* SPDX-License-Identifier: Apache-2.0 */

/* The recorder: blocks of records into a file, and into the next when it is full. */

#include "watch/read/recording.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "watch/read/recording_files.h"

struct recording {
	struct recording_files files;
	struct watch_source *source; /* borrowed */
	struct recording_limits limits;
	int fd;
	int failed;	  /* errno of the write that failed: nothing is written after it */
	uint64_t len;	  /* of the file: whole blocks */
	uint64_t n_added; /* records, in all files */
	uint64_t lost;	  /* of the source, as blocks say */
	bool named[STORE_RINGS_MAX];
	bool stale; /* the header in the file lacks a name */
	struct recording_header header;
	struct recording_block block; /* with the entries after it: one write */
	struct recording_entry entries[RECORDING_BLOCK_RECORDS];
};
_Static_assert(offsetof(struct recording, entries) ==
		       offsetof(struct recording, block) + sizeof(struct recording_block),
	       "a block is written at once");

static int fail(struct recording *recording, int code, struct error *err)
{
	const char *path = recording->files.path;

	recording->failed = code;
	if (code == -ENOSPC || code == -EDQUOT)
		return error_set(err, code, EXIT_STATUS_RESOURCE,
				 "%s: the disk is full; %llu records were kept. Give it less with "
				 "--rotate and --files, or more room",
				 path, (unsigned long long)recording->n_added);
	return error_set(err, code, EXIT_STATUS_RESOURCE, "%s: cannot write the recording: %s",
			 path, strerror(-code));
}

/* ---- the header ---- */

static void fill_header(struct recording *recording)
{
	struct recording_header *header = &recording->header;

	header->magic = RECORDING_MAGIC;
	header->version = RECORDING_VERSION;
	header->store = *source_header(recording->source);
	recording->stale = false;
}

/* A device or a ring that the header in the file does not name is in it before records speak of it. */
static void note_names(struct recording *recording, const struct watch_record *record,
		       uint32_t ring)
{
	struct recording_header *header = &recording->header;

	if (!recording->named[ring]) {
		strncpy(header->rings[ring], source_ring_name(recording->source, ring),
			STORE_NAME - 1);
		recording->named[ring] = true;
		recording->stale = true;
	}
	if (record->device != STORE_NO_DEVICE && record->device >= header->store.n_devices) {
		(void)source_device_name(recording->source, record->device);
		recording->stale |= source_header(recording->source)->n_devices >
				    header->store.n_devices;
	}
	recording->stale |= source_header(recording->source)->mode != header->store.mode;
}

static int write_header(struct recording *recording)
{
	fill_header(recording);
	return fd_write_at(recording->fd, &recording->header, sizeof(recording->header), 0);
}

/* ---- files ---- */

/* A header that does not fit the disk leaves no file. */
static int begin_file(struct recording *recording)
{
	int r = recording_files_create(&recording->files);

	if (r < 0)
		return r;
	recording->fd = r;
	recording->header.number++;
	recording->header.created_wall_ns = clock_wall(&clock_host);
	recording->len = RECORDING_HEADER;
	r = write_header(recording);
	if (r == 0 && ftruncate(recording->fd, RECORDING_HEADER) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(recording->files.path);
	return r;
}

static int rotate(struct recording *recording)
{
	int r;

	if (fdatasync(recording->fd) < 0)
		return -errno;
	fd_close(TAKE_FD(recording->fd));
	r = recording_files_shift(&recording->files, recording->limits.files);
	return r < 0 ? r : begin_file(recording);
}

static bool is_full(const struct recording *recording, size_t more)
{
	return recording->limits.file_bytes && recording->len > RECORDING_HEADER &&
	       recording->len + more > recording->limits.file_bytes;
}

/* A block that does not fit the disk is taken away again: the file holds whole blocks. */
static int write_block(struct recording *recording)
{
	const uint64_t lost = source_lost(recording->source);
	const size_t len = sizeof(recording->block) +
			   recording->block.n_records * sizeof(recording->entries[0]);
	int r = is_full(recording, len) ? rotate(recording) : 0;

	if (r == 0 && recording->stale)
		r = write_header(recording);
	if (r < 0)
		return r;
	recording->block.magic = RECORDING_BLOCK_MAGIC;
	recording->block.lost = lost - recording->lost;
	r = fd_write_at(recording->fd, &recording->block, len, recording->len);
	if (r < 0) {
		(void)!ftruncate(recording->fd, (off_t)recording->len);
		return r;
	}
	recording->lost = lost;
	recording->len += len;
	recording->n_added += recording->block.n_records;
	recording->block.n_records = 0;
	return 0;
}

/* ---- the interface ---- */

static int check_limits(const struct recording_limits *limits, const char *path, struct error *err)
{
	if (limits->file_bytes && limits->file_bytes < RECORDING_FILE_MIN)
		return error_set(err, -EINVAL, EXIT_STATUS_USAGE,
				 "%s: a file of a recording has at least %llu MiB", path,
				 (unsigned long long)(RECORDING_FILE_MIN >> 20));
	return 0;
}

int recording_create(const char *path, struct watch_source *source,
		     const struct recording_limits *limits, bool replace,
		     struct recording **ret_recording, struct error *err)
{
	struct recording *recording;
	int r = check_limits(limits, path, err);

	if (r < 0)
		return r;
	recording = calloc(1, sizeof(*recording));
	if (!recording)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "%s: out of memory", path);
	recording->fd = -1;
	recording->source = source;
	recording->limits = *limits;
	recording->lost = source_lost(source);
	r = recording_files_claim(&recording->files, path, replace, err);
	if (r == 0)
		r = begin_file(recording);
	if (r < 0) {
		fail(recording, r, err);
		(void)recording_close(recording, NULL);
		return r;
	}
	*ret_recording = recording;
	return 0;
}

int recording_flush(struct recording *recording, struct error *err)
{
	int r;

	if (recording->failed)
		return fail(recording, recording->failed, err);
	if (!recording->block.n_records && source_lost(recording->source) == recording->lost)
		return 0;
	r = write_block(recording);
	return r < 0 ? fail(recording, r, err) : 0;
}

int recording_add(struct recording *recording, const struct watch_record *record, uint32_t ring,
		  struct error *err)
{
	const uint64_t limit = recording->limits.total_records;
	int r = 0;

	if (recording->failed)
		return fail(recording, recording->failed, err);
	if (ring >= STORE_RINGS_MAX)
		return -EINVAL;
	if (limit && recording->n_added + recording->block.n_records >= limit)
		return 1;
	note_names(recording, record, ring);
	recording->entries[recording->block.n_records++] =
		(struct recording_entry){ .ring = ring, .record = *record };
	if (recording->block.n_records == RECORDING_BLOCK_RECORDS)
		r = recording_flush(recording, err);
	if (r < 0)
		return r;
	return limit && recording->n_added + recording->block.n_records >= limit;
}

int recording_close(struct recording *recording, struct error *err)
{
	int r;

	if (!recording)
		return 0;
	r = recording->failed ? recording->failed : recording_flush(recording, err);
	if (r == 0 && recording->fd >= 0 && fsync(recording->fd) < 0)
		r = fail(recording, -errno, err);
	fd_close(recording->fd);
	recording_files_release(&recording->files);
	free(recording);
	return r;
}
