/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What a mover can ask of the VM beside it (move/guest/guest.h has the meaning of each). Two implementations: api/move_link.c speaks to a
 * VM's process on its socket; tests/unit/near_link.c calls the VM in the same process, so that a whole move runs in one test.
 * One thread at a time, but for `ended`; each call waits for its answer.
 *
 * Errors: -ECONNRESET, -ETIMEDOUT and -EPROTO mean that the VM did not answer as it should: it may have done what it was asked. Any
 * other: it refused, and has not done it (move_link_is_unknown).
 */

#include "move/guest/guest.h"

/* What a VM is, as the mover needs it. */
struct move_facts {
	char name[LIMIT_NAME];
	char uuid[37];
	char version[32]; /* of its program, for people; "" when it does not say */
	char *config;	  /* JSON of vm_config; owned: free() */
	int ram_fd;	  /* owned; -1: the keeper's to give */
	uint64_t ram_bytes;
	size_t n_banks;
	struct memory_bank banks[MEMORY_BANKS_MAX]; /* host: NULL */
	enum memory_hugepages hugepages;
	bool demand; /* it can run before its memory is there (`demand`) */
	uint16_t state_min,
		state_max; /* versions of the state that its process saves and loads (vm/save.h) */
};
void move_facts_release(struct move_facts *facts);

/* What a mover fills a running VM's memory by (move/pages/demand.h). */
struct move_demand {
	int uffd; /* owned; a userfaultfd of the VM's process */
	int life; /* owned; a socket whose end tells the VM that nobody fills any more */
	uint64_t addresses[MEMORY_BANKS_MAX]; /* of the facts' banks, in the VM's process */
	bool can_zero;			      /* its kernel puts zeroes there itself */
};
void move_demand_release(struct move_demand *demand);

bool move_link_is_unknown(int error);

struct move_link;
struct move_link_ops {
	int (*facts)(struct move_link *link, struct move_facts *ret_facts, struct error *err);
	int (*check)(struct move_link *link, struct problems *problems);
	int (*begin)(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd,
		     int mark_fd, struct error *err); /* descriptors are borrowed */
	int (*collect)(struct move_link *link, uint64_t *ret_pages, struct error *err);
	int (*log_disk)(struct move_link *link, uint32_t disk, int log_fd,
			struct error *err); /* the descriptor is borrowed */
	int (*throttle)(struct move_link *link, unsigned int percent, struct error *err);
	/* Waits for the end of it. `*ret_stopped_ns`: how long the guest stands still already. */
	int (*stop)(struct move_link *link, unsigned int deadline_ms, uint64_t *ret_stopped_ns,
		    struct error *err);
	int (*save)(struct move_link *link, uint16_t version, uint64_t *ret_len, struct error *err);
	int (*cancel)(struct move_link *link, struct error *err);
	int (*given)(struct move_link *link, const char *peer, uint64_t generation,
		     struct error *err);
	int (*never)(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
		     struct error *err);
	int (*ran)(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES], const char *where,
		   struct error *err);
	int (*arrive)(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd,
		      int mark_fd, struct error *err);
	int (*load)(struct move_link *link, uint64_t len, uint64_t stopped_ns, bool rehearse,
		    struct error *err);
	int (*renew)(struct move_link *link, struct error *err);
	int (*announce)(struct move_link *link, struct error *err);
	/* After `arrive`, before what is loaded counts: -EOPNOTSUPP or a refusal with `err` where the VM's host has no such thing. */
	int (*demand)(struct move_link *link, struct move_demand *ret_demand, struct error *err);
	/* All memory is there (demand_finish): the VM is like any other, and this mover's no more. */
	int (*filled)(struct move_link *link, struct error *err);
	int (*commit)(struct move_link *link, bool *ret_ran, struct error *err);
	/* An upgrade: descriptors are borrowed; `give` waits for the end of it. */
	int (*check_upgrade)(struct move_link *link, struct problems *problems);
	int (*hand_over)(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES],
			 int shared_fd, int succession_fd, int heir_fd, struct error *err);
	int (*give)(struct move_link *link, unsigned int deadline_ms, uint16_t version,
		    struct move_gift *ret_gift, struct error *err);
	int (*inherit)(struct move_link *link, const uint8_t token[MOVE_TOKEN_BYTES], int shared_fd,
		       int succession_fd, struct error *err);
	int (*take)(struct move_link *link, uint64_t len, uint64_t moment_ns, bool *ret_ran,
		    uint64_t *ret_ran_ns, struct error *err);
	/* Between `commit` and `filled`: the vCPUs stand as long as what fills memory is not heard of, or go on. */
	int (*wait)(struct move_link *link, bool stand, struct error *err);
	/* Whether the VM's process has ended: seen by its end, not by its silence. */
	bool (*ended)(struct move_link *link);
	/* Destination: lets go of a VM that did not commit, which ends its process, and waits for that end: 0, or -ETIMEDOUT. Only
	 * `ended` and `free` afterwards. */
	int (*end)(struct move_link *link, unsigned int timeout_ms);
	void (*free)(struct move_link *link);
};
struct move_link {
	const struct move_link_ops *ops;
};
