/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A VM's "process" as a thread of this one: its control loop, a guest that works, the VM's part in moves. The KVM is the fake.
 */

#include <pthread.h>

#include "base/fd.h"
#include "base/loop.h"
#include "move/guest/guest.h"

#define NEAR_RAM MIB(64)
#define NEAR_HOT_AT MIB(32) /* where the guest writes */
#define NEAR_HOT_PAGES 256

/* What a guest does: as long as it runs it counts, and at the source it writes memory. */
struct near_guest {
	struct vm *vm;
	bool writes;
	int disk_fd; /* it writes to that disk as well; -1: it has none, or leaves it alone */
	uint64_t disk_size;   /* bytes */
	bool stopped_by_test; /* atomic: it does nothing any more */
	/* What its memory is a copy of, and stands still: it reads here and there and compares. NULL: it does not. */
	struct memory *twin;
	uint64_t compared, differed; /* pages; atomic */
	uint64_t random;
	uint64_t turns;		    /* atomic */
	uint64_t first_ns, last_ns; /* atomic: host's clock; 0: never ran */
};

struct near_vm {
	struct vm_config config;
	struct vm_resources resources;
	struct loop *loop;
	struct vm *vm;
	struct move_guest *move;
	struct near_guest guest;
	void *script; /* the fake vCPU's */
	pthread_t control;
	struct loop_watch mailbox;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* lock held */
	void (*call)(void *arg);
	void *arg;
	void (*stopped)(struct near_vm *near, const void *owner, uint64_t stopped_ns,
			const struct error *error); /* also told; may be NULL */
	void *server;				    /* whoever made it knows what */
	unsigned int
		turns_a_look; /* its guest makes at least so many between two looks at its dirty log */
	uint64_t turns_seen;
	/* Versions of the state that its program knows; set before there is a link. 0: those of vm/save.h */
	uint16_t state_min, state_max;
	bool load_waits; /* set before there is a link: a load that counts reads where its guest wrote last */
	bool powers_off; /* atomic: its end is the guest's will */
	bool stands; /* its control thread may, in a page: whoever waits for it goes when it is lost */
	bool is_lost; /* its memory: it would have ended at once */
	char lost[256];
	bool stop_told;
	uint64_t stopped_ns;
	uint64_t stood_ns; /* what it was loaded with: how long its guest had stood still then */
	struct error stop_error;
	struct move_gift gift; /* told with stop_told, too */
	bool doors_closed;     /* atomic: new clients wait */
	bool leaves;	       /* its control thread does nothing for others any more */
	bool ended;	       /* the "process" is no more; its RAM and devices can be looked at */
};

/* Makes it, with RAM in `memory_fd` (-1: a memfd of its own). Its loop is the caller's to run, after vm_start and vm_run. */
void near_vm_make(struct near_vm *near, bool arriving, bool guest_writes, int memory_fd);
/* Makes it and starts it: a source runs, an `arriving` one stands until it is loaded. `name` and `uuid` as in a configuration. */
void near_vm_start(struct near_vm *near, bool arriving, bool guest_writes);
/* The same with a disk, the file at `path`. */
void near_vm_start_with_disk(struct near_vm *near, bool arriving, bool guest_writes,
			     const char *path);
/* One that goes on with the RAM of `from`, which runs. */
void near_vm_start_heir(struct near_vm *near, struct near_vm *from);
/* What kill -9 does. */
void near_vm_kill(struct near_vm *near);
/* Its guest switches it off, or kill -9 ends it: soon. Any thread. */
void near_vm_power_off(struct near_vm *near);
void near_vm_kill_soon(struct near_vm *near);
/* Kills what still lives, and frees all. */
void near_vm_free(struct near_vm *near);
/* Does something on its control thread; false: it has ended. */
bool near_vm_do(struct near_vm *near, void (*call)(void *arg), void *arg);
/* Its user's words. */
void near_vm_pause(struct near_vm *near);
void near_vm_resume(struct near_vm *near);
/* Whether its guest makes progress: looked for so long, on a busy computer too, when it should. */
bool near_vm_runs(struct near_vm *near, bool should);
