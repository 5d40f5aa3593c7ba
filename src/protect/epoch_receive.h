/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Receives epochs at the backup. Everything that comes is a peer's: nothing of it touches RAM here, and an epoch counts only when it is whole and its sum
 * is right. One thread, which may wait for the peer.
 */

#include "protect/epoch.h"
#include "protect/epoch_send.h"

struct epoch_receiver;

/* Where an epoch's writes to disks go, as they come: before it is known whether it is whole. */
struct epoch_sink {
	uint32_t n_disks;
	uint64_t disk_bytes[LIMIT_DISKS];
	/* `write` lies on its disk; its data is gone afterwards. Negative with `err`: nothing more is received. */
	int (*write)(void *ctx, uint64_t epoch, const struct journal_write *write,
		     struct error *err);
	void *ctx;
};

/* `memory`: the VM's RAM with all epochs applied that came before the one being received (the base of differences). `sink`: NULL where no disk is
 * mirrored. All are borrowed, but for `origin`. */
_must_check_ int epoch_receiver_new(struct frame_reader *reader, const struct memory *memory,
				    const struct epoch_origin *origin,
				    const struct epoch_sink *sink,
				    struct epoch_receiver **ret_receiver);
void epoch_receiver_free(struct epoch_receiver *receiver);

/*
 * Waits for the next epoch and stages it in `epoch` (empty, with room for all of RAM's pages). 0: it is whole. Negative with `err`: the stream's
 * error, -EBADMSG (damage, or more than there can be), -ESTALE (another session's, or a number that came before). Then nothing more can be received, and
 * what `epoch` holds counts for nothing. -EREMOTEIO: the owner gave up in its midst, and said so.
 */
_must_check_ int epoch_receive(struct epoch_receiver *receiver, struct epoch *epoch,
			       struct error *err);
/* The same where the caller has received the first frame of it, of kind PROTECT_EPOCH, and the reader still has its payload. */
_must_check_ int epoch_receive_rest(struct epoch_receiver *receiver, const struct frame *first,
				    struct epoch *epoch, struct error *err);
