/* SPDX-License-Identifier: Apache-2.0 */
#include "net/rarp.h"

#include <arpa/inet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <string.h>

/* RFC 826 and 903, for Ethernet and IPv4. */
struct rarp_frame {
	struct ether_header ethernet;
	struct arphdr head;
	uint8_t sender_mac[6], sender_ip[4];
	uint8_t target_mac[6], target_ip[4];
} __attribute__((packed));

_Static_assert(sizeof(struct rarp_frame) == 42, "RFC 826: 14 bytes of Ethernet, 28 of packet");
_Static_assert(RARP_FRAME_SIZE >= NET_HEADER_SIZE + sizeof(struct rarp_frame), "it fits");

void rarp_make(const uint8_t mac[6], uint8_t ret_frame[RARP_FRAME_SIZE])
{
	struct rarp_frame frame = {
		.ethernet.ether_type = htons(ETHERTYPE_REVARP),
		.head = {
			.ar_hrd = htons(ARPHRD_ETHER),
			.ar_pro = htons(ETHERTYPE_IP),
			.ar_hln = 6,
			.ar_pln = 4,
			.ar_op = htons(ARPOP_RREQUEST),
		},
	};

	memset(frame.ethernet.ether_dhost, 0xff, 6);
	memcpy(frame.ethernet.ether_shost, mac, 6);
	memcpy(frame.sender_mac, mac, 6);
	memcpy(frame.target_mac, mac, 6);
	memset(ret_frame, 0, RARP_FRAME_SIZE);
	memcpy(ret_frame + NET_HEADER_SIZE, &frame, sizeof(frame));
}
