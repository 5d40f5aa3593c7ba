/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A recording: records in a file, for later. Several files by rotation: each can be read alone.
 *
 *   NAME.utsusu  ->  when it is full: NAME.1.utsusu is the one before, and so on; the oldest are deleted
 *
 *   file:  | struct recording_header, RECORDING_HEADER bytes | block | block | ...
 *   block: | struct recording_block | struct recording_entry x n_records |
 *
 * Records are in order of time (watch/read/source.h), their instructions judged. Numbers are little-endian. The last
 * block of a recording that was cut off may be shorter than it says; its whole entries count. The header is written
 * again when a device or a ring gets a name.
 */

#include "base/error.h"
#include "watch/read/source.h"

#define RECORDING_MAGIC 0x6f63657275737475ULL /* "utsureco" in the file */
#define RECORDING_VERSION 1
#define RECORDING_HEADER 16384		  /* bytes */
#define RECORDING_BLOCK_RECORDS 1024	  /* at most, in one block */
#define RECORDING_BLOCK_MAGIC 0x4b4c4255U /* "UBLK" in the file */
#define RECORDING_FILE_MIN MIB(1)

struct recording_header {
	uint64_t magic;
	uint32_t version;
	uint32_t number;	  /* of this file in the recording, from 1 */
	uint64_t created_wall_ns; /* since 1970, UTC */
	uint8_t reserved[104];
	struct store_header store; /* the VM's, when this was written */
	char rings[STORE_RINGS_MAX][STORE_NAME];
};
_Static_assert(offsetof(struct recording_header, store) == 128, "recording format 1");
_Static_assert(sizeof(struct recording_header) <= RECORDING_HEADER, "the header fits");

struct recording_block {
	uint32_t magic;
	uint32_t n_records; /* 0..RECORDING_BLOCK_RECORDS */
	uint64_t lost;	    /* records, since the block before or the recording's begin */
	uint64_t reserved[2];
};
_Static_assert(sizeof(struct recording_block) == 32, "recording format 1");

struct recording_entry {
	uint32_t ring;
	uint32_t reserved;
	struct watch_record record;
};
_Static_assert(sizeof(struct recording_entry) == 264, "recording format 1");

struct recording;

struct recording_limits {
	uint64_t file_bytes;	/* of one file, at least RECORDING_FILE_MIN; 0: no rotation */
	uint32_t files;		/* how many are kept, the one being written included; 0: all */
	uint64_t total_records; /* the recording ends by itself; 0: no limit */
};

/*
 * Makes the file. Never over one that is there, nor beside older files of its set: -EEXIST, unless they are recordings and
 * `replace`: then they are deleted. What `source` (borrowed until the recording is closed) says of itself is written
 * into it. Errors name the path and the way out.
 */
_must_check_ int recording_create(const char *path, struct watch_source *source,
				  const struct recording_limits *limits, bool replace,
				  struct recording **ret_recording, struct error *err);
/* 0; -ENOSPC, -EIO, ...: what was recorded before is whole, end it; 1: a limit was reached, the record is the last one. */
_must_check_ int recording_add(struct recording *recording, const struct watch_record *record,
			       uint32_t ring, struct error *err);
/* Writes what is buffered (also every second by the caller). */
_must_check_ int recording_flush(struct recording *recording, struct error *err);
/* Flushes, ends and frees; the error of the last write. NULL is fine. */
int recording_close(struct recording *recording, struct error *err);
