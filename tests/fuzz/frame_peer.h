/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A peer that says what a fuzz target has it say: the bytes of one stream, of frames that are whole, or not. */

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/endian.h"
#include "wire/frame.h"

struct frame_peer {
	uint8_t *bytes;
	size_t len, size;
	uint64_t serial;
};

static inline void frame_peer_init(struct frame_peer *peer, size_t size)
{
	*peer = (struct frame_peer){ .bytes = malloc(size), .size = size };
	if (!peer->bytes)
		abort();
}

static inline void frame_peer_clear(struct frame_peer *peer)
{
	peer->len = 0;
	peer->serial = 0;
}

/* What does not fit any more is not said. */
static inline void put(struct frame_peer *peer, const void *bytes, size_t len)
{
	len = MIN(len, peer->size - peer->len);
	memcpy(peer->bytes + peer->len, bytes, len);
	peer->len += len;
}

/* A frame with a right header, and where flags say so a right CRC. `lie`: added to its length. */
static inline void put_lying_frame(struct frame_peer *peer, uint16_t kind, uint16_t flags,
				   const void *payload, size_t len, int lie)
{
	const struct frame frame = { kind, flags, (uint32_t)((int64_t)len + lie) };
	uint8_t header[FRAME_HEADER_BYTES], crc[4];

	frame_header(&frame, peer->serial++, header);
	put(peer, header, sizeof(header));
	put(peer, payload, len);
	le_store(crc, 4, crc32_z(0, payload, len));
	if (flags & FRAME_CHECKED)
		put(peer, crc, sizeof(crc));
}

static inline void put_frame(struct frame_peer *peer, uint16_t kind, uint16_t flags,
			     const void *payload, size_t len)
{
	put_lying_frame(peer, kind, flags, payload, len, 0);
}
