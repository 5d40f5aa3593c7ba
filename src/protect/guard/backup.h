/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The guard beside the VM that waits to go on: takes epochs, keeps the disks' journal, and notices when its owner falls silent. */

#include "protect/guard/guard.h"

/*
 * Returns how it ended: MOVE_END_RAN when the VM took over and was confirmed; `err` filled for every other end: then the copy is of no use any
 * more, and the VM's process ends with the link. One thread and two of its own, until it returns.
 */
enum move_end protect_backup(const struct guard_settings *settings, struct error *err);
