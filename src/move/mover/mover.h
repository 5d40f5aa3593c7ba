/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * What both movers of a move have in common: streams, frames, the queue of events that the hand-over (move/handover.h) is asked
 * about. A driver turns what happens into events and does the actions that come back; it decides nothing about who may run.
 *
 *   stream, VM, people -> event -> handover_*_step -> actions -> stream, VM, marks, people
 *
 * One thread; those of pages_send and pages_receive touch the streams while a round runs.
 */

#include "base/thread.h"
#include "move/job.h"
#include "move/mover/line.h"
#include "move/link.h"
#include "move/machine.h"
#include "move/mover/progress.h"
#include "wire/frame.h"

#define MOVE_PEER_MS 30000  /* the longest silence of the other side */
#define MOVE_STOP_MS 10000  /* the longest that disk requests may take to end */
#define MOVE_END_MS 10000   /* the longest that a VM's process may take to end */
#define MOVE_DEAD_MS 900000 /* post-copy: so long without any sign a connection has not ended */
#define MOVE_COMMIT_WAITS 3 /* post-copy: the longest from STOOD to COMMIT, in longest silences */

struct mover_settings {
	struct move_job *job;		  /* borrowed; its streams are taken */
	struct move_link *link;		  /* borrowed */
	const struct clock *clock;	  /* borrowed */
	const struct thread_entry *entry; /* of each thread that is started; may be NULL */
	unsigned int peer_ms;		  /* 0: MOVE_PEER_MS */
	/* Told of the job's failpoints as they are passed; NULL: a line of progress. Any thread. */
	void (*passed)(void *ctx, const char *name);
	void *ctx;
};

#define MOVER_EVENTS 16

struct mover {
	struct move_job *job;
	struct move_link *link;
	const struct clock *clock;
	const struct thread_entry *entry;
	unsigned int peer_ms;
	struct progress progress;
	struct failpoint failpoint;
	struct stream *streams[MOVE_STREAMS_MAX];
	struct frame_writer writers[MOVE_STREAMS_MAX];
	struct frame_reader readers[MOVE_STREAMS_MAX];
	bool busy;	  /* stream 0 is a page thread's to send on */
	struct line line; /* of those who send on stream 0 at one time, in post-copy */
	bool lost;	  /* no use in sending */
	bool cancel_told;
	struct move_facts facts;
	uint16_t state_version; /* of the state that moves; since the hello */
	bool sums;		/* pages go with them: both can, and there is no TLS */
	uint64_t features;	/* that both sides have; since the hello */
	bool can_postcopy;	/* this side; before the hello */
	struct move_shared shared;
	struct handover_event events[MOVER_EVENTS];
	unsigned int n_events;
	uint64_t started_ns, round_trip_ns;
	struct move_numbers numbers;
	struct error error; /* the first */
};

/* What a driver's work on a phase returns when its end will be an event. */
#define PHASE_GOES_ON 1

_must_check_ int mover_init(struct mover *mover, const struct mover_settings *settings);
void mover_release(struct mover *mover);

/* An event for the next turns; more than MOVER_EVENTS at once never come. */
void mover_post(struct mover *mover, enum handover_event_kind kind, enum handover_phase phase);
_must_check_ bool mover_next_event(struct mover *mover, struct handover_event *ret_event);

/* Makes the streams: TLS or plain. Errors of these three as of mover_send. */
_must_check_ int mover_open_streams(struct mover *mover);
/* HELLO both ways on all streams; -EPROTONOSUPPORT when no version of the protocol, or of the state, is spoken by both. Needs the
 * facts. */
_must_check_ int mover_say_hello(struct mover *mover);

/* The connection is of no use any more: posts ON_LINK_LOST, keeps the reason, returns `r`. */
int mover_lose(struct mover *mover, int r);

/* Of all streams together. Any thread. */
struct stream_counts mover_counts(const struct mover *mover);
/* Post-copy, once the VM may run there: silence is no end of a stream any more, only MOVE_DEAD_MS of it are. */
void mover_be_patient(struct mover *mover);
/* Post-copy, before that: nothing came for `silent_ns`, and no commit for `waited_ns`. Either can be too long. */
void mover_judge_wait(struct mover *mover, uint64_t silent_ns, uint64_t waited_ns);

/* One frame on stream 0. What cannot be sent is told by ON_LINK_LOST, once. */
int mover_send(struct mover *mover, enum move_frame kind, const void *payload, size_t len);
/* The state of `len` bytes in the shared file, as pieces and an empty one. */
_must_check_ int mover_send_state(struct mover *mover, enum move_frame kind, uint64_t len);
/* A piece into the shared file behind `*len`: 1 when it was the empty one that ends it. */
_must_check_ int mover_take_state(struct mover *mover, const struct frame *frame, uint64_t *len);

/* The next frame of stream 0, its payload in readers[0].payload. Looks at people while it waits. Errors are posted as events
 * (ON_CANCEL, ON_LINK_LOST) and told as a negative errno. */
_must_check_ int mover_receive(struct mover *mover, struct frame *ret_frame);
/* A kind of a later version that says of itself that it may be left out. */
bool mover_may_skip(const struct frame *frame);
/* Turns a message of the other side into its event: 1; 0 for a frame that is no such message. */
int mover_hear(struct mover *mover, const struct frame *frame);
/* The same for one that nobody expects now: the peer is not one of ours, and is lost. */
int mover_refuse(struct mover *mover, const struct frame *frame);
/* The same where the hand-over refuses what a message meant. */
void mover_refuse_event(struct mover *mover);
/* Whether somebody wants the end of it: posts ON_CANCEL, the first time. */
bool mover_is_cancelled(struct mover *mover);

/* The job's failpoint: 0, or -EIO with the error filled. */
_must_check_ int mover_pass(struct mover *mover, enum failpoint_name name);
