/* SPDX-License-Identifier: Apache-2.0 */

/* zeroout DEVICE OFFSET LENGTH: has the kernel write zeroes, which a disk may do without being sent them. */

#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	uint64_t range[2];
	int fd;

	if (argc != 4)
		return 2;
	fd = open(argv[1], O_RDWR);
	range[0] = strtoull(argv[2], NULL, 10);
	range[1] = strtoull(argv[3], NULL, 10);
	if (fd >= 0 && ioctl(fd, BLKZEROOUT, range) == 0)
		return 0;
	perror(argv[1]);
	return 1;
}
