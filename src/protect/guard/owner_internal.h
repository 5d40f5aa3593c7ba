/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the owner's driver and its filling share. */

#include "block/mirror.h"
#include "move/pages/map.h"
#include "protect/guard/acks.h"
#include "protect/guard/container.h"
#include "protect/guard/pace.h"
#include "protect/shared.h"

/* Writes of an epoch at most, about: a backup's journal must hold two such. */
#define OWNER_RING_BYTES (32U << 20)

struct owner {
	struct guard guard;
	struct acks acks;
	struct protect_shared shared;
	struct mirror_reader ring;
	struct page_map *map;
	struct epoch_sender *sender;
	struct container container;
	struct epoch_counts counts; /* of the last epoch */
	struct pace pace;
	uint64_t number;	       /* of the last epoch that was begun */
	bool begun;		       /* the VM knows of this guard */
	bool gated;		       /* its output waits for acknowledgements */
	bool told_protected;	       /* who looked on may go */
	bool off, failover, cancelled; /* words of the VM, and people's */
	bool gone;		       /* its process has ended */
	bool by_hand;		       /* no etcd has the record */
	uint64_t told_generation;      /* of the record that the backup was told of */
};

/* What may have happened meanwhile: words, people, the backup, the other side's wish for a sign. 0, or why this is the end. */
_must_check_ int owner_look(struct owner *owner);
/* Waits for something to happen, at most `wait_ns`; then looks. */
_must_check_ int owner_wait(struct owner *owner, uint64_t wait_ns);
/* Until the backup has acknowledged `epoch`. */
_must_check_ int owner_wait_acked(struct owner *owner, uint64_t epoch);
/* The next epoch's number, which may be acknowledged from now on. */
uint64_t owner_next_epoch(struct owner *owner);
/* The stream's or the sender's error. */
int owner_lost(struct owner *owner, int r);
/* The ring's entries up to `end` (UINT64_MAX: those there are; then only what is done) by `put`. */
_must_check_ int owner_take_ring(struct owner *owner, uint64_t end,
				 int (*put)(void *ctx, const struct journal_write *write),
				 void *ctx);

/* fill.c: a copy of the disks, and then of memory but for what the guest writes again and again. Before the gate. */
_must_check_ int owner_fill(struct owner *owner);
