/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What the two movers of a move say to each other, and what a saved VM's file holds. Stream 0 carries everything but page
 * frames of the bulk, which go over all streams; frames of one stream keep their order, streams do not keep each other's: where it
 * matters (a page sent twice) a ROUND frame on every stream separates.
 *
 *   source                                         destination
 *     HELLO(token, role, stream, version) ------>     every stream, both ways, first
 *     MACHINE (configuration, banks, page kind) ->    made by its daemon already: compared, refused by name
 *     REHEARSE (state while running) ----------->     loaded into real KVM
 *            <------------------------ REHEARSED (or REFUSED with the reason)
 *     with --copy-disks: { DISK, DISK_PACKED, DISK_HOLE }* DISK_PASS -->   all streams; later passes, between rounds, stream 0
 *            <------------------------ DISK_PASSED (all of this pass is durable, read back, right)
 *     { PAGES, SUMMED, ZEROES, PACKED, DELTAS }* ROUND -->    all streams, as often as need be
 *            <------------------------ ROUND_DONE (all streams of this round are in RAM)
 *     DISK_HASH of each disk, before the last round -->   compared with what was read back
 *     SOON, before and after the guest is stopped --->   announces the VM's addresses
 *     (post-copy: MISSING in place of the last round)
 *     STATE, STOOD(ns)   ----------------------->
 *            <------------------------ READY
 *     COMMIT (token; after `given` is durable) -->
 *            <--------- ANSWER_RAN | ANSWER_NEVER
 *     (post-copy: { PAGES, SUMMED, ZEROES, PACKED }* on all streams, each page once; then ROUND; from STOOD on
 *            <------------------------ FAULT, answered on stream 0; at last ROUND_DONE)
 *            <------------------------ VERIFIED (after RAN; nothing hangs on it) | ENDED
 *     either side, any time before COMMIT: REFUSED(reason), CANCEL
 *
 * Numbers little-endian. Kinds and layouts are never reused.
 */

#include <stdint.h>

#include "base/endian.h"

#define MOVE_VERSION 1 /* spoken; the lowest spoken is MOVE_VERSION_MIN */
#define MOVE_VERSION_MIN 1
#define MOVE_STREAMS_MAX 16
#define MOVE_BATCH_PAGES 256 /* of 4 KiB in one frame */

/* HELLO's features. Bit v - 1: the VM's process on this side saves and loads version v of the state (vm/save.h), which need not be
 * what this program's does. What is sent is the highest that both have. Above them are the movers' own. */
#define MOVE_FEATURES_STATE 0xffffffffULL
#define MOVE_FEATURE_SUMS (1ULL << 32) /* takes SUMMED */
#define MOVE_STATE_VERSIONS 32
/* The VM's process on this side can run while some of its memory is not there; the source's: it can serve that. */
#define MOVE_FEATURE_POSTCOPY (1ULL << 33)
#define MOVE_FEATURE_ENDED (1ULL << 34) /* takes ENDED */
/* ROUND_DONE and STOOD are of 12 and 16 bytes, not 4 and 8. */
#define MOVE_FEATURE_CLOCK (1ULL << 35)
#define MOVE_FEATURE_SOON (1ULL << 36) /* takes SOON */

enum move_frame {
	MOVE_HELLO = 1,
	MOVE_MACHINE,	 /* JSON */
	MOVE_REHEARSE,	 /* a piece of the state's stream; an empty one ends it */
	MOVE_REHEARSED,	 /* empty */
	MOVE_REFUSED,	 /* text: one line */
	MOVE_CANCEL,	 /* empty */
	MOVE_PAGES,	 /* u64 first page, then whole pages; unchecked: TLS guards them */
	MOVE_ZEROES,	 /* {u64 first page, u32 count}*: they read as zero */
	MOVE_PACKED,	 /* u32 n, u64 page * n, then one zstd frame of n pages */
	MOVE_DELTAS,	 /* the same, each page XORed with what was sent of it before */
	MOVE_ROUND,	 /* u32 number, u8 last */
	MOVE_ROUND_DONE, /* u32 number; u64 ns, the destination's CLOCK_MONOTONIC */
	MOVE_STATE,	 /* a piece of the final state; an empty one ends it */
	MOVE_STOOD, /* u64 ns that the guest stood still; u64 ns, since when by the destination's clock */
	MOVE_READY,	   /* empty: loaded, waits for the commit */
	MOVE_COMMIT,	   /* token */
	MOVE_ANSWER_RAN,   /* token */
	MOVE_ANSWER_NEVER, /* token */
	MOVE_FAULT, /* destination: u64 first page, u32 count: somebody waits for them (post-copy) */
	MOVE_DISK,  /* u32 disk, u64 offset, SHA-256 of what follows, a chunk (--copy-disks) */
	MOVE_DISK_HOLE, /* u32 disk, {u64 offset, u64 len}*: chunks that read as zero */
	MOVE_DISK_HASH, /* u32 disk, 32 bytes: root of its hashes (move/disks/tree.h) */
	MOVE_VERIFIED,	/* destination: text, empty when announced and verified, else what failed */
	MOVE_DISK_PACKED, /* as DISK, the chunk as one zstd frame */
	MOVE_DISK_PASS,	  /* u32 number, u8 last: a pass over the disks ends on this stream */
	MOVE_DISK_PASSED, /* destination: u32 number, u64 chunks still to be read back; 0: all are right */
	MOVE_SUMMED,  /* PAGES with a sum of each before them (move/pages/sum.h): without TLS */
	MOVE_MISSING, /* a piece of the list of pages that are missing there (move/pages/missing.h); an empty one ends it */
	MOVE_ENDED, /* destination: text, why the VM needs no more of its memory: it ran, and ended as it should (post-copy) */
	MOVE_SOON, /* empty: the guest is about to stand still, or does; the networks may learn of the new place */
	MOVE_FRAMES,
};
