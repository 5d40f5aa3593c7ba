/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Filters stand on a block and look like one. What they share is filter.c: it gives each request a twin
 * that goes below, so that a filter is a few hooks that say PASS, or HELD and finish the twin later.
 *
 *   above --submit--> [submitted] --> below --done--> [completed] --> above's done
 *                         | HELD                          | HELD
 *                         v                               v
 *               block_filtered_pass              block_filtered_complete
 *               block_filtered_complete
 *
 * A filter embeds `struct block_filter` first, its queue `struct block_filter_queue` first. Hooks run on the
 * queue's thread.
 */

#include "block/block.h"

struct block_filter_hooks;

struct block_filter {
	struct block block;  /* shown above; the geometry is below's */
	struct block *below; /* owned */
	const struct block_filter_hooks *hooks;
};

/* A request's twin. */
struct block_filtered {
	struct block_request request; /* the one below */
	struct block_request *above;  /* NULL: free */
	struct block_filter_queue *queue;
	struct list link; /* free, or wherever the filter holds it */
	uint64_t time_ns; /* the filter's */
	int result;	  /* once completed */
};

struct block_filter_queue {
	struct block_queue queue;
	struct block_queue *below;
	struct block_filter *filter;
	struct loop *loop;
	unsigned int depth; /* twins */
	bool completing;    /* between begin and end: kicks wait */
	bool kick_waiting;
	struct list free;
	struct list waiting; /* requests that came when no twin was free */
	struct block_filtered *twins;
};

enum filter_verdict { FILTER_PASS, FILTER_HELD };

/* Each may be NULL: PASS, or nothing to do. */
struct block_filter_hooks {
	size_t queue_size; /* of the filter's queue; 0: struct block_filter_queue alone */
	int (*opened)(struct block_filter_queue *queue);
	/* Nothing is in flight below any more; what is held is forgotten after it. */
	void (*closing)(struct block_filter_queue *queue);
	enum filter_verdict (*submitted)(struct block_filtered *twin);
	enum filter_verdict (*completed)(struct block_filtered *twin);
	/* After the kick went below. */
	void (*kicked)(struct block_filter_queue *queue);
	void (*destroying)(struct block_filter *filter);
};

/* Allocates a filter of `size` bytes on `below`, whose ownership passes on success; NULL when out of
 * memory. */
void *block_filter_new(size_t size, const struct block_filter_hooks *hooks, struct block *below);

/* Sends a held twin below; the caller kicks queue->below after the last one. */
void block_filtered_pass(struct block_filtered *twin);
/* Completes a twin above with twin->result. Between block_filter_begin and block_filter_end. */
void block_filtered_complete(struct block_filtered *twin);
/* A batch of completions that the filter makes by itself. */
void block_filter_begin(struct block_filter_queue *queue);
void block_filter_end(struct block_filter_queue *queue);

/* Which operations a filter is about: bits by enum block_op. */
#define FILTER_OPS_ALL ((1u << (BLOCK_WRITE_ZEROES + 1)) - 1)

static inline bool block_filter_wants(unsigned int ops, const struct block_request *request)
{
	return ops >> request->op & 1;
}

/* Holds every result back for a fixed time. */
struct block_delay_params {
	uint64_t ns;
	unsigned int ops;
};
_must_check_ int block_delay_new(const struct block_delay_params *params, struct block *below,
				 struct block **ret_block);

/* Fails requests that the disk never sees. Counts those of `ops`, on all queues together, from 1. */
struct block_fail_params {
	unsigned int ops;
	uint64_t nth;	/* that one; 0: none by number */
	uint64_t every; /* each k-th; 0: none. Neither nth nor every: all */
	bool sticky;	/* after the first all fail */
	int error;	/* negative errno */
};
_must_check_ int block_fail_new(const struct block_fail_params *params, struct block *below,
				struct block **ret_block);

/* Keeps requests from the disk until released: they stay in flight. Begins holding. */
_must_check_ int block_drop_new(unsigned int ops, struct block *below, struct block **ret_block);
/* Any thread. Holds from now on, or lets all go that is held and that comes. */
void block_drop_hold(struct block *drop, bool hold);
/* Any thread: how many are held. */
uint32_t block_drop_held(const struct block *drop);

/* Shows every request that ended. `done` runs on the queues' threads, several at once. */
struct block_record {
	enum block_op op;
	bool fua;
	uint64_t offset, len;
	int result;
	uint64_t submitted_ns, done_ns; /* of the loop's clock */
};
struct block_record_params {
	void (*done)(void *ctx, const struct block_record *record);
	void *ctx;
};
_must_check_ int block_record_new(const struct block_record_params *params, struct block *below,
				  struct block **ret_block);

/*
 * Builds filters from text on `below`, whose ownership passes on success: filters separated by '+', the
 * first nearest to the guest, each with its options:
 *
 *   delay:ms=MILLISECONDS[,us=MICROSECONDS][,op=OP]
 *   fail[:nth=N][,every=N][,error=EIO|ENOSPC|EROFS|ETIMEDOUT][,sticky=1][,op=OP]
 *   drop[:op=OP]
 *
 * OP: read, write, flush, discard, zeroes, any. On an error nothing was built, and `err` names the filter
 * and the option.
 */
_must_check_ int block_filter_stack(const char *spec, struct block *below, struct block **ret_block,
				    struct error *err);
