/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Raw files and block devices through io_uring with O_DIRECT where the file system allows it. A raw disk
 * is raw: no format is ever guessed. Each queue has its own ring, restricted to the operations used here
 * and to this one descriptor before it is enabled (io_uring bypasses seccomp).
 */

#include "block/block.h"

struct raw_options {
	const char *path; /* for messages and opening */
	int fd;		  /* already open (ownership passes on success), or -1: open `path` */
	bool readonly;
	bool elsewhere; /* another host's VM has it now: block_own takes its lock when it comes here */
	bool direct; /* try O_DIRECT; tmpfs refuses it and gets buffered I/O, which raw_is_direct tells */
};

/*
 * Opens and locks (but `elsewhere`). A writable disk takes an exclusive OFD lock (files) or O_EXCL (block devices), a
 * read-only one a shared lock: a second VM on the same writable disk is -EBUSY, and `err` names the disk
 * and, where the kernel tells, the holder's PID. Anything but a regular file or block device is refused.
 */
_must_check_ int raw_open(const struct raw_options *options, struct block **ret_block,
			  struct error *err);
bool raw_is_direct(const struct block *block);
/* Its descriptor, borrowed; `block` must be one of raw_open. */
int raw_fd(const struct block *block);
