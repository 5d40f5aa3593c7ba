/* SPDX-License-Identifier: Apache-2.0 */
#include "peer/hashes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/hex.h"
#include "host/state_dir.h"

#define FILE_NAME "hashes"
#define LINES_MAX 16
/* Five numbers of 16 digits, the hash, and what stands between. */
#define LINE_BYTES (5 * 17 + PEER_HASH_TEXT)
#define FILE_MAX (LINES_MAX * LINE_BYTES)
#define SETTLED_SECONDS 3 /* the coarsest file system has two */

/* What a line begins with. */
static void key_of(const struct stat *file, char ret_key[LINE_BYTES])
{
	snprintf(ret_key, LINE_BYTES,
		 "%016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64 " ",
		 (uint64_t)file->st_dev, (uint64_t)file->st_ino, (uint64_t)file->st_size,
		 (uint64_t)file->st_ctim.tv_sec, (uint64_t)file->st_ctim.tv_nsec);
}

static char *read_lines(int state_fd)
{
	char *text;
	size_t len;

	return state_dir_read(state_fd, FILE_NAME, FILE_MAX, &text, &len) < 0 ? NULL : text;
}

bool hashes_find(int state_fd, const struct stat *file, char ret_text[PEER_HASH_TEXT])
{
	_cleanup_(freep) char *lines = read_lines(state_fd);
	char key[LINE_BYTES], text[PEER_HASH_TEXT];
	uint8_t unused[(PEER_HASH_TEXT - 1) / 2];
	const char *line;

	key_of(file, key);
	line = lines ? strstr(lines, key) : NULL;
	if (!line)
		return false;
	snprintf(text, sizeof(text), "%s", line + strlen(key));
	if (!hex_decode(text, unused, sizeof(unused)))
		return false;
	memcpy(ret_text, text, PEER_HASH_TEXT);
	return true;
}

/* Newest first; what falls out is hashed again one day. */
void hashes_keep(int state_fd, const struct stat *file, const char text[PEER_HASH_TEXT])
{
	_cleanup_(freep) char *lines = read_lines(state_fd);
	char key[LINE_BYTES], all[FILE_MAX + 1];
	int len;

	if ((uint64_t)file->st_ctim.tv_sec + SETTLED_SECONDS >
	    clock_wall(&clock_host) / NSEC_PER_SEC)
		return;
	key_of(file, key);
	len = snprintf(all, sizeof(all), "%s%s\n%.*s", key, text, (LINES_MAX - 1) * LINE_BYTES,
		       lines ? lines : "");
	/* Without it the next move takes a little longer. */
	(void)!state_dir_write(state_fd, FILE_NAME, all, (size_t)MIN(len, FILE_MAX), 0600);
}
