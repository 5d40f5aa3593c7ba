/* SPDX-License-Identifier: Apache-2.0 */
#include "net/iov.h"

#include <string.h>

#include "base/macros.h"

size_t net_iov_len(const struct iovec *iov, unsigned int n)
{
	size_t len = 0;

	for (unsigned int i = 0; i < n; i++)
		len += iov[i].iov_len;
	return len;
}

unsigned int net_iov_skip(const struct iovec *iov, unsigned int n, size_t skip, struct iovec *out)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < n; i++) {
		size_t cut = MIN(skip, iov[i].iov_len);

		skip -= cut;
		if (cut < iov[i].iov_len)
			out[count++] = (struct iovec){ (char *)iov[i].iov_base + cut,
						       iov[i].iov_len - cut };
	}
	return count;
}

/* Walks the buffers from byte `offset` on; `from` copies out of them, else into them. */
static size_t iov_copy(const struct iovec *iov, unsigned int n, size_t offset, char *buf,
		       size_t len, int from)
{
	size_t done = 0;

	for (unsigned int i = 0; i < n && done < len; i++) {
		size_t part;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		part = MIN(len - done, iov[i].iov_len - offset);
		if (from)
			memcpy(buf + done, (char *)iov[i].iov_base + offset, part);
		else
			memcpy((char *)iov[i].iov_base + offset, buf + done, part);
		done += part;
		offset = 0;
	}
	return done;
}

size_t net_iov_read(const struct iovec *iov, unsigned int n, size_t offset, void *buf, size_t len)
{
	return iov_copy(iov, n, offset, buf, len, 1);
}

size_t net_iov_write(const struct iovec *iov, unsigned int n, size_t offset, const void *buf,
		     size_t len)
{
	return iov_copy(iov, n, offset, (char *)buf, len, 0);
}
