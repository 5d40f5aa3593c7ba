/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/retire.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/hex.h"
#include "host/state_dir.h"
#include "peer/arrivals.h"
#include "peer/copies.h"
#include "peer/incoming.h"
#include "peer/mover.h"
#include "peer/outcome.h"
#include "peer/standing.h"
#include "peer/talk.h"

#define FOLDER "sources"
#define FILE_MAX KIB(1)
#define OLD_SECONDS 600 /* a move that is at work is not asked about */

DEFINE_CLEANUP(struct talk, talk_free, talkp)

struct entry {
	char token[PEER_TOKEN_TEXT];
	char source[PEER_NAME_MAX];
	char name[LIMIT_NAME];
};

int retire_note(int state_fd, const char *token, const char *source, const char *name)
{
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(freep) char *text = NULL;
	json_auto_t *json = json_pack("{s:s, s:s}", "source", source, "name", name);
	int r = state_dir_folder(state_fd, FOLDER, &folder);

	if (r < 0)
		return r;
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	return text ? state_dir_write(folder, token, text, strlen(text), 0600) : -ENOMEM;
}

static bool take_text(const json_t *json, const char *key, char *ret_text, size_t size)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text && snprintf(ret_text, size, "%s", text) < (int)size;
}

/* False: too young, or nobody's. */
static bool read_entry(int folder, const char *file, struct entry *ret_entry)
{
	_cleanup_(freep) char *text = NULL;
	json_auto_t *json = NULL;
	uint8_t token[MOVE_TOKEN_BYTES];
	struct stat st;
	size_t len;

	if (!hex_decode(file, token, sizeof(token)) ||
	    fstatat(folder, file, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    time(NULL) - st.st_mtime < OLD_SECONDS ||
	    state_dir_read(folder, file, FILE_MAX, &text, &len) < 0)
		return false;
	json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	snprintf(ret_entry->token, sizeof(ret_entry->token), "%.32s", file);
	return take_text(json, "source", ret_entry->source, sizeof(ret_entry->source)) &&
	       take_text(json, "name", ret_entry->name, sizeof(ret_entry->name));
}

/* True: it says that it will not ask. Anything else, and silence, says nothing. */
static bool will_not_ask(struct peer_host *host, const struct entry *entry)
{
	struct peer_request request = { .command = PEER_STILL };
	const struct peer *peer = peers_find(host->peers, entry->source, NULL);
	_cleanup_(talkp) struct talk *talk = NULL;
	json_auto_t *answer = NULL;
	struct error err = { 0 };

	if (!peer || talk_connect(host->identity, peer, &talk, &err) < 0)
		return false;
	memcpy(request.token, entry->token, sizeof(request.token));
	memcpy(request.name, entry->name, sizeof(request.name));
	return talk_call(talk, peer_request_encode(&request), TALK_ANSWER_MS, &answer, &err) == 0 &&
	       json_is_false(json_object_get(answer, "open"));
}

/* What the mark said of the latest arrival is the note's from now on; an earlier one's was taken over by the next. Disks that were copied
 * for it are whole. */
static int keep_what_it_said(struct peer_host *host, struct marks *marks, const struct entry *entry,
			     const uint8_t token[MARK_TOKEN_BYTES], enum mark_result result)
{
	struct arrival arrival;
	int r = result == MARK_RAN ? copies_forget(host->state_fd, token) : 0;

	if (r == 0)
		r = arrivals_read(host->state_fd, marks, entry->name, &arrival);
	if (r != 1 || memcmp(arrival.token, token, MARK_TOKEN_BYTES) != 0)
		return r < 0 ? r : 0;
	return arrivals_note(host->state_fd, marks, entry->name, &arrival);
}

/* One without a result belongs to a move that came to nothing: it is closed as if it had been asked for. */
static int retire(struct peer_host *host, struct marks *marks, const struct entry *entry)
{
	uint8_t token[MOVE_TOKEN_BYTES];
	enum mark_result result = MARK_OPEN;
	int r = hex_decode(entry->token, token, sizeof(token)) ? 0 : -EINVAL;

	if (r == 0)
		r = outcome_close(host, token, &result);
	if (r == -ENOENT)
		return 0;
	if (r < 0 || result == MARK_OPEN)
		return r < 0 ? r : -EBUSY;
	r = keep_what_it_said(host, marks, entry, token, result);
	return r < 0 ? r : marks_forget_taken(marks, token);
}

static void retire_in(struct peer_host *host, struct marks *marks, int folder)
{
	DIR *dir = fdopendir(folder);
	const struct dirent *file;
	struct entry entry;

	while (dir && (file = readdir(dir)))
		if (read_entry(folder, file->d_name, &entry) && will_not_ask(host, &entry) &&
		    retire(host, marks, &entry) == 0)
			unlinkat(folder, file->d_name, 0);
	if (dir)
		closedir(dir);
	else
		fd_close(folder);
}

void retire_all(struct peer_host *host)
{
	struct marks *marks = NULL;
	int folder;

	if (marks_open(&marks, NULL) < 0)
		return;
	if (state_dir_folder(host->state_fd, FOLDER, &folder) == 0)
		retire_in(host, marks, folder);
	marks_close(marks);
}

bool retire_is_open(struct peer_host *host, const char *name, const uint8_t token[MOVE_TOKEN_BYTES])
{
	struct standing standing;
	struct marks *marks = NULL;
	struct error err = { 0 };
	int r = mover_is_at_work(host->folder_fd, name) ? -EBUSY
							: standing_ask(name, &standing, &err);

	if (r < 0 || (r == 1 && standing.may_give) || marks_open(&marks, NULL) < 0)
		return true;
	r = marks_is_settled(marks, name, token);
	marks_close(marks);
	return r != 1;
}
