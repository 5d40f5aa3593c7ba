/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The processes of VMs that came, by their token: a file in the daemon's folder for each, so that any handler can end the very
 * process that was made for a token, and no other that has its name or its number by now. One thread.
 */

#include "base/error.h"

/* Notes the process that serves the VM's socket. Before the token is told to anybody. */
_must_check_ int incoming_note(int folder_fd, const char *token, const char *name);
/* 1: the process made for this token lives; 0: it has ended, or there was none; negative errno: it is not known. */
int incoming_lives(int folder_fd, const char *token);
/* Ends it by force and waits: 0 once it has ended, -ETIMEDOUT. */
_must_check_ int incoming_end(int folder_fd, const char *token, unsigned int timeout_ms);
/* After the end of one that never ran: removes what its name left in the runtime directory, and forgets it. May wait some seconds for
 * the end of its keeper. */
void incoming_bury(int folder_fd, const char *token);
/* Forgets one that runs: what it is is decided. */
void incoming_drop(int folder_fd, const char *token);
/* Buries those that have ended, whatever became of who waited for them. */
void incoming_forget(int folder_fd);
