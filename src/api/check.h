/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Whether this host has what a configuration needs: files, rights, disks that nobody else writes.
 */

#include "vm/config.h"

/* Looks at everything and appends every problem found. What it opens or locks to see, it gives
 * back; it makes nothing. `config` is completed. Takes milliseconds; not for a control loop. */
void check_host(const struct vm_config *config, struct problems *problems);
