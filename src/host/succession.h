/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Which of two processes on this host is a VM: one word in memory that both have mapped, decided once. While a VM is handed to a new
 * version of the program, its RAM, disks and taps are open in two processes, and only one of them may touch them.
 *
 *   old process, its keeper  --.
 *                               >-- a sealed memfd: OPEN -> PASSED (the new one runs it)
 *   new process, its keeper  --'                        -> KEPT   (the old one goes on)
 *
 * Who asks first decides, whoever was killed or stands still meanwhile; nobody has to be asked, so nothing is ever in doubt. It
 * need not outlive the host: neither does the VM. Any thread.
 */

#include "base/macros.h"

enum succession_verdict { SUCCESSION_OPEN, SUCCESSION_PASSED, SUCCESSION_KEPT };

struct succession; /* mapped */

/* The memfd, the caller's; or a negative errno. */
_must_check_ int succession_make(void);
/* Maps it; `fd` is borrowed, and not needed any more. -EINVAL: another file, or one that could shrink under the map. */
_must_check_ int succession_map(int fd, struct succession **ret_succession);
void succession_unmap(struct succession *succession); /* NULL is fine */

/* Decides for `wanted` unless it was decided before: what holds from now on. */
enum succession_verdict succession_decide(struct succession *succession,
					  enum succession_verdict wanted);
enum succession_verdict succession_read(const struct succession *succession);
