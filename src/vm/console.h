/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A console: between one device's byte stream and those who look at it (the terminal, a pty, clients of
 * a socket). The last 64 KiB are kept, so that who attaches sees what was printed before.
 *
 *   device --write--> ring --control loop--> primary sink, clients
 *   sinks --control loop--> input buffer --received--> device
 *
 * The primary sink slows the guest down when it does not read (flow control, as on a real line); a client
 * that falls behind loses bytes instead, and is told.
 */

#include <stdbool.h>

#include "base/loop.h"
#include "device/stream.h"

struct console;

_must_check_ int console_new(struct loop *loop, struct console **ret_console);
void console_free(struct console *console);

/* For the device's constructor; lives as long as the console. */
struct stream *console_stream(struct console *console);

/* The primary sink: reads `in`, writes `out` (which may be the same; ownership stays with the caller). Both are
 * made non-blocking. `escape` (may be NULL) is called for each Ctrl-] typed, which is not passed on. */
_must_check_ int console_attach(struct console *console, int in, int out, void (*escape)(void *ctx),
				void *ctx);

/* Accepts clients on a listening UNIX stream socket (ownership passes), LIMIT_CLIENTS at once. */
_must_check_ int console_listen(struct console *console, int listener);

/* New clients are accepted, or wait in the socket's backlog. It begins open. */
void console_doors(struct console *console, bool open);
/* The listening socket, borrowed; -1: none. */
int console_socket(const struct console *console);

/* Writes out what the sinks take without waiting: before the program ends. */
void console_flush(struct console *console);
