/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Relays (peer/relay.h) as the daemon and its handlers start them. One thread. */

#include "base/log.h"
#include "peer/relay.h"

/* Says that the VM needs a relay, and starts one where there is none. One that is there hears of another session. */
_must_check_ int relay_begin(int folder_fd, const char *name, const struct relay_note *note,
			     struct error *err);
/* Starts those that died, forgets those of VMs that are gone. */
void relay_tend(int folder_fd, const struct log *log);
