/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A process told apart from all others that had its number before, or will have it. Any thread. */

#include <stdint.h>
#include <sys/types.h>

#include "base/macros.h"

/* When it began, in clock ticks after boot: proc(5), /proc/pid/stat, the 22nd field. -ESRCH: it has ended. */
_must_check_ int process_start(pid_t pid, uint64_t *ret_start);
/* Who serves the other end of a connected UNIX socket. */
_must_check_ int process_at(int sock, pid_t *ret_pid, uint64_t *ret_start);
