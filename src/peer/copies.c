/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/copies.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"
#include "host/state_dir.h"

#define FOLDER "copies"
#define FILE_MAX KIB(4)

/* What a note is about, whatever its path is by now. */
struct disk_id {
	bool device;
	uint64_t number; /* of the device, or of the file system */
	uint64_t inode;	 /* of a file */
};

static struct disk_id id_of(const struct stat *st)
{
	const bool device = S_ISBLK(st->st_mode);

	return (struct disk_id){
		.device = device,
		.number = device ? st->st_rdev : st->st_dev,
		.inode = device ? 0 : st->st_ino,
	};
}

static bool same(const struct disk_id *a, const struct disk_id *b)
{
	return a->device == b->device && a->number == b->number && a->inode == b->inode;
}

static bool take_text(const json_t *json, const char *key, char *ret_text, size_t size)
{
	const char *text = json_string_value(json_object_get(json, key));

	if (!text || strlen(text) >= size)
		return false;
	memcpy(ret_text, text, strlen(text) + 1);
	return true;
}

static int decode(const char *text, size_t len, struct copy_note *note, struct disk_id *ret_id)
{
	json_auto_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	char token[2 * MARK_TOKEN_BYTES + 1];

	if (!take_text(json, "vm", note->vm, sizeof(note->vm)) ||
	    !take_text(json, "source", note->source, sizeof(note->source)) ||
	    !take_text(json, "token", token, sizeof(token)) ||
	    !hex_decode(token, note->token, MARK_TOKEN_BYTES) ||
	    !json_is_integer(json_object_get(json, "number")) ||
	    !json_is_integer(json_object_get(json, "inode")))
		return -EBADMSG;
	ret_id->device = json_is_true(json_object_get(json, "device"));
	ret_id->number = (uint64_t)json_integer_value(json_object_get(json, "number"));
	ret_id->inode = (uint64_t)json_integer_value(json_object_get(json, "inode"));
	return 0;
}

static int read_note(int folder, const char *name, struct copy_note *ret_note,
		     struct disk_id *ret_id)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r = state_dir_read(folder, name, FILE_MAX, &text, &len);

	if (r == 0)
		r = decode(text, len, ret_note, ret_id);
	if (r == 0)
		snprintf(ret_note->disk, sizeof(ret_note->disk), "%.63s", name);
	return r;
}

/* Calls `found` for each note until it returns non-zero, which is returned. One that cannot be read is an error. */
static int walk(int folder,
		int (*found)(void *ctx, const struct copy_note *note, const struct disk_id *id),
		void *ctx)
{
	int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *entry;

	if (!dir) {
		r = -errno;
		fd_close(copy);
		return r;
	}
	while (r == 0 && (entry = readdir(dir))) {
		struct copy_note note;
		struct disk_id id;

		if (entry->d_name[0] == '.') /* also what a write left half done */
			continue;
		r = read_note(folder, entry->d_name, &note, &id);
		if (r == 0)
			r = found(ctx, &note, &id);
		else if (r == -ENOENT)
			r = 0;
	}
	closedir(dir);
	return r;
}

struct search {
	int folder;
	struct disk_id id;
	const uint8_t *token; /* NULL: by `id` */
	struct copy_note note;
};

static int drop_found(void *ctx, const struct copy_note *note, const struct disk_id *id)
{
	const struct search *search = ctx;

	if (search->token ? memcmp(search->token, note->token, MARK_TOKEN_BYTES) == 0
			  : same(&search->id, id))
		unlinkat(search->folder, note->disk, 0);
	return 0;
}

int copies_note(int state_fd, const struct copy_note *note, const struct stat *st)
{
	_cleanup_(fd_closep) int folder = -1;
	_cleanup_(freep) char *text = NULL;
	struct search search = { .id = id_of(st) };
	char token[2 * MARK_TOKEN_BYTES + 1];
	json_auto_t *json = NULL;
	int r = state_dir_folder(state_fd, FOLDER, &folder);

	if (r < 0)
		return r;
	search.folder = folder;
	hex_encode(note->token, MARK_TOKEN_BYTES, token);
	json = json_pack("{s:s, s:s, s:s, s:b, s:I, s:I}", "vm", note->vm, "source", note->source,
			 "token", token, "device", (int)search.id.device, "number",
			 (json_int_t)search.id.number, "inode", (json_int_t)search.id.inode);
	text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	/* What other names of the list said of it is no more true; until then it forbids what this one will. */
	r = text ? walk(folder, drop_found, &search) : -ENOMEM;
	return r < 0 ? r : state_dir_write(folder, note->disk, text, strlen(text), 0600);
}

int copies_forget(int state_fd, const uint8_t token[MARK_TOKEN_BYTES])
{
	_cleanup_(fd_closep) int folder = -1;
	struct search search = { .token = token };
	int r = state_dir_folder(state_fd, FOLDER, &folder);

	if (r < 0)
		return r;
	search.folder = folder;
	r = walk(folder, drop_found, &search);
	if (r == 0 && fsync(folder) < 0)
		r = -errno;
	return r;
}

static int same_found(void *ctx, const struct copy_note *note, const struct disk_id *id)
{
	struct search *search = ctx;

	if (!same(&search->id, id))
		return 0;
	search->note = *note;
	return 1;
}

int copies_incomplete(int state_fd, struct marks *marks, const struct stat *st,
		      struct copy_note *ret_note)
{
	_cleanup_(fd_closep) int folder = -1;
	struct search search = { .id = id_of(st) };
	enum mark_result result;
	int r = state_dir_folder(state_fd, FOLDER, &folder);

	if (r == 0)
		r = walk(folder, same_found, &search);
	if (r <= 0)
		return r;
	if (ret_note)
		*ret_note = search.note;
	/* A token without a mark, or with one that cannot be read, never ran as far as this host can tell. */
	return marks_read_taken(marks, search.note.token, false, &result) == 0 && result == MARK_RAN
		       ? 0
		       : 1;
}

static int check_disk(int state_fd, struct marks *marks, const char *path, struct error *err)
{
	struct copy_note note;
	struct stat st;
	int r = stat(path, &st) < 0 ? 0 : copies_incomplete(state_fd, marks, &st, &note);

	if (r < 0)
		return error_set(err, r, EXIT_STATUS_HOST,
				 "disk %s: this host's notes of copies cannot be read: %s; see the "
				 "folder " FOLDER " of its state directory",
				 path, strerror(-r));
	return r == 0 ? 0
		      : error_set(
				err, -EBUSY, EXIT_STATUS_RESOURCE,
				"disk %s: holds part of a copy of %s's disk from %s, which did not "
				"come to its end; move the VM again, or, if you have put "
				"something else there, remove " FOLDER
				"/%s of this host's state directory",
				path, note.vm, note.source, note.disk);
}

int copies_check_start(const struct vm_config *config, struct error *err)
{
	_cleanup_(fd_closep) int state_fd = -1;
	struct marks *marks = NULL;
	int r;

	if (!config->n_disks || !state_dir_is_there())
		return 0;
	r = state_dir_open(&state_fd, err);
	if (r == 0)
		r = marks_open(&marks, err);
	for (uint32_t i = 0; r == 0 && i < config->n_disks; i++)
		r = check_disk(state_fd, marks, config->disks[i].path, err);
	marks_close(marks);
	return r;
}
