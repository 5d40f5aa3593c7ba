/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* utsusu-arbiter: what its ways have in common. One thread. */

#include <jansson.h>

#include "arbiter/arbiter.h"
#include "peer/lists.h"

/* host.json's arbiter, as the client wants it. */
struct arbiter_host {
	struct lists *lists;
	bool manual; /* no etcd is asked, and `config` is empty: programs/arbiter_manual.h */
	struct arbiter_endpoint endpoints[LIMIT_ARBITER_ENDPOINTS];
	char *password;
	struct arbiter_config config;
};

/* -ENOENT where host.json names none. Released by arbiter_host_release, also after a failure. */
_must_check_ int arbiter_host_load(struct arbiter_host *host, struct error *err);
void arbiter_host_release(struct arbiter_host *host);

/* {"version": .., "generation": .., "mode": .., "owner": .., ["backup"|"from": ..,] "revision": N}; NULL when there is none, or no memory. */
json_t *arbiter_record_encode(const struct ownership_record *record);
/* The reverse, of what our own VM says. */
_must_check_ int arbiter_record_decode(const json_t *json, struct ownership_record *ret_record,
				       struct error *err);

/* The ways. All return an exit status. */
int arbiter_relay(const char *name);
int arbiter_check(bool json);
int arbiter_show(const char *uuid); /* one JSON line: what stands there */
