/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a guard asks of the VM beside it (protect/guest/guest.h has the meaning of each). Two implementations: api/protect_link.c speaks to the VM's
 * process on its socket; a test's calls the VM in its own process. Each call waits for its answer. One thread at a time; `acked` on another one (it has a connection of its own).
 */

#include "move/link.h"
#include "protect/guest/guest.h"

enum protect_word {
	PROTECT_WORD_NONE,
	PROTECT_WORD_PREPARE,
	PROTECT_WORD_APPLY,
	PROTECT_WORD_OFF,
	PROTECT_WORD_FAILOVER,
	PROTECT_WORD_OVER,
	PROTECT_WORD_GONE, /* the VM's process has ended */
};

struct protect_link;
struct protect_link_ops {
	int (*facts)(struct protect_link *link, struct move_facts *ret_facts, struct error *err);
	int (*begin)(struct protect_link *link, const struct ownership_id *session,
		     const char *peer, int shared_fd, int ring_fd, uint64_t *ret_cut,
		     uint64_t *ret_generation, struct error *err); /* descriptors are borrowed */
	int (*collect)(struct protect_link *link, uint64_t *ret_pages, struct error *err);
	int (*gate)(struct protect_link *link, struct error *err);
	int (*cut)(struct protect_link *link, uint64_t epoch, struct protect_cut *ret_cut,
		   struct error *err);
	int (*acked)(struct protect_link *link, const struct ownership_id *session, uint64_t epoch,
		     uint64_t at_ns, struct error *err); /* received, by CLOCK_MONOTONIC */
	int (*end)(struct protect_link *link, const char *why, struct error *err);

	int (*arrive)(struct protect_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
		      int shared_fd, struct error *err);
	int (*rehearse)(struct protect_link *link, uint64_t len, struct error *err);
	int (*back_up)(struct protect_link *link, const struct ownership_id *session,
		       const char *peer, struct error *err);
	int (*whole)(struct protect_link *link, uint64_t epoch, bool *ret_ack, struct error *err);
	int (*suspect)(struct protect_link *link, const char *why, bool *ret_prepare,
		       struct error *err);
	int (*prepared)(struct protect_link *link, struct error *err);
	int (*apply)(struct protect_link *link, uint64_t state_len, uint64_t stopped_ns,
		     struct error *err);
	int (*failed)(struct protect_link *link, const char *why, struct error *err);

	/* Without etcd; NULL: never so. */
	int (*record)(struct protect_link *link, const struct ownership_record *record,
		      struct error *err);
	int (*ended)(struct protect_link *link, const struct ownership_id *session,
		     struct error *err);
	int (*give)(struct protect_link *link, struct error *err);

	/* What the VM told its guard: waits at most `timeout_ms` (0: looks only). `fd` becomes readable when there may be one. */
	enum protect_word (*hear)(struct protect_link *link, int timeout_ms, char ret_why[160]);
	int (*fd)(struct protect_link *link);
	void (*free)(struct protect_link *link);
};
struct protect_link {
	const struct protect_link_ops *ops;
};
