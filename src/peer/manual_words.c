/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "peer/manual.h"

const char *const manual_says_names[] = {
	[MANUAL_SAYS_NOTHING] = "nothing",
	[MANUAL_OWNER_IS_DEAD] = "owner-is-dead",
	[MANUAL_BACKUP_IS_DEAD] = "backup-is-dead",
	NULL,
};
