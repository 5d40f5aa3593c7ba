/* SPDX-License-Identifier: Apache-2.0 */
/* A file of its own, so that clients of the socket do not link a VM for it. */
#include "api/server.h"

const struct api_protect_ops api_protect_guest_ops = {
	.facts = protect_guest_facts,
	.check = protect_guest_check,
	.begin = protect_guest_begin,
	.collect = protect_guest_collect,
	.gate = protect_guest_gate,
	.cut = protect_guest_cut,
	.acked = protect_guest_acked,
	.end = protect_guest_end,
	.off = protect_guest_off,
	.failover = protect_guest_failover,
	.back_up = protect_guest_back_up,
	.whole = protect_guest_whole,
	.suspect = protect_guest_suspect,
	.prepared = protect_guest_prepared,
	.apply = protect_guest_apply,
	.failed = protect_guest_failed,
	.attach = protect_guest_attach,
	.swapped = protect_guest_swapped,
	.stands = protect_guest_stands,
	.by_hand = protect_guest_by_hand,
	.record = protect_guest_record,
	.ended = protect_guest_ended,
	.give = protect_guest_give,
};
