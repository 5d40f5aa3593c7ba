/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The filter of a protected VM (base/hold.h): frames that the guest sends are held, per queue, until their epoch is acknowledged, and leave in order
 * on the queue's own thread. A full queue answers -EAGAIN, so that the device leaves the guest's frames in its ring. What is received passes.
 *
 *   device -> hold -> other filters -> back end
 *
 * It stands nearest to the guest: what other filters keep or lose has left. What says what may leave is the VM's one `struct hold`; who calls
 * what on which thread stands there. Queues are opened and closed by control, in that sense.
 */

#include "base/hold.h"
#include "net/net.h"

#define NET_HOLD_SECTION 1 /* the kind of its sections */

/* `hold` is borrowed and outlives the filter; its clock is that of the queues' loops. `size`: bytes of each queue's ring, from
 * NET_FRAME_MAX + EPOCH_ITEM_OVERHEAD to LIMIT_NET_HOLD. `below` passes to the filter on success. */
_must_check_ int net_hold_new(struct hold *hold, size_t size, struct net *below,
			      struct net **ret_net);

/* Still: appends what is held of the epochs (after, up_to] of all queues. */
_must_check_ int net_hold_export(const struct net *net, uint64_t after, uint64_t up_to,
				 struct buffer *out);
size_t net_hold_export_limit(const struct net *net);
/* Still, all queues open, before the guest sends: frames of its last owner, to leave before any other. The bytes are not trusted. */
_must_check_ int net_hold_import(struct net *net, const struct iovec *sections,
				 unsigned int n_sections, struct error *err);

/* Control: of all queues. */
void net_hold_count(const struct net *net, struct hold_counts *ret_counts);
