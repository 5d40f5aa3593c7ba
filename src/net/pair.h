/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A cable inside one process: what is sent into one end is received at the other, queue i at queue i.
 * For tests and simulations; each end may be used by other threads than the other end's.
 */

#include "net/net.h"

#define NET_PAIR_FRAMES 64 /* frames on their way in one direction of a queue; then -EAGAIN */

struct net_pair_params {
	unsigned int queue_pairs;
	uint32_t offloads; /* that both ends claim */
	unsigned int mtu;
};

/* Freeing one end tells the other that it is gone. Each end is the caller's. */
_must_check_ int net_pair_new(const struct net_pair_params *params, struct net **ret_a,
			      struct net **ret_b);

/* The offloads that an end's user asked for last. Any thread. */
uint32_t net_pair_offloads(const struct net *end);
