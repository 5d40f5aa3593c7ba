/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * A running VM into a file (move/saved/saved.h), and back out of it: the mover's work with the roles MOVE_SAVE and MOVE_RESTORE.
 *
 *   save:     begin, stop, state, pages, everything durable -> the VM writes the file's first mark ("given") -> it ends
 *   restore:  arrive, state rehearsed, pages, state loaded -> the file is marked used -> the VM runs
 *
 * The mark that the VM's own process writes is the commit of a save: whoever dies before it, the VM runs on; after it, only the file
 * is left. A restore that fails before its VM runs takes its own mark back.
 */

#include "move/mover/mover.h"

/* The job's file_fd is the new file, open for reading and writing; its mark_fd another opening of it, for the VM. Ends: RAN (the VM
 * is in the file), CANCELLED and FAILED (it runs on), IN_DOUBT (the file's mark says which). */
enum move_end move_save(const struct mover_settings *settings, struct move_numbers *ret_numbers,
			struct error *err);

/* The job's file_fd is the saved VM; with `clone` it is not marked, the VM gets a new generation ID, and the file may be open for
 * reading only. Otherwise it is marked as used by the job's `peer`. Ends: RAN, CANCELLED and FAILED (no VM runs), IN_DOUBT (its
 * process did not say whether it runs; the mark stays). */
enum move_end move_restore(const struct mover_settings *settings, struct move_numbers *ret_numbers,
			   struct error *err);
