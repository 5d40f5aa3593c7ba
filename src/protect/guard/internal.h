/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What both guards have in common: the stream, its hello, the disks and their sizes. */

#include <pthread.h>

#include "protect/epoch_send.h"
#include "protect/guard/guard.h"
#include "wire/frame.h"

#define GUARD_KEEP_PAGES 8192 /* of memory for epochs that is not given back after a large one */
#define GUARD_LOOK_MS 20      /* between two looks at what is no descriptor to wait for */

struct guard {
	struct move_job *job;
	struct protect_link *link;
	const struct clock *clock;
	const struct thread_entry *entry;
	struct progress progress;
	unsigned int patience_ms, detect_ms;
	struct move_facts facts;
	struct epoch_origin origin;

	/* In the order of their indexes, in which the stream counts them. */
	uint32_t n_disks;
	struct move_disk disks[LIMIT_DISKS];
	uint64_t disk_bytes[LIMIT_DISKS];

	struct stream *stream;
	struct frame_reader reader; /* the receiving thread's */

	pthread_mutex_t
		saying; /* a frame: whoever sends whole epochs does so alone, and needs it not */
	struct frame_writer writer;
	uint64_t said_ns; /* when something was last said; atomic */
	bool mute;	  /* no use in saying anything */
	bool parted;	  /* the other side has given up, and said so; atomic */

	struct error error; /* the first */
};

_must_check_ int guard_init(struct guard *guard, const struct guard_settings *settings);
void guard_release(struct guard *guard);

/* Facts, disks and stream. From here on all errors are in guard->error, too. */
_must_check_ int guard_open(struct guard *guard);

/* HELLO. Who hears one compares it with what is here: -EPROTONOSUPPORT, -ESTALE, -EMEDIUMTYPE. The backup takes the generation from it. A peer that
 * refuses says BYE: -EREMOTEIO. */
_must_check_ int guard_say_hello(struct guard *guard);
_must_check_ int guard_hear_hello(struct guard *guard);

/* One frame of the guard's own. Any thread. */
_must_check_ int guard_say(struct guard *guard, enum protect_frame kind, const void *payload,
			   size_t len);
/* A heartbeat, when nothing was said for a fifth of the time after which silence is suspected. */
_must_check_ int guard_beat(struct guard *guard);
/* What was sent in another way counts as said. */
void guard_said(struct guard *guard);
/* It gives up, and why: as far as the other side still hears it. */
void guard_bye(struct guard *guard, const char *why);
/* Behind a BYE, the receiving thread: until the other side has closed, as a connection that is closed with something unread takes what was said last
 * with it. Not for long. */
void guard_drain(struct guard *guard);
#define GUARD_LAST_WORD_MS 500
#define GUARD_BYE_MAX 400
#define GUARD_END_MS 10000 /* for a VM's process, to end */
/* Until the VM's process beside this guard has ended (true), or not for long. */
bool guard_await_gone(struct guard *guard);
/* The peer's words of a BYE, as the error. */
int guard_take_bye(struct guard *guard, const struct frame *frame, struct error *err);
/* The stream's error for people, where it was not told yet. */
int guard_lost(struct guard *guard, int r, struct error *err);
