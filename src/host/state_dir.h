/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * The state directory: what this host must not forget over a restart.
 *
 *   $UTSUSU_STATE_DIR, else /var/lib/utsusu for root, else $XDG_STATE_HOME/utsusu, else $HOME/.local/state/utsusu    mode 0700
 *
 * Nobody else may write there. Any thread.
 */

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

/* Whether there is one; makes nothing. */
bool state_dir_is_there(void);
/* Opens it, made if need be, close-on-exec. -EPERM when others can write there. */
_must_check_ int state_dir_open(int *ret_fd, struct error *err);
/* The same for a folder in it. */
_must_check_ int state_dir_folder(int state_fd, const char *name, int *ret_fd);

/* Puts `len` bytes in place of the file `name` of the folder `dir_fd`: at once and durably, whole or not at all. */
_must_check_ int state_dir_write(int dir_fd, const char *name, const void *data, size_t len,
				 mode_t mode);
/* Reads a file of at most `limit` bytes, a NUL put behind it; free() it. -ENOENT, -EFBIG. */
_must_check_ int state_dir_read(int dir_fd, const char *name, size_t limit, char **ret_text,
				size_t *ret_len);
