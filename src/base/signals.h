/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Signals that come as a descriptor: nothing is interrupted, nothing half-done stays behind. */

#include <signal.h>
#include <stddef.h>

#include "base/macros.h"

/* Blocks these signals in this thread and those that it starts; a new, close-on-exec, non-blocking descriptor that tells
 * them (struct signalfd_siginfo), the caller's, or negative errno. *ret_before: the mask before, also after an error; or NULL. */
_must_check_ int signals_open(const int *signals, size_t n, sigset_t *ret_before);
/* As signals_open, of what a person or a service manager says to end a program: SIGINT, SIGTERM, SIGHUP. */
_must_check_ int signals_open_ending(sigset_t *ret_before);
