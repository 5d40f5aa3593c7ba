/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the backup's parts share: what it keeps, and the epochs that come. */

#include "protect/epoch_receive.h"
#include "protect/guard/applier.h"
#include "protect/guard/container.h"
#include "protect/guard/pulse.h"

struct backup {
	struct guard guard;
	struct pulse pulse;
	struct applier applier;
	struct move_shared shared;
	struct memory memory; /* the VM's RAM, by its file: the banks' mappings are ours */
	struct storage_file disks[LIMIT_DISKS];
	struct storage_file journal_file;
	struct journal *journal; /* NULL: no disk is mirrored */
	struct epoch_sink sink;
	struct epoch_receiver *receiver;
	struct epoch epoch; /* that comes */

	uint64_t last;	  /* the whole epoch that was acknowledged last; 0: none, it is filled */
	uint64_t last_ns; /* when it was here */
	struct container state; /* its container */
	uint64_t journalled;	/* the epoch that the journal has open; 0: none */
	uint64_t unsynced;	/* bytes that filled the disks since their last sync */
	bool broken;		/* this host failed, not the owner */
	bool leaves;		/* its owner wants to hear that the VM's process here has ended */
};

/* The guard's error, for people; `r` again. */
int backup_give_up(struct backup *backup, int r, const char *why);

/* receive.c: */
/* What ended the receiving. */
enum because {
	BECAUSE_LOST,	  /* the owner is not heard any more, or not understood */
	BECAUSE_PLANNED,  /* it said that it shall be so */
	BECAUSE_PREPARE,  /* the VM has been told already */
	BECAUSE_NO_ACK,	  /* so has it here */
	BECAUSE_PARTED,	  /* the owner wants it no longer, and the record may still name it */
	BECAUSE_WORTHLESS /* nobody can go on from this copy */
};

/* Receives until something ends that; why, in `err`. */
enum because backup_receive(struct backup *backup, struct error *err);

/* keep.c: what there is to be kept epochs in, and its end. */
_must_check_ int backup_open(struct backup *backup);
void backup_release(struct backup *backup);
/* All that was acknowledged is on the disks, durably, and they are let go of: nobody here touches them any more. */
_must_check_ int backup_let_go_of_disks(struct backup *backup);

/* take.c: an epoch, of which `first` has come. 0: it was acknowledged. 1: the VM wants none acknowledged any more. Negative: why nothing more is taken,
 * in `err`; backup->broken where that is this host's fault. */
_must_check_ int backup_take_epoch(struct backup *backup, const struct frame *first,
				   struct error *err);
_must_check_ int backup_take_write(void *ctx, uint64_t epoch, const struct journal_write *write,
				   struct error *err);
