/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * SHA-256 of files that were hashed before: STATE/hashes. A move would hash the VM's kernel again, some ten megabytes, and nothing
 * else of a move that is about to begin takes as long. A file is known by device, inode, size and the time of its last change
 * of any kind (ctime), which only the kernel sets. Any thread; two that write at once keep the one's or the other's.
 */

#include <stdbool.h>
#include <sys/stat.h>

#include "peer/request.h"

/* True when this very file was hashed before. */
bool hashes_find(int state_fd, const struct stat *file, char ret_text[PEER_HASH_TEXT]);
/* Remembers it, unless the file changed so short a time ago that another change could have the same ctime. `file`: from before the
 * hashing, and what it is now. */
void hashes_keep(int state_fd, const struct stat *file, const char text[PEER_HASH_TEXT]);
