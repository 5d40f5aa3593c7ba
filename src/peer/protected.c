/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/protected.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"
#include "host/runtime.h"
#include "host/state_dir.h"

#define FOLDER "protected"
#define FILE_MAX KIB(4)
#define ID_TEXT (2 * OWNERSHIP_ID_BYTES + 1)

static bool take_text(const json_t *json, const char *key, char *ret_text, size_t size)
{
	const char *text = json_string_value(json_object_get(json, key));

	if (!text || strlen(text) >= size)
		return false;
	memcpy(ret_text, text, strlen(text) + 1);
	return true;
}

static int decode(const char *text, size_t len, struct protected_note *ret_note)
{
	json_auto_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	struct protected_note note = { 0 };
	char session[ID_TEXT];

	if (!take_text(json, "uuid", note.uuid, sizeof(note.uuid)) || !uuid_valid(note.uuid) ||
	    !take_text(json, "peer", note.peer, sizeof(note.peer)) ||
	    !take_text(json, "session", session, sizeof(session)) ||
	    !hex_decode(session, note.session.bytes, OWNERSHIP_ID_BYTES))
		return -EBADMSG;
	*ret_note = note;
	return 0;
}

int protected_read(int state_fd, const char *name, struct protected_note *ret_note)
{
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r = runtime_name_valid(name) ? state_dir_folder(state_fd, FOLDER, &folder) : -EINVAL;

	if (r == 0)
		r = state_dir_read(folder, name, FILE_MAX, &text, &len);
	if (r == 0)
		r = decode(text, len, ret_note);
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : 1;
}

int protected_note(int state_fd, const char *name, const struct protected_note *note)
{
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(freep) char *text = NULL;
	char session[ID_TEXT];
	json_auto_t *json = NULL;
	int r = runtime_name_valid(name) ? state_dir_folder(state_fd, FOLDER, &folder) : -EINVAL;

	if (r < 0)
		return r;
	hex_encode(note->session.bytes, OWNERSHIP_ID_BYTES, session);
	json = json_pack("{s:s, s:s, s:s}", "uuid", note->uuid, "peer", note->peer, "session",
			 session);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	return text ? state_dir_write(folder, name, text, strlen(text), 0600) : -ENOMEM;
}

int protected_drop(int state_fd, const char *name)
{
	_cleanup_(fd_closep) int folder = -1;
	int r = runtime_name_valid(name) ? state_dir_folder(state_fd, FOLDER, &folder) : -EINVAL;

	if (r < 0)
		return r;
	if (unlinkat(folder, name, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return fsync(folder) < 0 ? -errno : 0;
}

int protected_check_start(int state_fd, const char *name, struct error *err)
{
	struct protected_note note;
	int r = protected_read(state_fd, name, &note);

	if (r == 0)
		return 0;
	if (r < 0)
		return error_set(
			err, r, EXIT_STATUS_HOST,
			"%s: this host's note that it is protected cannot be read: %s; see "
			"where it runs: utsusu resolve %s",
			name, strerror(-r), name);
	return error_set(err, -EBUSY, EXIT_STATUS_BUSY,
			 "%s: is protected by %s, which may run it by now; use it there, or give "
			 "another name; to see who has it, and to start it here if nobody does: "
			 "utsusu resolve %s",
			 name, note.peer[0] ? note.peer : "another host", name);
}
