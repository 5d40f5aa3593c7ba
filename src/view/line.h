/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "view/view.h"

/* A record as one line in columns, without its end: time, who, device, operation, address, data, latency, then the instruction
 * or the status. Its length; 512 bytes are enough but for long symbols, which are cut. */
size_t view_line(const struct view_context *view, const struct watch_record *record, uint32_t ring,
		 char *ret_text, size_t size);
