/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Two hosts of one move in one test: a VM's process on each (near_link.h, with the fake KVM), the two real movers in their sandboxes,
 * the marks, and the part of the daemons: it settles what the movers left, by the real functions of the hand-over.
 *
 *   hosts_open, hosts_start, hosts_wait_stopped ... hosts_finish, hosts_settle, hosts_close
 */

#include <sys/types.h>

#include "move/job.h"
#include "near_link.h"

enum host_side { HERE, THERE, SIDES }; /* source, destination */

/* What a test wants otherwise than a move that goes well. */
struct hosts_plan {
	const char *fails[SIDES]; /* the movers' failpoints; NULL: none */
	bool given_unwritable;	  /* the mark of the VM here */
	bool result_unwritable;	  /* the mark of the token, for the VM there and its mover */
	bool dies_given;	  /* the VM here, when its mark is durable */
	bool dies_committed; /* the VM there, when `ran` is durable, before its first instruction */
	bool verify_fails;   /* the VM there tells nobody what it is once it runs */
};

struct vm_child {
	struct near_vm *near; /* shared with its process: what its guest does is seen from here */
	int ram_fd;
	pid_t pid;
	char path[108]; /* of its socket */
};

struct mover_child {
	pid_t pid;
	bool ended;
	int status; /* when it has: of waitpid */
	int progress;
	char said[16384];
	size_t said_len;
};

struct hosts {
	const char *program; /* utsusu-move */
	const struct hosts_plan *plan;
	char folder[64];
	struct vm_child vms[SIDES];
	struct mover_child movers[SIDES];
	struct marks *marks;
	int taken_mark;
	uint8_t token[MOVE_TOKEN_BYTES];
	uint32_t n_streams;
	int wire[MOVE_STREAMS_MAX]; /* the source's ends, held as long as its mover lives */
	bool was_given;		    /* in doubt, when hosts_settle came */
};

void hosts_open(struct hosts *hosts, const char *program, const struct hosts_plan *plan);
/* Both movers begin. */
void hosts_start(struct hosts *hosts);
void hosts_close(struct hosts *hosts);

/* Until that mover stands still at its place; fails when it ends without. */
void hosts_wait_stopped(struct hosts *hosts, enum host_side side);
/* Until it waits for somebody's answer; it must not stand still. */
void hosts_wait_asking(struct hosts *hosts, enum host_side side);
/* Until its progress has said so; false: it ended and never did. */
bool hosts_wait_said(struct hosts *hosts, enum host_side side, const char *text);
bool hosts_said(struct hosts *hosts, enum host_side side, const char *text);
void hosts_go_on(struct hosts *hosts, enum host_side side);
void hosts_kill_mover(struct hosts *hosts, enum host_side side);
/* Its people want the end of it. */
void hosts_cancel(struct hosts *hosts, enum host_side side);
/* All streams, both ways; what is in them arrives. */
void hosts_cut(struct hosts *hosts);

void vm_kill(struct vm_child *child);
/* Whether its process has ended, perhaps just now. */
bool vm_ended(struct vm_child *child);

/* Until both movers have ended; one that stands still is thawed after a while. */
void hosts_finish(struct hosts *hosts);
/* Whether the VM was given and it is not known here what became of it. */
bool hosts_in_doubt(struct hosts *hosts);
/* What the daemons do when both movers have ended, however: by the marks. */
void hosts_settle(struct hosts *hosts);
/* Whether each host may start the VM by its marks. */
bool hosts_may_start(struct hosts *hosts, enum host_side side);
/* Exactly one runs, the one that should, and the other had ended before. */
void hosts_assert_one(struct hosts *hosts, bool at_destination, const char *what);
