/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* One thread of the senders: what it gathers before it sends, and what it measures. */

#include <pthread.h>
#include <sys/uio.h>

#include "move/pages/bandwidth.h"
#include "move/pages/delta_cache.h"
#include "move/pages/pack_policy.h"
#include "move/pages/batch.h"
#include "move/pages/sum.h"
#include "move/pages/send.h"

#define DIRECT_PAGES                                                                               \
	16 /* so long a run is sent without a copy; shorter ones are gathered for one call */
#define GATHER_RUNS 64
#define ZERO_RANGES 4096
#define SAMPLE_PAGES 32 /* packed to see what it brings */

/* What the policies say, read once for each claim. */
struct lane_mode {
	bool pack;
	bool delta;
	bool forget; /* the cache holds pages: what is sent otherwise is taken out */
	bool fresh;  /* the first round: our mapping lacks its pages */
	bool rest;   /* post-copy's: all that there will ever be of these pages */
};

struct lane_run {
	uint64_t first;
	uint32_t n;
	const void *content;
};

struct lane_counts {
	uint64_t bytes, pages, zero_pages, delta_pages,
		packed_pages; /* written by the lane, read by any thread: atomic */
};

struct lane {
	struct pages_sender *sender;
	struct frame_writer *writer;
	uint32_t index;
	pthread_t thread;
	bool urgent; /* pages that somebody waits for: neither paced nor in turn */
	struct lane_mode mode;
	struct pack_look look;	  /* since it was last handed over */
	uint64_t exchanges, hits; /* of the cache, likewise */
	struct lane_counts counts;

	uint32_t n_runs;
	uint64_t run_pages;
	struct lane_run runs[GATHER_RUNS];
	uint8_t *heads; /* owned: what stands before each run while they are sent */
	struct iovec iov[2 * GATHER_RUNS];
	uint32_t n_zeroes;
	uint8_t *zeroes; /* owned: ZERO_RANGES as they are sent */
	struct page_batch copies, deltas;
	struct packer *packer;
};

struct pages_sender {
	struct pages_send_settings settings;
	struct bandwidth bandwidth;
	struct delta_cache *cache; /* NULL: deltas are off for good */
	uint64_t window_ns;	   /* of the look that goes on: atomic; see sender_report */
	bool sample;		   /* atomic: somebody shall pack a sample */
	bool stop;		   /* atomic */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock. */
	uint32_t round, running, claim_pages;
	bool last, rest;
	uint64_t begun; /* rounds, since the beginning */
	struct pack_policy policy;
	struct pack_look look;
	uint64_t exchanges, hits;
	bool delta, cache_used;
	bool quit;
	struct error error;

	uint32_t n_lanes; /* threads that run */
	struct lane lanes[MOVE_STREAMS_MAX];
	struct lane wanted; /* without a thread: pages_send_wanted's */
};

_must_check_ int lane_init(struct lane *lane, struct pages_sender *sender, uint32_t index);
void lane_release(struct lane *lane);
/* Sends all pages of a claim, or keeps them for lane_finish. */
_must_check_ int lane_send(struct lane *lane, struct page_claim *claim);
/* Of the rest: before pages are claimed, until --max-bandwidth allows some more. */
_must_check_ int lane_await_turn(struct lane *lane);
/* Sends what was kept. */
_must_check_ int lane_flush(struct lane *lane);
/* The same, and the frame that ends the round. */
_must_check_ int lane_finish(struct lane *lane, uint32_t round, bool last);
bool sender_stopped(const struct pages_sender *sender);
