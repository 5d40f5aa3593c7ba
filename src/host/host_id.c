/* SPDX-License-Identifier: Apache-2.0 */
#include "host/host_id.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"

void host_id_read(char ret_text[HOST_ID_TEXT])
{
	_cleanup_(fd_closep) int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	size_t len = 0;

	if (fd < 0 || fd_read_all(fd, ret_text, HOST_ID_TEXT - 1, &len) < 0)
		len = 0;
	ret_text[len] = '\0';
	for (size_t i = 0; i < len; i++)
		if (!isxdigit((unsigned char)ret_text[i]))
			ret_text[0] = '\0';
}
