/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/instances.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/hex.h"
#include "host/state_dir.h"
#include "peer/process.h"

#define FOLDER "arbiter"
#define FILE_MAX KIB(4)
#define KEPT 8
#define ID_TEXT (2 * OWNERSHIP_ID_BYTES + 1)

/* Of the kernel that runs: no process of another one is left. */
static void read_boot(char ret_boot[UUID_TEXT])
{
	_cleanup_(fd_closep) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	size_t len = 0;

	if (fd < 0 || fd_read_all(fd, ret_boot, UUID_TEXT - 1, &len) < 0)
		len = 0;
	ret_boot[len] = '\0';
}

static int open_file(int state_fd, const char *uuid, int *ret_folder, char *ret_file, size_t size)
{
	if (!uuid_valid(uuid))
		return -EINVAL;
	snprintf(ret_file, size, "%s.instances", uuid);
	return state_dir_folder(state_fd, FOLDER, ret_folder);
}

/* A new array; an empty one when there is no file. */
static int read_list(int folder, const char *file, json_t **ret_list)
{
	_cleanup_(freep) char *text = NULL;
	size_t len;
	int r = state_dir_read(folder, file, FILE_MAX, &text, &len);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret_list = r < 0 ? json_array() : json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_array(*ret_list))
		return 0;
	json_decref(*ret_list);
	return r < 0 ? -ENOMEM : -EBADMSG;
}

static const json_t *find(const json_t *list, const struct ownership_id *id)
{
	char text[ID_TEXT];
	const json_t *entry;
	size_t i;

	hex_encode(id->bytes, OWNERSHIP_ID_BYTES, text);
	json_array_foreach((json_t *)list, i, entry)
	{
		const char *known = json_string_value(json_object_get(entry, "id"));

		if (known && strcmp(known, text) == 0)
			return entry;
	}
	return NULL;
}

/* In place of what was noted of this one. */
static int put(int folder, const char *file, json_t *list, const struct ownership_id *id,
	       json_t *entry)
{
	_cleanup_(freep) char *text = NULL;
	char id_text[ID_TEXT];
	const json_t *before = find(list, id);

	for (size_t i = json_array_size(list); i-- > 0;)
		if (json_array_get(list, i) == before)
			json_array_remove(list, i);
	hex_encode(id->bytes, OWNERSHIP_ID_BYTES, id_text);
	json_object_set_new(entry, "id", json_string(id_text));
	if (json_array_append_new(list, entry) < 0)
		return -ENOMEM;
	while (json_array_size(list) > KEPT)
		json_array_remove(list, 0);
	text = json_dumps(list, JSON_COMPACT);
	return text ? state_dir_write(folder, file, text, strlen(text), 0600) : -ENOMEM;
}

int instances_note(int state_fd, const char uuid[UUID_TEXT], const struct ownership_id *id,
		   pid_t pid, uint64_t start)
{
	_cleanup_(fd_closep) int folder = -1;
	char file[UUID_TEXT + 16], boot[UUID_TEXT];
	json_auto_t *list = NULL;
	int r = open_file(state_fd, uuid, &folder, file, sizeof(file));

	if (r == 0)
		r = read_list(folder, file, &list);
	if (r < 0 || find(list, id))
		return r;
	read_boot(boot);
	return put(folder, file, list, id,
		   json_pack("{s:i, s:I, s:s}", "pid", (int)pid, "start", (json_int_t)start, "boot",
			     boot));
}

int instances_bury(int state_fd, const char uuid[UUID_TEXT], const struct ownership_id *id)
{
	_cleanup_(fd_closep) int folder = -1;
	char file[UUID_TEXT + 16];
	json_auto_t *list = NULL;
	int r = open_file(state_fd, uuid, &folder, file, sizeof(file));

	if (r == 0)
		r = read_list(folder, file, &list);
	return r < 0 ? r : put(folder, file, list, id, json_pack("{s:b}", "declared_dead", 1));
}

static enum instance_state judge(const json_t *entry)
{
	const char *boot = json_string_value(json_object_get(entry, "boot"));
	const json_int_t pid = json_integer_value(json_object_get(entry, "pid"));
	const json_int_t noted = json_integer_value(json_object_get(entry, "start"));
	char now[UUID_TEXT];
	uint64_t start;
	int r;

	if (json_is_true(json_object_get(entry, "declared_dead")))
		return INSTANCE_DEAD;
	read_boot(now);
	if (!boot || !boot[0] || !now[0] || pid <= 1)
		return INSTANCE_UNKNOWN;
	if (strcmp(boot, now) != 0)
		return INSTANCE_DEAD;
	r = process_start((pid_t)pid, &start);
	if (r < 0 && r != -ESRCH)
		return INSTANCE_UNKNOWN;
	return r == 0 && start == (uint64_t)noted ? INSTANCE_LIVES : INSTANCE_DEAD;
}

int instances_look(int state_fd, const char uuid[UUID_TEXT], const struct ownership_id *id,
		   enum instance_state *ret_state)
{
	_cleanup_(fd_closep) int folder = -1;
	char file[UUID_TEXT + 16];
	json_auto_t *list = NULL;
	const json_t *entry;
	int r = open_file(state_fd, uuid, &folder, file, sizeof(file));

	if (r == 0)
		r = read_list(folder, file, &list);
	if (r < 0)
		return r;
	entry = find(list, id);
	*ret_state = entry ? judge(entry) : INSTANCE_UNKNOWN;
	return 0;
}
