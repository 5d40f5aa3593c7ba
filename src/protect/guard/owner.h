/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The guard beside a protected VM: gives its backup a copy, and then epoch after epoch. */

#include "protect/guard/guard.h"

/*
 * Returns how it ended, told in progress before, and `err` filled for every end but MOVE_END_RAN (a planned failover: it runs at the backup)
 * and MOVE_END_OFF. The VM then knows that its copy is lost, unless its process has ended. Whoever looks at the progress may go once the
 * phase "protected" was told; before, that ends it. One thread and one of its own, until it returns.
 */
enum move_end protect_owner(const struct guard_settings *settings, struct error *err);
