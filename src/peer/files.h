/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Kernels and initial RAM disks of VMs that came from elsewhere: STATE/files/SHA256. A VM needs them when its guest resets, so they
 * travel once, are known by their content, and a VM that moves on finds them again. Any thread.
 */

#include "base/error.h"
#include "peer/request.h"
#include "peer/talk.h"

/* Hashes a file of at most `limit` bytes, unless that was done before and it has not changed. */
_must_check_ int files_describe(int state_fd, const char *path, uint64_t limit,
				struct peer_file *ret_file);

/* True when this host has it; `ret_path` is where. */
bool files_have(int state_fd, const struct peer_file *file, char *ret_path, size_t size);

/* Sends the file at `path`, which must still be what was described. */
_must_check_ int files_send(struct talk *talk, const char *path, const struct peer_file *file,
			    struct error *err);
/* Receives it, believes its content only. */
_must_check_ int files_receive(struct talk *talk, int state_fd, const struct peer_file *file,
			       struct error *err);
/* Of files that no running VM was made of, keeps those that were asked for last, `keep` bytes of them with what VMs use. Whatever was asked
 * for within some minutes stays: a move that is at work may need it. */
void files_forget(int state_fd, uint64_t keep);
