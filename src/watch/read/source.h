/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Where views get their records from, in order of time: a living VM's store, what the keeper left of a dead one, or a
 * recording. Nothing of it is trusted: a torn or hostile store gives fewer records, never a crash or a loop without
 * end. One thread each; several sources of one store do not disturb each other.
 *
 * Order. A request is recorded when it is answered, so a ring holds its records by their ends. A source holds each
 * one back for SOURCE_WINDOW_MS and gives them by their beginnings:
 *
 *   - two requests that took less than SOURCE_WINDOW_MS come in the order in which they began, whatever their rings;
 *   - one that took longer comes when it was answered: late by its duration, less the window, at most;
 *   - an access to PCI configuration (RECORD_NESTED) comes after the access that caused it, which began first;
 *   - where more than SOURCE_HELD_MAX records fall into one window, the oldest come early.
 *
 * A recording gives its records as it holds them: that is, in this order.
 */

#include <stdbool.h>

#include "base/error.h"
#include "watch/record.h"

#define SOURCE_WINDOW_MS 10
#define SOURCE_HELD_MAX 32768 /* records held back at once */

struct watch_source;

struct source_options {
	bool from_oldest; /* begin with what the rings still hold; otherwise with what comes from now on */
	bool lossless; /* register as a follower: the VM waits for this reader (live only) */
};

/* A store that may still be written (`live`), or what is left of one, which is always read from its oldest record. `fd` is
 * borrowed and duplicated; a live one must be the keeper's sealed file, open for writing too when `lossless`. Errors
 * name `what` (a VM's name or a file), for people. -EPROTO: it is no store; -EPROTONOSUPPORT: of another version; -EBUSY:
 * STORE_FOLLOWERS lossless readers are there already. */
_must_check_ int source_open_store(int fd, bool live, const struct source_options *options,
				   const char *what, struct watch_source **ret_source,
				   struct error *err);
/* The recording `path` (watch/read/recording.h), this one file of a rotated set. -EPROTO, -EPROTONOSUPPORT as above. */
_must_check_ int source_open_recording(const char *path, struct watch_source **ret_source,
				       struct error *err);
/* Releases a follower's slots as well. NULL is fine. */
void source_free(struct watch_source *source);

/* Where guest memory can be looked at to translate addresses (the VM's RAM as the keeper holds it): records are then judged
 * more surely. Borrowed until source_free. Optional, before the first source_next. */
struct guest_view;
void source_set_memory(struct watch_source *source, const struct guest_view *view);

/* The writer of a live store is gone: what is left comes without being held back for what may follow, and then
 * -ENODATA. No effect on others. */
void source_set_ended(struct watch_source *source);

/*
 * 1 and the next record by time, its instruction judged (watch/read/instruction.h); 0: none now (live: ask again some
 * milliseconds later: a ring of 16384 records at a million a second is overwritten within 16); -ENODATA: the end of a recording or of what was left; another negative errno: the file
 * cannot be read.
 *
 * A record is safe to look things up by: `kind` is below RECORD_KINDS and not 0, `size` 0, 1, 2, 4 or 8, `device` below
 * STORE_DEVICES_MAX or STORE_NO_DEVICE, `operation`, `verdict`, `mode`, `n_before`, `n_after`, `length` and the frame's
 * `n_bytes` in their ranges, `*ret_ring` below STORE_RINGS_MAX. All else may be any number.
 */
_must_check_ int source_next(struct watch_source *source, struct watch_record *ret_record,
			     uint32_t *ret_ring);

/* Exact: records that were overwritten before this source read them, those that their writer gave up, and those that are
 * none of this version. Counted from where the source began. */
uint64_t source_lost(const struct watch_source *source);
/* What it says of itself; a copy that was judged: counts are in range, texts end and hold printable characters only.
 * Of a live store it is brought up to date whenever source_next has given 0. */
const struct store_header *source_header(struct watch_source *source);
const char *source_ring_name(struct watch_source *source, uint32_t ring);
/* The name of a record's device, "-" when it has none or a bad one. */
const char *source_device_name(struct watch_source *source, uint16_t device);
/* TSC to nanoseconds since 1970, and a number of ticks to nanoseconds. */
uint64_t source_wall_ns(const struct watch_source *source, uint64_t tsc);
uint64_t source_ticks_ns(const struct watch_source *source, uint64_t ticks);
/* A follower that was expelled for being slow: its source goes on, no longer lossless. */
bool source_was_expelled(const struct watch_source *source);
