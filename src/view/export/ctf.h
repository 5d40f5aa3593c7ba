/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What the bytes of ctf.c and their description in ctf_metadata.c agree on. */

#include "view/export/stream.h"
#include "view/view.h"

#define CTF_MAGIC 0xc1fc1fc1
#define CTF_UUID 16
#define CTF_PACKET_HEADER (4 + CTF_UUID + 4 + 5 * 8 + 4) /* bytes, with its context */

/* The description in TSDL of what ctf.c writes. */
_must_check_ int ctf_write_metadata(struct export_stream *file, const struct view_context *view,
				    const uint8_t uuid[CTF_UUID]);
