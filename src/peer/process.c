/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"

int process_start(pid_t pid, uint64_t *ret_start)
{
	_cleanup_(fd_closep) int fd = -1;
	char path[32], text[1024], *at;
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	if (fd_read_all(fd, text, sizeof(text) - 1, &len) < 0)
		return -ESRCH;
	text[len] = '\0';
	at = strrchr(text, ')'); /* the second field, in parentheses, may hold anything */
	/* The third: one that has ended and that its parent has not looked at yet. */
	if (at && (strncmp(at, ") Z", 3) == 0 || strncmp(at, ") X", 3) == 0))
		return -ESRCH;
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return -EBADMSG;
	*ret_start = strtoull(at + 1, NULL, 10);
	return 0;
}

int process_at(int sock, pid_t *ret_pid, uint64_t *ret_start)
{
	struct ucred who;
	socklen_t size = sizeof(who);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
		return -errno;
	*ret_pid = who.pid;
	return process_start(who.pid, ret_start);
}
