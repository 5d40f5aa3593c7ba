/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/generations.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/uuid.h"
#include "host/state_dir.h"

#define FOLDER "generations"
#define TEXT_MAX 32 /* a number and a newline */

static void format(uint64_t generation, char ret_text[TEXT_MAX])
{
	snprintf(ret_text, TEXT_MAX, "%" PRIu64 "\n", generation);
}

static int read_in(int folder, const char *uuid, uint64_t *ret_generation)
{
	_cleanup_(freep) char *text = NULL;
	char again[TEXT_MAX];
	uint64_t generation;
	size_t len;
	int r = state_dir_read(folder, uuid, TEXT_MAX - 1, &text, &len);

	if (r < 0 && r != -ENOENT)
		return r;
	generation = r == 0 ? strtoull(text, NULL, 10) : 0;
	format(generation, again);
	/* What is not in the only spelling that there is is damaged. */
	if (r == 0 && strcmp(text, again) != 0)
		return -EBADMSG;
	*ret_generation = generation;
	return 0;
}

int generations_read(int state_fd, const char *uuid, uint64_t *ret_generation)
{
	_cleanup_(fd_closep) int folder = -1;
	int r = uuid_valid(uuid) ? state_dir_folder(state_fd, FOLDER, &folder) : -EINVAL;

	return r < 0 ? r : read_in(folder, uuid, ret_generation);
}

int generations_raise(int state_fd, const char *uuid, uint64_t generation)
{
	_cleanup_(fd_closep) int folder = -1;
	char text[TEXT_MAX];
	uint64_t known;
	int r = uuid_valid(uuid) ? state_dir_folder(state_fd, FOLDER, &folder) : -EINVAL;

	if (r == 0)
		r = read_in(folder, uuid, &known);
	if (r < 0 || known >= generation)
		return r;
	format(generation, text);
	return state_dir_write(folder, uuid, text, strlen(text), 0600);
}
