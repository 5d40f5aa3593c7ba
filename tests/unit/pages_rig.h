/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Two guests' memories, streams between them, and a dirty log as KVM keeps one: whoever writes sets the page's bit
 * afterwards, a collect moves the bits into the bitmap that the sender takes them from.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "move/pages/receive.h"
#include "move/pages/send.h"

#define RIG_PAGES (RIG_BYTES / PAGE_BYTES)
#define RIG_BYTES MIB(16)

enum rig_wire { RIG_SOCKETPAIR, RIG_TCP, RIG_TLS };

struct rig_options {
	uint32_t n_streams;
	enum rig_wire wire;
	enum move_compress compress;
	uint64_t max_bandwidth;
	bool no_sums;		  /* of pages on a wire without TLS */
	unsigned int memfd_flags; /* MFD_HUGETLB ... */
};

struct pages_rig {
	struct rig_options options;
	int from_fd, to_fd;
	uint8_t *from, *to; /* mapped by the test, apart from what sender and receiver map */
	uint64_t log[RIG_PAGES / 64];	/* atomic */
	uint64_t dirty[RIG_PAGES / 64]; /* atomic */
	struct page_map *map;
	struct line line; /* of stream 0 */
	struct pages_sender *sender;
	struct pages_target *target;
	struct pages_receiver *receiver;
	struct stream *near[MOVE_STREAMS_MAX], *far[MOVE_STREAMS_MAX];
	struct frame_writer writers[MOVE_STREAMS_MAX];
	struct frame_reader readers[MOVE_STREAMS_MAX];
	pthread_t far_thread;
	uint32_t rounds;     /* sent */
	int far_result;	     /* of the receiving thread */
	uint32_t far_rounds; /* received; atomic */
	struct error far_error;
};

/* Memory and streams; false: this host has no memory of that kind. `rig_start` makes sender and receiver. */
bool rig_open(struct pages_rig *rig, const struct rig_options *options);
void rig_start(struct pages_rig *rig);
void rig_close(struct pages_rig *rig);

/* What a guest does: writes, and the log knows. Any thread. */
void rig_mark(struct pages_rig *rig, uint64_t page);
void rig_fill(struct pages_rig *rig, uint64_t page, uint8_t byte);
void rig_fill_random(struct pages_rig *rig, uint64_t page, uint64_t *seed);
uint64_t rig_random(uint64_t *seed);

void rig_collect(struct pages_rig *rig);
/* Sends one round; after the last waits for the receiver's end. */
void rig_round(struct pages_rig *rig, bool last);
/* Post-copy: all that is dirty now goes in a last round, while `wanted`, of another thread, asks for pages of its own choice. */
void rig_rest(struct pages_rig *rig, void *(*wanted)(void *rig));
/* Waits until all rounds that were sent are received. */
void rig_wait(const struct pages_rig *rig);
/* The first page that differs, or RIG_PAGES. */
uint64_t rig_compare(const struct pages_rig *rig);
/* Pages of a file that are no holes. */
uint64_t rig_populated(int fd);
