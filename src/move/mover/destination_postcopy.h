/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The destination's part in post-copy: a VM that runs before all of its memory is there.
 *
 *   MISSING... -> those pages become holes that are waited for (move/pages/demand.h) -> load -> READY -> commit -> run
 *   fault thread --FAULT--> source;  ear and page threads <--pages-- source, each placed whole
 *
 * From the load on an ear (move/mover/ear.h) receives stream 0; the load has a thread of its own, as it may stand in a page that the
 * source does not send any more. While nothing is heard of the source and somebody waits for a page, the VM's
 * vCPUs stand: the guest is told of it afterwards, as of any pause. When the connection ends before all has come, the VM is lost.
 */

#include "move/mover/destination_internal.h"

/* In PHASE_MEMORY: the first piece of the list has come, `frame`. Takes the rest of it and posts ON_POSTCOPY. */
_must_check_ int destination_rest_take(struct destination *destination, const struct frame *frame);
/* After STOOD: begins to listen, and loads (move/link.h) a guest that has stood for `stopped_ns`. Ends when the source's word ends it. */
_must_check_ int destination_rest_load(struct destination *destination, uint64_t stopped_ns);
/* COMMIT came: from here on it may run, and silence is waited for. */
void destination_rest_commit(struct destination *destination);
/* In place of the driver's listening, while the ear listens. */
bool destination_rest_listens(const struct destination *destination);
void destination_rest_hear(struct destination *destination);
/* A lost connection is nothing to who has all: true when the rest is done by that. */
bool destination_rest_is_there(struct destination *destination);
/* Says in place of VERIFIED that the VM has ended as it should, if it has: true. Waits until the source has heard it. */
bool destination_rest_part(struct destination *destination);
/* The VM's process ends itself, and says why, when what is missing will not come. */
void destination_rest_give_up(struct destination *destination);
void destination_rest_release(struct destination *destination);
