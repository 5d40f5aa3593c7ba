/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What a host needs to have a VM's backup. Any thread; the check asks the arbiter and may take seconds. */

#include "base/error.h"
#include "peer/lists.h"
#include "peer/request.h"

/* All that stands against it, beside what stands against any VM that comes (machine_check). Changes nothing. */
void backup_check(const struct lists *lists, int state_fd, const struct peer_machine *machine,
		  struct problems *problems);
/* The file of its journal, with its place allocated: STATE/journals/UUID. */
_must_check_ int backup_open_journal(int state_fd, const char *uuid, uint64_t ring_bytes,
				     int *ret_fd, struct error *err);
