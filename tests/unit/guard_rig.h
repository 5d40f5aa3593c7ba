/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Both guards of a protected VM in one process, each with a VM that does as its script says, and a wire between them that can be cut or stand still:
 *
 *   guard_guest --link--> protect_owner ==wire== protect_backup --link--> guard_copy
 *
 * The guest writes to its memory and disks whenever it is asked something, and remembers what all of it was at each cut; the copy has to be
 * that of the last epoch that it said may be acknowledged.
 */

#include "check.h"

#include <pthread.h>

#include "block/mirror.h"
#include "protect/guard/backup.h"
#include "protect/guard/owner.h"
#include "protect/journal.h"
#include "protect/shared.h"

#define GUARD_RAM MIB(4) /* two banks */
#define GUARD_PAGES (GUARD_RAM / MEMORY_PAGE_SIZE)
#define GUARD_DISKS 2
#define GUARD_DISK_MAX MIB(3)
#define GUARD_SNAPSHOTS 16 /* of the last epochs */
#define GUARD_FIRST_CUT 10
#define GUARD_PENDING 3

extern const uint64_t guard_disk_bytes[GUARD_DISKS];
extern const uint32_t guard_disk_index[GUARD_DISKS];

struct guard_words {
	pthread_mutex_t lock;
	int bell;
	enum protect_word words[16];
	char why[16][160];
	unsigned int n;
};

/* What all of the guest was at a cut. */
struct guard_snapshot {
	uint64_t epoch;
	uint8_t ram[GUARD_RAM];
	uint8_t disks[GUARD_DISKS][GUARD_DISK_MAX];
};

struct guard_write {
	struct mirror_entry *entry; /* in the ring; NULL: none */
	uint32_t disk;
	uint64_t offset, len;
	const void *data;
};

struct guard_guest {
	struct protect_link link;
	struct guard_rig *rig;
	struct guard_words words;
	int ram_fd, disk_fds[GUARD_DISKS];
	uint8_t *ram;
	uint8_t *truth[GUARD_DISKS]; /* the disks, with all that was submitted */
	uint64_t dirty[GUARD_PAGES / 64];
	struct protect_shared shared;
	struct mirror_ring *ring;
	struct guard_write pending[GUARD_PENDING];
	unsigned int n_pending;
	struct guard_snapshot *snapshots;
	uint64_t seed;
	/* the script */
	unsigned int writes;			 /* in one moment of life */
	unsigned int write_max;			 /* bytes of one to a disk */
	unsigned int not_now;			 /* cuts that are refused first */
	uint64_t failover_at, off_at, freeze_at; /* epochs behind the gate, counted from 1 */
	int refuse_begin;
	/* what happened; atomic, or once the guards have ended */
	bool gated, is_off;
	uint64_t first_whole, cut, acked, cuts;
	char ended[512]; /* why */
};

struct guard_copy {
	struct protect_link link;
	struct guard_rig *rig;
	struct guard_words words;
	int ram_fd, disk_fds[GUARD_DISKS], journal_fd;
	uint8_t *ram;
	int shared_fd;
	uint64_t state_at;
	/* the script */
	bool refuse_rehearsal, unnamed;
	uint64_t no_ack_at;    /* whole epochs, counted from 1 */
	uint64_t prepare_at;   /* the VM prepares by itself behind that one */
	unsigned int stall_ms; /* at the tenth whole epoch */
	bool loses;	       /* the claim */
	unsigned int busy;     /* so often its disks are another's */
	bool deaf;	       /* never hears that its owner is alone */
	/* what happened */
	uint64_t whole, wholes, rehearsals;
	bool suspected, prepared, applied, failed;
	char suspicion[512];
	uint64_t state_len;
};

struct guard_wire {
	int ends[2]; /* the owner's, the backup's */
	pthread_t there, back;
	uint64_t passed; /* bytes from the owner; atomic */
	uint64_t cut_at; /* such bytes; UINT64_MAX: never */
	bool frozen;	 /* atomic */
	bool stop;	 /* atomic */
};

struct guard_rig {
	struct guard_guest guest;
	struct guard_copy copy;
	struct guard_wire wire;
	struct move_job owner_job, backup_job;
	int people; /* the other end of the owner's progress */
	int hands[2];
	void (*enter)(enum move_role role); /* each guard's thread, first; NULL: nothing */
	pthread_t owner, backup;
	enum move_end owner_end, backup_end;
	struct error owner_error, backup_error;
};

struct guard_rig *guard_rig_new(void);
void guard_rig_free(struct guard_rig *rig);
/* Runs both guards to their ends. */
void guard_rig_run(struct guard_rig *rig);
void guard_rig_start(struct guard_rig *rig);
void guard_rig_join(struct guard_rig *rig);
/* The VM says a word to its guard. */
void guard_say_word(struct guard_words *words, enum protect_word word, const char *why);
/* What was taken over is what the guest was at that epoch. */
void assert_copy_is(const struct guard_rig *rig, uint64_t epoch, bool disks);
const struct guard_snapshot *guard_snapshot(const struct guard_guest *guest, uint64_t epoch);
/* The container of an epoch's state. */
size_t guard_state(uint64_t epoch, uint8_t ret_state[256]);
