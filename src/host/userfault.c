/* SPDX-License-Identifier: Apache-2.0 */
#include "host/userfault.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

int userfault_make(int device)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MISSING_HUGETLBFS,
	};
	_cleanup_(fd_closep) int fd =
		device < 0 ? -1 : ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) /* a kernel before 6.1 has no such device */
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int userfault_register(int fd, const void *at, uint64_t len, bool *ret_can_zero)
{
	const uint64_t needed = 1ULL << _UFFDIO_COPY | 1ULL << _UFFDIO_WAKE;
	struct uffdio_register range = {
		.range = { .start = (uintptr_t)at, .len = len },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (ioctl(fd, UFFDIO_REGISTER, &range) < 0)
		return -errno;
	*ret_can_zero = range.ioctls >> _UFFDIO_ZEROPAGE & 1;
	return (range.ioctls & needed) == needed ? 0 : -EOPNOTSUPP;
}
