/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Filters stand on a net and look like one (delay.c, drop.c, record.c). What they share is here; a filter
 * embeds these structs first and replaces the operations that it is about.
 *
 *   device -> filter -> filter -> back end
 */

#include "net/net.h"

struct net_filter {
	struct net net;
	struct net *below; /* owned */
};

struct net_filter_queue {
	struct net_queue queue;
	struct net_queue *below;  /* owned */
	struct net_events events; /* of whoever stands on it */
	struct loop *loop;
};

/* Both directions of a frame, as the guest sees it. */
enum net_direction { NET_OUT, NET_IN };

/* Allocates a filter of `size` bytes over `below`, whose properties it shows; NULL when out of memory. */
void *net_filter_new(size_t size, const struct net_ops *ops, struct net *below);

/* Allocates a queue of `size` bytes; `inner` are the events that the filter wants from below. */
_must_check_ int net_filter_queue_new(size_t size, const struct net_queue_ops *ops, struct net *net,
				      unsigned int index, struct loop *loop,
				      const struct net_events *events,
				      const struct net_events *inner, void *ret_queue);

/* Events that only pass on; `ctx` is the struct net_filter_queue. */
void net_filter_readable(void *ctx);
void net_filter_writable(void *ctx);
void net_filter_gone(void *ctx, int error);
/* Operations that only pass on. */
int net_filter_set_offloads(struct net *net, uint32_t offloads);
void net_filter_destroy(struct net *net);
int net_filter_send(struct net_queue *queue, const struct iovec *iov, unsigned int n_iov);
void net_filter_want_readable(struct net_queue *queue, bool want);
int net_filter_set_active(struct net_queue *queue, bool active);
void net_filter_queue_close(struct net_queue *queue);

/*
 * Holds every frame back for a time, in order. At most LIMIT_NET_HELD frames each way; then sending gives
 * -EAGAIN, and received frames wait below.
 */
struct net_delay_params {
	uint64_t ns[2]; /* by enum net_direction */
};
_must_check_ int net_delay_new(const struct net_delay_params *params, struct net *below,
			       struct net **ret_net);

/* Loses frames, as a bad wire does: every nth, or each with a probability. Queue i draws its numbers from
 * seed + i, so that a run can be repeated. */
struct net_drop_params {
	bool direction[2];    /* by enum net_direction */
	uint32_t nth;	      /* 0: none by count */
	uint32_t per_million; /* 0: none by chance */
	uint64_t seed;
};
_must_check_ int net_drop_new(const struct net_drop_params *params, struct net *below,
			      struct net **ret_net);

/* Shows every frame that passes. `seen` is called on the queues' threads, several at once. */
struct net_record_params {
	void (*seen)(void *ctx, unsigned int queue, enum net_direction direction,
		     const struct iovec *iov, unsigned int n_iov, size_t len);
	void *ctx;
};
_must_check_ int net_record_new(const struct net_record_params *params, struct net *below,
				struct net **ret_net);

/*
 * Builds filters from text on `below`, whose ownership passes on success: filters separated by '+', the
 * first nearest to the guest, each with its options:
 *
 *   delay:ms=MILLISECONDS[,us=MICROSECONDS][,direction=out|in|both]
 *   drop:nth=N|per_million=N[,seed=N][,direction=out|in|both]
 *
 * On an error nothing was built, and `err` names the filter and the option.
 */
_must_check_ int net_filter_stack(const char *spec, struct net *below, struct net **ret_net,
				  struct error *err);
