/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A whole move in one process: two VMs (near_link.h), both movers, each on its thread, and between them a wire that can do what
 * wires do. The rig plays the daemons: it makes marks and keys, and settles what the movers leave in doubt.
 *
 *   near_vm <- near_link <- move_source == wire == move_destination -> near_link -> near_vm
 */

#include "move/mover/destination.h"
#include "move/mover/source.h"
#include "near_link.h"

#define MOVE_RIG_DISK (MIB(16) + 512 * 3) /* not whole blocks, not whole chunks */

enum wire_fault {
	WIRE_WHOLE,
	WIRE_FLIP,     /* a bit of that frame's payload (its header, where there is none) */
	WIRE_CUT,      /* before that frame */
	WIRE_AFTER,    /* cut right behind it */
	WIRE_LATE,     /* `hook` is called before it passes */
	WIRE_SILENT,   /* from that frame on nothing passes for a while, and then all does */
	WIRE_TRICKLES, /* that frame comes byte by byte, WIRE_SIGN_MS between two */
	WIRE_DRIBBLES, /* it never comes; in its place one of plan.dribble, about page 0, again and again */
	WIRE_HELD, /* neither it nor what comes behind it on its way passes; then `hook` is called */
};

#define WIRE_SIGN_MS 200

struct move_rig;

struct move_plan {
	uint32_t n_streams; /* 0: 1 */
	bool tls;
	bool same_keys_not; /* the two sides have different keys */
	bool tcp;	    /* a connection of the kernel's between them, without faults */
	bool confined;	    /* both movers in their sandbox */
	bool guest_rests;   /* writes no memory */
	bool paused;	    /* by its user, before */
	/* At the end of each of the first rounds: a page becomes zero, and in many others a word changes. Plain streams only. */
	bool guest_works;
	enum move_compress compress;
	/* The guest writes more than the wire takes, and may run before it has all; there it compares what it reads. */
	bool postcopy;
	bool powers_off; /* the guest does, there, at once. Plain streams only */
	bool load_waits; /* the load touches a page that is missing */
	bool late;	 /* `at` counts from the run on: the first of that kind after ANSWER_RAN */
	unsigned int after;	 /* so many frames of that kind pass before the one that is meant */
	unsigned int silent_ms;	 /* WIRE_SILENT */
	enum move_frame dribble; /* FAULT or ZEROES */
	unsigned int peer_ms;	 /* both movers' patience; 0: some seconds */
	const char *source_fails, *destination_fails; /* NAME:ACTION; NULL: none */
	const char *source_deaf, *destination_deaf;   /* op whose answer is lost (near_link.h) */
	enum wire_fault fault;
	enum move_frame at; /* the first frame of this kind, either way; plain streams only */
	uint32_t byte;	    /* WIRE_FLIP: of its payload, from 1; 0: one in the middle */
	uint64_t flip_at;   /* TLS: byte of stream 0, from the source; 0: none */
	void (*hook)(struct move_rig *rig);
	bool cancels,
		cancels_there; /* this side's people, or the destination's, when they read of: */
	enum handover_phase cancel_at;
	/* The destination's KVM refuses a part of the guest's state, or takes it and does not keep it. */
	bool refuses_msr, forgets_msr;
	uint32_t downtime_ms;	    /* the goal; 0: MOVE_DOWNTIME_MS */
	uint64_t generation, known; /* 0: 1 and 0 */
	/* A disk that is copied. The guest writes to it, but one that rests. */
	bool disk;
	void (*fill_disk)(int fd); /* the source's file, before; NULL: some of it is filled */
	uint64_t disk_bytes;	   /* 0: MOVE_RIG_DISK */
	uint64_t max_bandwidth;
	/* The versions of the state that each side's VM knows; NULL: those of vm/save.h. */
	const uint16_t *source_states, *destination_states;
};

struct move_side {
	struct move_job job;
	struct move_link *link;
	pthread_t thread;
	enum move_end end;
	struct move_numbers numbers;
	struct error err;
	int progress;	     /* the reader's end */
	uint32_t phases;     /* told: bits */
	uint64_t failpoints; /* likewise */
	bool warned;
	char has_ended[160]; /* why the VM has, as it was told; "": it was not */
	bool in_two_places;  /* it was told that memory is */
};

struct move_rig {
	const struct move_plan *plan;
	struct near_vm from, to;
	struct move_side source, destination;
	char disk_from[64], disk_to[64]; /* files; "": none */
	int given_mark, taken_mark;	 /* the daemons' own openings */
	bool faulted;			 /* the wire did what was planned */
	bool settled;			 /* there was a doubt, and it is settled */
	unsigned int works;		 /* how often the guest has worked */
};

/* A whole move by the plan, and what the daemons do afterwards. Freed by move_rig_free. */
struct move_rig *move_rig_run(const struct move_plan *plan);
void move_rig_free(struct move_rig *rig);
/* What this side's people say when they press Ctrl-C. */
void move_rig_cancel(struct move_side *side);

/* Asserts: exactly one of the two runs, and never did both; which one. */
void move_rig_assert_one(struct move_rig *rig, bool at_destination);
/* Asserts that the disk arrived as it left, and as sparse. */
void move_rig_assert_disk(struct move_rig *rig);
/* Asserts that RAM and devices arrived as they left. */
void move_rig_assert_equal(struct move_rig *rig);
