/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Memory that comes while its VM runs: the mover's side. Who touches a page that is not there yet - a vCPU, a queue's thread, KVM, an
 * io_uring - waits for it in the kernel, and a userfaultfd tells the mover.
 *
 *   VM's process  toucher waits ... goes on <-----------------------------------------.
 *                     |                                                               | UFFDIO_COPY
 *   mover         fault thread --wanted()--> who can get that page --content--> demand_place
 *
 * A page of RAM's file is one of three:
 *   there     it is never asked for;
 *   expected  told by demand_expect, not there yet: only demand_place and demand_skip change that;
 *   a hole    neither: whoever touches it gets zeroes, at once.
 * From link->demand on nobody writes RAM's file in another way: half a page would be seen, and a page that is there is not placed.
 *
 *   link->demand, demand_new    the VM registers its mappings: every touch of what is not there now waits
 *   demand_empty                what is there and not right becomes holes: KVM's writes in a rehearsal, pages sent too early
 *   demand_expect               all that is to come
 *   demand_start                faults are answered; before the load, which touches memory
 *   link->load, commit          the VM runs
 *   demand_place, demand_skip   from any threads, those that are wanted first
 *   demand_finish, link->filled nothing is expected any more: the VM is like any other
 *
 * When the mover ends (move_demand.life is closed) and pages are still expected, the VM's process ends itself at once
 * (move_guest_demand): its memory is lost, and would read as zeroes. Pages are counted in RAM's file, 4 KiB each; where its own
 * pages are of 2 MiB (hugetlbfs) they are waited for and placed as wholes: a block.
 */

#include "base/error.h"
#include "base/thread.h"
#include "move/link.h"

#define DEMAND_PAGE_BYTES 4096ULL
/* Blocks of 2 MiB of which some pages have come and some have not, at most. */
#define DEMAND_PARTS_MAX 64

struct demand;

struct demand_settings {
	const struct move_demand *vm; /* from link->demand; its descriptor stays the caller's */
	const struct move_facts *facts;
	int ram_fd;			  /* borrowed */
	struct move_shared *shared;	  /* what is left is told to the VM there; borrowed */
	const struct thread_entry *entry; /* of the fault thread; may be NULL */
	/*
	 * Somebody waits for the expected block [first, first + n). On the fault thread: not to wait for long, and not to place what
	 * takes long to get. Once for each block.
	 */
	void (*wanted)(void *ctx, uint64_t first, uint32_t n);
	void *ctx;
};

_must_check_ int demand_new(const struct demand_settings *settings, struct demand **ret_demand,
			    struct error *err);
/* Ends the fault thread. The VM's mappings stay registered as long as somebody holds the descriptor. */
void demand_free(struct demand *demand);
/* Pages of a block: 1 or 512. */
uint32_t demand_block_pages(const struct demand *demand);

/* [first, first + n), of whole blocks, becomes a hole, and is seen to be one: -EBUSY when the kernel keeps a page (a huge page of
 * tmpfs that it cannot split). Only before the VM runs. */
_must_check_ int demand_empty(struct demand *demand, uint64_t first, uint64_t n, struct error *err);
/* Among the `span` pages from `first` (all holes) are `n` that will be placed; which ones need not be known yet: the others are
 * skipped when it is. Only before demand_start. */
void demand_expect(struct demand *demand, uint64_t first, uint64_t span, uint64_t n);
_must_check_ int demand_start(struct demand *demand, struct error *err);

/*
 * Any thread, any pages; those that are not expected are left alone, so a page may come twice. `content` NULL: of zeroes. Returns when
 * they are there, or when another thread is about to place them; of a block of 2 MiB once all its pages came (-ENOBUFS: more than
 * DEMAND_PARTS_MAX are begun). -ESRCH: the VM's process has ended. -EEXIST: somebody else put a page there: the VM's memory is
 * not right, and it must not go on. After an error the VM is lost.
 */
_must_check_ int demand_place(struct demand *demand, uint64_t first, uint64_t n,
			      const void *content, struct error *err);
/* The same, for whom a VM that has ended is no error: nobody misses the page. */
_must_check_ int demand_bring(struct demand *demand, uint64_t first, uint64_t n,
			      const void *content, struct error *err);
/* What of [first, first + n) is still expected will not come: holes. */
_must_check_ int demand_skip(struct demand *demand, uint64_t first, uint64_t n, struct error *err);

/* Pages that are still to be placed. Any thread. */
uint64_t demand_left(struct demand *demand);
/* Whether somebody waits for one of them. Any thread. */
bool demand_waited(struct demand *demand);
/* 0, or the first error of the fault thread. Any thread. */
_must_check_ int demand_check(struct demand *demand, struct error *err);
/* Nothing is expected any more: the VM's mappings are let go. -EBUSY: something is. */
_must_check_ int demand_finish(struct demand *demand, struct error *err);
