/* SPDX-License-Identifier: Apache-2.0 */
#include "host/huge_pages.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/macros.h"

static int read_count(int folder_fd, const char *name, uint64_t *ret_count)
{
	_cleanup_(fd_closep) int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC);
	char text[32];
	size_t len;
	int r = fd < 0 ? -errno : fd_read_all(fd, text, sizeof(text) - 1, &len);

	if (r < 0)
		return r;
	text[len] = '\0';
	*ret_count = strtoull(text, NULL, 10);
	return 0;
}

int huge_pages_look(const char *folder, struct huge_pages *ret_pages)
{
	_cleanup_(fd_closep) int fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct huge_pages pages;
	int r = fd < 0 ? -errno : read_count(fd, "nr_hugepages", &pages.total);

	if (r == 0)
		r = read_count(fd, "free_hugepages", &pages.free);
	if (r == 0)
		r = read_count(fd, "resv_hugepages", &pages.promised);
	if (r == 0)
		*ret_pages = pages;
	return r;
}

int huge_pages_judge(const char *folder, uint64_t bytes, struct error *err)
{
	const uint64_t needed = bytes / MIB(2);
	struct huge_pages pages;
	uint64_t left;
	int r = huge_pages_look(folder, &pages);

	if (r < 0)
		return error_set(
			err, -EOPNOTSUPP, EXIT_STATUS_HOST,
			"memory: hugepages=on needs huge pages of 2 MiB, which this host's kernel "
			"does not have; use one with hugetlbfs, or hugepages=thp");
	left = pages.free - MIN(pages.promised, pages.free);
	if (left >= needed)
		return 0;
	return error_set(err, -ENOMEM, EXIT_STATUS_HOST,
			 "memory: hugepages=on needs %" PRIu64 " huge pages of 2 MiB and %" PRIu64
			 " are free (of %" PRIu64 "); as root: echo %" PRIu64 " >%s/nr_hugepages",
			 needed, left, pages.total, pages.total + needed - left, folder);
}
