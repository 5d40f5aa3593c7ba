/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "move/saved/saved.h"

/* The frame at `at`, which ends at `end` or before. `payload` is read with its CRC behind it. Any thread. */
_must_check_ int saved_read_frame(int fd, uint64_t at, uint64_t end, uint64_t serial,
				  struct buffer *payload, struct frame *ret_frame,
				  struct error *err);
uint64_t saved_frame_bytes(uint64_t len); /* with its payload of `len` */
int saved_damaged(struct error *err, uint64_t at, const char *what);
