/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The filter language: which records a view shows, a breakpoint stops on, an export takes (docs/filters.md).
 *
 *   dev==serial && out && data in 0x20..0x7e
 *   vcpu==1 && latency>500us
 *   rip in 0xffffffffc0300000..+0x8000
 *
 * A filter is compiled once into a short program whose jumps only go forward, then runs over each record without
 * allocation: some ns for each comparison. The text is untrusted, and so are records.
 *
 * A comparison with something that a record does not have (the port of a disk request) is false, whatever its
 * operator; `!` in front of it makes that true.
 */

#include <stdbool.h>

#include "base/error.h"
#include "watch/record.h"

#define FILTER_TEXT_MAX 1024 /* bytes */
#define FILTER_TESTS_MAX 256 /* comparisons and flags; each range of a set counts */
#define FILTER_DEPTH_MAX 32  /* of parentheses and ! */

struct filter;

/* What a record alone does not tell. All may be NULL: then comparisons with it are false. */
struct filter_names {
	/* The name of a record's device, of less than STORE_NAME bytes; "-" when it has none. */
	const char *(*device)(void *ctx, uint16_t device);
	/* TSC ticks to nanoseconds. */
	uint64_t (*ticks_ns)(void *ctx, uint64_t ticks);
	void *ctx;
};

/* -EINVAL: `err` says what is wrong and the way out ("filter:12: 'lattency' is unknown; did you mean 'latency'?"), and
 * `*ret_column` (may be NULL) the byte where, from 1. -ENOMEM. An empty text matches all. */
_must_check_ int filter_compile(const char *text, struct filter **ret_filter,
				unsigned int *ret_column, struct error *err);
void filter_free(struct filter *filter);

/* Whether the record matches. Any thread; `filter` is not changed. NULL matches all. */
bool filter_match(const struct filter *filter, const struct watch_record *record,
		  const struct filter_names *names);

/* The first of its words that tells what is known only later, for breakpoints to refuse: readers judge which
 * instruction it was (insn, verdict, ambiguous: watch/read/instruction.h); how long it took, whether it failed, and what
 * breakpoints did to it is known afterwards. NULL: none. Owned by the language. */
const char *filter_late_word(const struct filter *filter);

/* The words of the language with a line of help each, for --help, documents and completion: fields first, then flags,
 * then values that fields take. NULL when `index` is behind the last. */
enum filter_word_kind {
	FILTER_FIELD,
	FILTER_FLAG,
	FILTER_VALUE,
};
struct filter_word {
	const char *name, *help;
	enum filter_word_kind kind;
};
const struct filter_word *filter_word(unsigned int index);
