/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* An arbiter, two scripted servers and a port where nobody listens, on one loop; and what etcd says. */

#include "arbiter/arbiter.h"
#include "arbiter_server.h"

#define UUID "01234567-89ab-cdef-0123-456789abcdef"
#define TXN "/v3/kv/txn"
#define RANGE "/v3/kv/range"
#define WATCH "/v3/watch"
#define LOGIN "/v3/auth/authenticate"
#define RIG_DEADLINE_MS 2000
#define RIG_SILENCE_MS 1000

struct arbiter_rig {
	struct loop *loop;
	struct server *servers[2];
	struct arbiter_endpoint endpoints[3]; /* the last: nobody */
	char urls[3][40];
	char folder[64];
	int state_fd;
	struct arbiter *arbiter; /* of the first endpoint */

	/* What it told. */
	unsigned int n_swapped, n_stands;
	struct arbiter_swapped swapped;
	bool known; /* the last `stands` had a record */
	struct ownership_record stands;
	struct error err;
};

/* For cmocka: a rig in *state. */
int rig_setup(void **state);
int rig_teardown(void **state);

void rig_open(struct arbiter_rig *f, unsigned int n_endpoints, const char *user);
/* The arbiter of the first endpoint, as after a restart. */
void rig_reopen(struct arbiter_rig *f);
void rig_turn_until(struct arbiter_rig *f, const unsigned int *count, unsigned int wanted);
/* Asks, and waits for what is told; all that the servers were to say must be said then. */
void rig_swap(struct arbiter_rig *f, const struct ownership_record *want);
void rig_read(struct arbiter_rig *f);

/* What etcd says, of cluster 77 or another; record NULL: nothing stands there. For the next 64 of them. */
const char *etcd_won(uint64_t cluster, uint64_t revision);
const char *etcd_lost(uint64_t revision, const struct ownership_record *record);
const char *etcd_range(uint64_t cluster, uint64_t revision, const struct ownership_record *record);
