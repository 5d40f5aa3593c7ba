/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* A frame that tells switches where a MAC address is now, and asks nobody for anything: a reverse ARP request (RFC 903) from
 * that address to all. It names no IP address, so who sends it need not know the guest's. */

#include "net/net.h"

#define RARP_FRAME_SIZE                                                                            \
	(NET_HEADER_SIZE + 60) /* the least that Ethernet carries, behind a zeroed header */

void rarp_make(const uint8_t mac[6], uint8_t ret_frame[RARP_FRAME_SIZE]);
