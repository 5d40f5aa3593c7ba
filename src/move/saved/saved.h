/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The file of a saved VM (docs/save-format.md). Read back it is untrusted: every length is judged before anything is allocated, and
 * a refusal says what is wrong.
 *
 *   0      512     1024     4096
 *   +------+-------+--------+------+-------+ ... +-------+-----+-------+ ... +-------+------+
 *   | given| used  | zeros  | HEAD | STATE |     | STATE | end | PACKED|     | INDEX | FOOT |
 *   +------+-------+--------+------+-------+ ... +-------+-----+-------+ ... +-------+------+
 *
 * `given` is the mark of move/marks.h, written last, by the VM's own process: from then on the file is the VM, before that it is
 * nothing. `used` says who restored it first. Frames are wire/frame.h's, all of them checked, numbered from 0 at HEAD.
 */

#include "base/buffer.h"
#include "host/host_id.h"
#include "move/marks.h"
#include "move/protocol.h"
#include "wire/frame.h"

#define SAVED_VERSION 1
#define SAVED_USED_AT 512ULL
#define SAVED_FRAMES_AT 4096ULL
#define SAVED_PIECE KIB(256)  /* bytes of state in one frame, at most */
#define SAVED_INDEX_ENTRY 20  /* u64 first page, u32 pages, u64 offset of their frame */
#define SAVED_INDEX_MAX 65536 /* entries in one frame */

/* Numbers of this file only: none of protocol.h's. */
enum saved_frame {
	SAVED_HEAD = 0x100, /* JSON */
	SAVED_INDEX,	    /* entries, in the order of the file */
	SAVED_FOOT, /* u64 frames before it, u64 chunks, u64 pages, u64 offset of the first INDEX */
	SAVED_USED, /* u64 wall clock in ns, then text */
};
#define SAVED_FOOT_BYTES (FRAME_HEADER_BYTES + 32 + 4) /* all of it, at the file's end */

struct saved_head {
	char name[LIMIT_NAME];
	char uuid[UUID_TEXT];
	uint64_t generation;
	uint64_t ram_bytes;
	uint64_t wall_ns;	 /* when the guest was stopped, by that host's clock */
	char host[HOST_ID_TEXT]; /* that host; "": not known */
	char *config;		 /* JSON of vm_config; owned */
};

struct saved_used {
	bool used;
	uint64_t wall_ns;
	char by[MARK_PEER_MAX]; /* printable */
};

struct saved {
	int fd; /* borrowed */
	uint64_t size;
	struct mark_given given;
	struct saved_used used;
	struct saved_head head;
	uint64_t at, serial; /* of the next frame */
	uint64_t n_frames, n_chunks, n_pages, index_at;
};

/* ---- reading ---- */

/* Judges all but the state and the pages: 0; -EINVAL: no such file, or one whose save was not finished; -EBADMSG: damaged or cut
 * off; -EPROTONOSUPPORT: of a later version. Released by saved_release, also after an error. */
_must_check_ int saved_open(int fd, struct saved *ret_saved, struct error *err);
void saved_release(struct saved *saved);
/* The next frame in order, checked, its payload in `payload` (its limit FRAME_MAX). */
_must_check_ int saved_next(struct saved *saved, struct buffer *payload, struct frame *ret_frame,
			    struct error *err);

/* ---- the mark of its use ---- */

/* First wins, durably: -EALREADY with `err` (by whom, when, the way out) when it was used before. */
_must_check_ int saved_use(int fd, const char *by, uint64_t wall_ns, struct error *err);
/* Takes back the mark that `by` made then: only when it is known that the VM did not run. */
_must_check_ int saved_unuse(int fd, const char *by, uint64_t wall_ns);
int saved_refuse_used(const struct saved_used *used, struct error *err);

/* ---- writing ---- */

struct saved_writer {
	int fd; /* borrowed */
	uint64_t at, serial;
	uint64_t n_chunks, n_pages;
	struct buffer index; /* of all chunks so far */
};

/* An empty file, the marks' place in it. */
_must_check_ int saved_writer_init(struct saved_writer *writer, int fd);
void saved_writer_release(struct saved_writer *writer);
_must_check_ int saved_write_head(struct saved_writer *writer, const struct saved_head *head);
_must_check_ int saved_write(struct saved_writer *writer, uint16_t kind, const void *payload,
			     size_t len);
/* A MOVE_PACKED payload of `n_pages` whose first is `first`. */
_must_check_ int saved_write_chunk(struct saved_writer *writer, uint64_t first, uint32_t n_pages,
				   const void *payload, size_t len);
/* Index and foot, durable when this returns. */
_must_check_ int saved_finish(struct saved_writer *writer);
