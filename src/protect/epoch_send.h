/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Sends epochs to the backup: pages of zeros by their numbers, pages that were sent before as what differs, the others whole or packed. One thread. */

#include "protect/epoch.h"
#include "protect/journal.h"
#include "protect/protocol.h"
#include "wire/frame.h"

struct epoch_send_settings {
	struct frame_writer *writer; /* borrowed */
	uint64_t cache_bytes;	     /* of what was sent last; 0: nothing goes as a difference */
	bool pack;		     /* what goes whole is packed, where that helps */
};

/* Whose epochs these are; the session is that of the backup (ownership.h). */
struct epoch_origin {
	uint64_t generation;
	struct ownership_id session;
};

/* Of one epoch, or summed up. */
struct epoch_counts {
	uint64_t pages, zero_pages, same_pages, delta_pages;
	uint64_t writes, write_bytes; /* of disks; zeroes count as no bytes */
	uint64_t wire_bytes;	      /* frames with their headers */
};

struct epoch_sender;
_must_check_ int epoch_sender_new(const struct epoch_send_settings *settings,
				  struct epoch_sender **ret_sender);
void epoch_sender_free(struct epoch_sender *sender);

/*
 * Sends an epoch: begin, its writes in their order, and then all the rest of it. `*ret_counts` is of this one. After an error (the stream's, or
 * -ENOMEM) the backup knows no more than that it is not whole, and nothing more can be sent by this sender. Without a state (epoch.h) it
 * fills.
 */
_must_check_ int epoch_send_begin(struct epoch_sender *sender, const struct epoch *epoch,
				  const struct epoch_origin *origin);
_must_check_ int epoch_send_write(struct epoch_sender *sender, const struct journal_write *write);
_must_check_ int epoch_send_end(struct epoch_sender *sender, const struct epoch *epoch,
				struct epoch_counts *ret_counts);
/* One without writes. */
_must_check_ int epoch_send(struct epoch_sender *sender, const struct epoch *epoch,
			    const struct epoch_origin *origin, struct epoch_counts *ret_counts);
