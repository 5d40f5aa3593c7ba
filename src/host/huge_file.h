/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "base/macros.h"

/* Which files in memory may have huge pages: memfds go by all of it, huge_file_make() only by "deny". */
#define SHMEM_ENABLED "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

/*
 * A new file of `size` bytes (a multiple of 2 MiB) in memory, whose pages the kernel makes of 2 MiB where it finds them and
 * of 4 KiB elsewhere; close-on-exec, the caller's. memfds get huge pages only where `shmem_enabled` says so, and Linux's
 * default is never; this file lies in a file system of its own (tmpfs(5): huge=always), which has that switch
 * for itself and is gone with the file. It has holes and can be mapped, shared and handed over as a memfd can; it cannot be
 * sealed. `name` shows in /proc/PID/maps.
 * From one thread of the process. Negative errno where the host does not allow it: -EOPNOTSUPP when shmem_enabled is
 * deny, -EPERM without the right to make file systems or namespaces.
 */
_must_check_ int huge_file_make(const char *name, uint64_t size);
