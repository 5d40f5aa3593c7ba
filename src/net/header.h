/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* What stands before each frame, and which of it may reach the host's kernel: of a guest that sends it, and of a peer whose guest did. */

#include <stdbool.h>

#include "base/endian.h"
#include "net/net.h"

#define NET_ETHERNET_HEADER 14 /* bytes that every frame has behind the header */

/* struct virtio_net_hdr (virtio 1.2, 5.1.6). */
struct net_header {
	uint8_t flags;
	uint8_t gso_type;
	le16_t hdr_len;
	le16_t gso_size;
	le16_t csum_start;
	le16_t csum_offset;
	le16_t num_buffers;
};
_Static_assert(sizeof(struct net_header) == NET_HEADER_SIZE, "virtio 1.2, 5.1.6");
#define HEADER_NEEDS_CSUM 1
#define GSO_NONE 0
#define GSO_TCPV4 1
#define GSO_UDP 3
#define GSO_TCPV6 4
#define GSO_ECN 0x80

/* Whether a frame of `len` bytes behind the header may be sent with it, by a guest that uses every offload (virtio 1.2, 5.1.6.2). */
static inline bool net_header_is_right(const struct net_header *header, size_t len)
{
	uint32_t start = le16_get(header->csum_start), offset = le16_get(header->csum_offset);
	uint8_t type = header->gso_type & (uint8_t)~GSO_ECN;

	/* Segments need checksums of their own (5.1.6.2.1). */
	if (!(header->flags & HEADER_NEEDS_CSUM))
		return header->gso_type == GSO_NONE;
	if (start < NET_ETHERNET_HEADER || start + offset + sizeof(uint16_t) > len)
		return false;
	if (header->gso_type == GSO_NONE)
		return true;
	return le16_get(header->gso_size) &&
	       (type == GSO_TCPV4 || type == GSO_TCPV6 || type == GSO_UDP);
}
