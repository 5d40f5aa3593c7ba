/* SPDX-License-Identifier: Apache-2.0 */
#include "view/output.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* A descriptor that others made non-blocking is waited for. */
static int write_some(struct output *output, const char *data, size_t len)
{
	ssize_t n = write(output->fd, data, len);

	if (n >= 0)
		return (int)n;
	if (errno == EINTR)
		return output->stop && __atomic_load_n(output->stop, __ATOMIC_RELAXED) ? -EINTR : 0;
	if (errno != EAGAIN)
		return -errno;
	poll(&(struct pollfd){ .fd = output->fd, .events = POLLOUT }, 1, 100);
	return output->stop && __atomic_load_n(output->stop, __ATOMIC_RELAXED) ? -EINTR : 0;
}

static int write_whole(struct output *output, const char *data, size_t len)
{
	while (len) {
		int n = write_some(output, data, MIN(len, OUTPUT_BYTES));

		if (n < 0)
			return n;
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

int output_flush(struct output *output)
{
	size_t len = output->len;

	output->len = 0;
	return write_whole(output, output->data, len);
}

int output_check(const struct output *output)
{
	struct pollfd one = { .fd = output->fd };

	return poll(&one, 1, 0) > 0 && (one.revents & POLLERR) ? -EPIPE : 0;
}

int output_line(struct output *output, const char *text, size_t len)
{
	int r = 0;

	if (output->len + len + 1 > OUTPUT_BYTES)
		r = output_flush(output);
	if (r < 0)
		return r;
	if (len + 1 > OUTPUT_BYTES)
		return -E2BIG;
	memcpy(output->data + output->len, text, len);
	output->data[output->len + len] = '\n';
	output->len += len + 1;
	return 0;
}
