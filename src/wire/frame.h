/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/*
 * Frames: what goes over a stream or into a file. One header, little-endian, 24 bytes, guarded by its own CRC; a payload
 * whose length is judged before anything is allocated.
 *
 *    0       4        6      8          16        20          24
 *   +-------+--------+------+----------+---------+-----------+---------------------+
 *   | magic | kind   | flags| serial   | length  | header CRC| payload             |
 *   +-------+--------+------+----------+---------+-----------+---------------------+
 *     "UFRM"  u16      u16    u64        u32       u32
 *
 * `serial` counts the frames of one stream and direction from 0: a frame that is lost, doubled or out of order is damage.
 * With FRAME_CHECKED the payload ends with 4 bytes of CRC of what stands before (they count in `length`). Pages that the guest
 * may change while they are sent carry none: their integrity is TLS's business; a file's always do.
 * CRC: CRC-32 (zlib's crc32).
 *
 * Version rule: kinds are never given a new meaning. A receiver refuses kinds that it does not know, unless FRAME_OPTIONAL is
 * set. What both sides speak is agreed on in the HELLO (wire/hello.h).
 */

#include "base/buffer.h"
#include "wire/stream.h"

#define FRAME_HEADER_BYTES 24
#define FRAME_MAX (1U << 21) /* bytes of one payload: 512 pages and what describes them fit */

enum frame_flag { FRAME_CHECKED = 1, FRAME_OPTIONAL = 2, FRAME_KNOWN_FLAGS = 3 };

struct frame {
	uint16_t kind;
	uint16_t flags;
	uint32_t len; /* of the payload without its CRC */
};

/* One direction of a stream. */
struct frame_writer {
	struct stream *stream; /* borrowed */
	uint64_t serial;
};

struct frame_reader {
	struct stream *stream; /* borrowed */
	uint64_t serial;
	struct buffer
		payload; /* of checked frames, and of what frame_receive was asked for whole */
};

/* Header, encoded. For those who send the payload themselves (stream_send_pages) and for files. */
void frame_header(const struct frame *frame, uint64_t serial,
		  uint8_t ret_bytes[FRAME_HEADER_BYTES]);
/* Decodes and judges: -EBADMSG (magic, CRC, serial, flags), -EMSGSIZE (length). */
_must_check_ int frame_parse(const uint8_t bytes[FRAME_HEADER_BYTES], uint64_t serial,
			     struct frame *ret_frame, struct error *err);

/* A whole frame, its payload checked. */
_must_check_ int frame_send(struct frame_writer *writer, uint16_t kind, const void *payload,
			    size_t len);
/* The header only; the caller sends frame->len bytes (unchecked frames), as part of one flow. */
_must_check_ int frame_send_header(struct frame_writer *writer, const struct frame *frame);

/* The next header. For a checked frame the whole payload is in reader->payload when this returns, judged; for another the
 * caller receives frame->len bytes from the stream itself, or calls frame_receive_rest. -EBADMSG: damage, told in `err`. */
_must_check_ int frame_receive(struct frame_reader *reader, struct frame *ret_frame,
			       struct error *err);
_must_check_ int frame_receive_rest(struct frame_reader *reader, const struct frame *frame);
void frame_reader_init(struct frame_reader *reader, struct stream *stream);
void frame_reader_release(struct frame_reader *reader);
