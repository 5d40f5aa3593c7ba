/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a protected VM's owner and its backup say to each other, once the backup has a copy. One stream each way; frames are wire/frame.h's,
 * FRAME_CHECKED but for PAGES, whose content END guards.
 *
 *   owner                                              backup
 *     HELLO ---------------------------------------------->    both ways, first: compared, refused by name
 *     EPOCH { ZEROES, PAGES, PACKED, DELTAS, WRITE }* STATE* END ->   staged apart from RAM until it is whole
 *            <----------------------------------------- ACK    whole, right, and its disks' journal durable
 *     HEARTBEAT                                                both ways, when nothing else was said for a while
 *     TAKE_OVER                                                a planned failover: the last epoch sent is the last one
 *     BYE                                                      both ways: it gives up, and why; nobody need suspect anything
 *
 * Where no etcd has the record (peer/manual.h), besides:
 *
 *     RECORD -------------------------------------------->     what the owner's host has, when it names this copy
 *     LEAVE --------------------------------------------->     in place of BYE: it gives up; the copy's process is to end
 *            <------------------------------------------ ENDED   it has
 *     ENDED --------------------------------------------->     in place of TAKE_OVER: the owner's process has ended, and the last epoch sent is the last one
 *
 * An epoch without state fills: its pages are RAM's and its writes the disks' at once, and it is acknowledged, but nobody can go on from it.
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
	/* u32 version, u32 disks, u64 RAM's bytes, u64 generation, the session, u64 bytes of each disk */
	PROTECT_HELLO,
	PROTECT_WRITE, /* u32 disk, u32 kind (enum journal_kind), u64 offset, u64 len, then for WRITE len bytes */
	PROTECT_HEARTBEAT, /* empty */
	PROTECT_TAKE_OVER, /* empty */
	PROTECT_BYE,	   /* text: one line */
	PROTECT_RECORD,	   /* text: the record (protect/record.h); its revision is its generation */
	PROTECT_LEAVE,	   /* text: one line */
	PROTECT_ENDED,	   /* empty */
};

#define PROTECT_VERSION 1
#define PROTECT_HELLO_BYTES (24 + PROTECT_SESSION_BYTES) /* and 8 for each disk */
#define PROTECT_WRITE_BYTES 24				 /* and the data */
#define PROTECT_WRITE_MAX (1U << 20)			 /* bytes of data in one frame */
#define PROTECT_EPOCH_BYTES (8 + PROTECT_SESSION_BYTES + 16)
#define PROTECT_END_BYTES 24
#define PROTECT_ACK_BYTES (8 + PROTECT_SESSION_BYTES + 8)
