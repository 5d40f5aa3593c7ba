/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Arithmetic on arrays of buffers, for back ends that cut or copy frames. */

#include <stddef.h>
#include <sys/uio.h>

#define NET_IOV_MAX                                                                                \
	600 /* buffers of one frame, a limit for senders and receivers (IOV_MAX is 1024) */

size_t net_iov_len(const struct iovec *iov, unsigned int n);

/* Writes to `out` (room for `n`) the buffers without their first `skip` bytes; how many there are. */
unsigned int net_iov_skip(const struct iovec *iov, unsigned int n, size_t skip, struct iovec *out);

/* Copies between buffers, from byte `offset` on, and linear memory; the count copied. */
size_t net_iov_read(const struct iovec *iov, unsigned int n, size_t offset, void *buf, size_t len);
size_t net_iov_write(const struct iovec *iov, unsigned int n, size_t offset, const void *buf,
		     size_t len);
