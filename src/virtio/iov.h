/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Copies between a chain's buffers (guest RAM) and linear memory of ours. Worker threads only. */

#include <stddef.h>
#include <sys/uio.h>

/* From byte `offset` of the buffers on; the count copied, less than `len` where the buffers end. What is
 * read is read once: validate the copy. */
size_t iov_to_buf(const struct iovec *iov, unsigned int n, size_t offset, void *buf, size_t len);
size_t iov_from_buf(const struct iovec *iov, unsigned int n, size_t offset, const void *buf,
		    size_t len);
