/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the kinds of sources share: stores (source_store.c), recordings (source_recording.c). */

#include "watch/read/instruction.h"
#include "watch/read/source.h"

struct source_ops {
	int (*next)(struct watch_source *source, struct watch_record *ret_record,
		    uint32_t *ret_ring);
	/* Looks at header and names again; NULL: they do not change. */
	void (*refresh)(struct watch_source *source);
	void (*set_ended)(struct watch_source *source); /* may be NULL */
	void (*free)(struct watch_source *source);
};

struct watch_source {
	const struct source_ops *ops;
	struct store_header header; /* judged */
	char rings[STORE_RINGS_MAX][STORE_NAME];
	uint64_t lost;
	bool expelled;
	insn_translate_fn *translate; /* NULL: guest memory cannot be looked at */
	insn_read_fn *read;
	void *memory;
	struct judge *judges[STORE_RINGS_MAX]; /* made when a ring has its first record */
};

/* Checks a header that was read: 0, and its counts are in range and its texts end; -EPROTO, -EPROTONOSUPPORT. */
_must_check_ int source_check_header(struct store_header *header);
/* Fills `err` for what source_check_header gave, or an errno of reading. */
int source_refuse(int code, const char *what, const char *kind, struct error *err);
/* Makes `text` end, and what is not printable a '?'. */
void source_clean_text(char *text, size_t size);
/* Puts a record's numbers into their ranges; false: it is none of this version. */
bool source_check_record(struct watch_record *record);
/* Names its instruction. All records of one ring, in the ring's order. */
void source_judge(struct watch_source *source, struct watch_record *record, uint32_t ring);
/* Adds to what was lost; stays at the most there can be. */
void source_lose(struct watch_source *source, uint64_t n);
/* The parts of the base; the kind's own free calls it. */
void source_release(struct watch_source *source);
