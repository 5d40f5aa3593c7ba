/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/iov.h"

#include <string.h>

#include "base/macros.h"

/* How many of `len` bytes lie in `iov` from byte `skip` on. */
static size_t piece(const struct iovec *iov, size_t skip, size_t len)
{
	return skip < iov->iov_len ? MIN(iov->iov_len - skip, len) : 0;
}

size_t iov_to_buf(const struct iovec *iov, unsigned int n, size_t offset, void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned int i = 0; i < n && done < len; i++) {
		size_t part = piece(&iov[i], offset, len - done);

		if (part)
			memcpy((char *)buf + done, (char *)iov[i].iov_base + offset, part);
		done += part;
		offset -= MIN(offset, iov[i].iov_len);
	}
	/* The guest may change its buffers at any moment: the compiler must not read them again. */
	__asm__ volatile("" : : : "memory");
	return done;
}

size_t iov_from_buf(const struct iovec *iov, unsigned int n, size_t offset, const void *buf,
		    size_t len)
{
	size_t done = 0;

	for (unsigned int i = 0; i < n && done < len; i++) {
		size_t part = piece(&iov[i], offset, len - done);

		if (part)
			memcpy((char *)iov[i].iov_base + offset, (const char *)buf + done, part);
		done += part;
		offset -= MIN(offset, iov[i].iov_len);
	}
	return done;
}
