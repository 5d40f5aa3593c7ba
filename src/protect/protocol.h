/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a protected VM's owner and its backup say to each other, once the backup has a copy. One stream each way; frames are wire/frame.h's,
 * FRAME_CHECKED but for PAGES, whose content END guards.
 *
 *   owner                                              backup
 *     EPOCH { ZEROES, PAGES, PACKED, DELTAS }* STATE* END ->   staged apart from RAM until it is whole
 *            <----------------------------------------- ACK    whole, right, and its disks' journal durable
 *
 * Numbers little-endian. Kinds and layouts are never reused.
 */

#include "protect/ownership.h"

#define PROTECT_SESSION_BYTES OWNERSHIP_ID_BYTES

enum protect_frame {
	/* u64 generation, the session, u64 number of this epoch, u64 released: output up to this epoch has left */
	PROTECT_EPOCH = 1,
	PROTECT_ZEROES, /* {u64 first page, u32 count}*: they read as zero */
	PROTECT_PAGES,	/* u32 n, u64 page * n ascending, n pages */
	PROTECT_PACKED, /* the same, the pages as one zstd frame */
	PROTECT_DELTAS, /* the same, each page XORed with what the backup holds of it since the epoch before */
	PROTECT_STATE, /* a piece of the state (vm/save.h); an empty one ends it */
	PROTECT_END,   /* u64 number, u64 pages (zeroes count), u64 sum over them (epoch_sum) */
	PROTECT_ACK, /* backup: u64 generation, the session, u64 number: this epoch and all before it */
};

#define PROTECT_EPOCH_BYTES (8 + PROTECT_SESSION_BYTES + 16)
#define PROTECT_END_BYTES 24
#define PROTECT_ACK_BYTES (8 + PROTECT_SESSION_BYTES + 8)
