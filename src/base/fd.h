/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Descriptors: whole reads and writes, and passing descriptors between our own processes. */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/macros.h"

/* Reads exactly `len` bytes at `offset`; -ENODATA when the file ends before. */
_must_check_ int fd_read_at(int fd, void *buf, size_t len, uint64_t offset);

/* The same of a file that may be open with O_DIRECT: past its last whole block the kernel gives less. `buf` is aligned to
 * FD_BLOCK_BYTES and has place for `len` rounded up to them. */
_must_check_ int fd_read_blocks(int fd, void *buf, size_t len, uint64_t offset);
#define FD_BLOCK_BYTES 4096U /* what O_DIRECT wants at most */

/* Reads until `len` bytes or the end; `*ret_len` says how many. */
_must_check_ int fd_read_all(int fd, void *buf, size_t len, size_t *ret_len);

/* Writes all of `buf` at `offset` of a regular file or memfd. */
_must_check_ int fd_write_at(int fd, const void *buf, size_t len, uint64_t offset);

/* Writes all of `buf` to a blocking descriptor. A closed peer is -EPIPE, never a signal, on sockets. */
_must_check_ int fd_write_all(int fd, const void *buf, size_t len);

_must_check_ int fd_set_nonblocking(int fd);

/* Waits until something can be read: 1; 0 when a signal came between; -ETIMEDOUT at `due_ns` of the host's clock (UINT64_MAX:
 * never). */
_must_check_ int fd_wait_readable(int fd, uint64_t due_ns);

/* Whether the other end of a connected UNIX socket is of this user or root. The modes of our sockets and of their directory
 * say the same; this holds without them. */
bool fd_peer_is(int sock, uid_t owner);

/* Closes every descriptor of the process but the standard three and the `n` (at most 64) of `kept`, which may hold -1.
 * While there is one thread. */
void fd_close_others(const int *kept, size_t n);

/* Sends `len` bytes (1..4096) with `n_fds` descriptors (<= LIMIT_DESCRIPTORS_SENT) over a UNIX
 * SOCK_SEQPACKET socket; the descriptors stay the caller's. */
_must_check_ int fd_send(int sock, const void *buf, size_t len, const int *fds, size_t n_fds);

/* Receives one message of at most `len` bytes and at most `max_fds` descriptors, close-on-exec, which
 * become the caller's. -ECONNRESET when the peer has gone, -EMSGSIZE when the message was larger. */
_must_check_ int fd_receive(int sock, void *buf, size_t len, size_t *ret_len, int *fds,
			    size_t max_fds, size_t *ret_n_fds);

/* Takes (F_WRLCK, F_RDLCK) or lets go of (F_UNLCK) the lock of the whole file, without waiting: it belongs to the open file,
 * and goes with its last descriptor in any process. -EBUSY: another open file has it. */
_must_check_ int fd_lock(int fd, short type);

/* A new, close-on-exec, non-blocking eventfd; negative errno on failure. */
_must_check_ int fd_new_event(void);

/* Signals and clears an eventfd. Any thread; they cannot fail on a valid eventfd. */
void fd_signal_event(int fd);
void fd_clear_event(int fd);
