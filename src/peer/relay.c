/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"
#include "host/runtime.h"
#include "host/state_dir.h"

#define FILE_MAX KIB(4)
#define FILE_NAME (sizeof(RELAY_PREFIX) + LIMIT_NAME)

static void file_of(const char *name, char ret_file[FILE_NAME])
{
	snprintf(ret_file, FILE_NAME, RELAY_PREFIX "%.*s", LIMIT_NAME - 1, name);
}

/* In place, not by a new file: the lock is the old one's. */
static int write_note(int fd, const struct relay_note *note)
{
	_cleanup_(freep) char *text = NULL;
	char session[2 * OWNERSHIP_ID_BYTES + 1];
	json_auto_t *json = NULL;

	hex_encode(note->session.bytes, OWNERSHIP_ID_BYTES, session);
	json = json_pack("{s:s, s:s, s:s}", "uuid", note->uuid, "peer", note->peer, "session",
			 session);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	if (!text)
		return -ENOMEM;
	if (ftruncate(fd, 0) < 0)
		return -errno;
	return fd_write_at(fd, text, strlen(text), 0);
}

int relay_read(int folder_fd, const char *name, struct relay_note *ret_note)
{
	_cleanup_(freep) char *text = NULL;
	json_auto_t *json = NULL;
	struct relay_note note = { 0 };
	char file[FILE_NAME];
	const char *uuid, *peer, *session;
	size_t len;
	int r;

	file_of(name, file);
	r = state_dir_read(folder_fd, file, FILE_MAX, &text, &len);
	if (r < 0)
		return r;
	json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	uuid = json_string_value(json_object_get(json, "uuid"));
	peer = json_string_value(json_object_get(json, "peer"));
	session = json_string_value(json_object_get(json, "session"));
	if (!uuid || !uuid_valid(uuid) || !peer || strlen(peer) >= sizeof(note.peer) || !session ||
	    !hex_decode(session, note.session.bytes, OWNERSHIP_ID_BYTES))
		return -EBADMSG;
	snprintf(note.uuid, sizeof(note.uuid), "%s", uuid);
	snprintf(note.peer, sizeof(note.peer), "%s", peer);
	*ret_note = note;
	return 0;
}

bool relay_is_there(int fd)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

int relay_want(int folder_fd, const char *name, const struct relay_note *note, bool *ret_there)
{
	_cleanup_(fd_closep) int fd = -1;
	char file[FILE_NAME];
	int r;

	file_of(name, file);
	fd = openat(folder_fd, file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	r = fd < 0 ? -errno : write_note(fd, note);
	if (r == 0)
		*ret_there = relay_is_there(fd);
	return r;
}

int relay_lock(int folder_fd, const char *name, int *ret_fd)
{
	_cleanup_(fd_closep) int fd = -1;
	char file[FILE_NAME];
	struct stat st;
	int r;

	file_of(name, file);
	fd = openat(folder_fd, file, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	r = fd < 0 ? -errno : fd_lock(fd, F_WRLCK);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return -ENOENT;
	(void)futimens(fd, NULL); /* since when it lives */
	*ret_fd = TAKE_FD(fd);
	return 0;
}

void relay_forget(int folder_fd, const char *name)
{
	char file[FILE_NAME];

	file_of(name, file);
	unlinkat(folder_fd, file, 0);
}
