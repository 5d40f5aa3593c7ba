/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Receives epochs at the backup. Everything that comes is a peer's: nothing of it touches RAM here, and an epoch counts only when it is whole and its sum
 * is right. One thread, which may wait for the peer.
 */

#include "protect/epoch.h"
#include "protect/epoch_send.h"

struct epoch_receiver;

/* `memory`: the VM's RAM with all epochs applied that came before the one being received (the base of differences). All are borrowed. */
_must_check_ int epoch_receiver_new(struct frame_reader *reader, const struct memory *memory,
				    const struct epoch_origin *origin,
				    struct epoch_receiver **ret_receiver);
void epoch_receiver_free(struct epoch_receiver *receiver);

/*
 * Waits for the next epoch and stages it in `epoch` (empty, with room for all of RAM's pages). 0: it is whole. Negative with `err`: the stream's
 * error, -EBADMSG (damage, or more than there can be), -ESTALE (another session's, or a number that came before). Then nothing more can be received, and
 * what `epoch` holds counts for nothing.
 */
_must_check_ int epoch_receive(struct epoch_receiver *receiver, struct epoch *epoch,
			       struct error *err);
