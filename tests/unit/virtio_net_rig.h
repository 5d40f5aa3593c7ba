/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The network device with both its sides in a test's hands: a driver in guest memory, and the other end of
 * a cable. */

#include "net_probe.h"

#include <errno.h>
#include <unistd.h>

#include "net/pair.h"
#include "virtio/net_internal.h"
#include "virtio_driver.h"

#define RAM MIB(16)
#define WAIT_MS 5000
#define OFFLOADS (NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN)
#define ALL_FEATURES (~(NET_F_GUEST_UFO | NET_F_HOST_UFO))
#define NO_MERGE (ALL_FEATURES & ~NET_F_MRG_RXBUF)

enum { RX0, TX0, CONTROL1 = 2, RX1 = 2, TX1 = 3, CONTROL2 = 4 };

struct fixture {
	struct vmachine *machine;
	struct device *device;
	struct net *peer;
	struct probe wire[2]; /* the peer's queues */
	unsigned int pairs;
	struct vdriver driver;
	struct vqueue queues[5];
};

static const uint8_t mac[6] = { 0x52, 0x54, 0, 1, 2, 3 };

/* `clock` NULL: the host's. */
static inline struct fixture *plug_with_clock(unsigned int pairs, uint32_t offloads,
					      const struct clock *clock)
{
	struct net_pair_params cable = { .queue_pairs = pairs, .offloads = offloads, .mtu = 1500 };
	struct virtio_net_params params = { .vhost_fd = -1, .tap_fd = -1 };
	struct fixture *f = calloc(1, sizeof(*f));

	f->machine = vmachine_new(RAM, clock);
	assert_non_null(f->machine);
	assert_int_equal(net_pair_new(&cable, &params.net, &f->peer), 0);
	memcpy(params.mac, mac, 6);
	assert_int_equal(virtio_net_new(&f->machine->host, &params, &f->device, NULL), 0);
	assert_int_equal(vdevice_start(f->device), 0);
	f->pairs = pairs;
	for (unsigned int i = 0; i < pairs; i++)
		probe_open(&f->wire[i], f->peer, i, &clock_host);
	return f;
}

static inline struct fixture *plug(unsigned int pairs, uint32_t offloads)
{
	return plug_with_clock(pairs, offloads, NULL);
}

static inline void drive(struct fixture *f, uint64_t features)
{
	assert_int_equal(vdriver_setup(f->machine, VIRTIO_ID_NET, features, &f->driver, f->queues,
				       2 * f->pairs + 1),
			 0);
}

static inline void unplug_peer(struct fixture *f)
{
	for (unsigned int i = 0; f->peer && i < f->pairs; i++)
		probe_close(&f->wire[i]);
	net_free(f->peer);
	f->peer = NULL;
}

static inline void unplug(struct fixture *f)
{
	vdevice_destroy(f->device);
	unplug_peer(f);
	vmachine_free(f->machine);
	free(f);
}

static inline struct virtio_net *vn_of(struct fixture *f)
{
	return virtio_net_of(container_of(f->device, struct virtio_device, device));
}

/* ---- the driver's side ---- */

/* Makes a receive buffer of `len` bytes available: its guest address. */
static inline uint64_t post(struct fixture *f, unsigned int queue, uint32_t len)
{
	struct vbuffer buffer = { vmachine_alloc(f->machine, len, 16), len, true };

	memset(vmachine_at(f->machine, buffer.address, len), 0xee, len);
	assert_true(vqueue_add(&f->queues[queue], &buffer, 1) >= 0);
	return buffer.address;
}

static inline void send_with(struct fixture *f, unsigned int queue, const struct net_header *header,
			     uint8_t fill, uint32_t len)
{
	uint64_t at = vmachine_alloc(f->machine, sizeof(*header) + len, 16);
	struct vbuffer buffers[2] = { { at, sizeof(*header), false },
				      { at + sizeof(*header), len, false } };
	uint8_t *bytes = vmachine_at(f->machine, at, sizeof(*header) + len);

	memcpy(bytes, header, sizeof(*header));
	memset(bytes + sizeof(*header), fill, len);
	assert_true(vqueue_add(&f->queues[queue], buffers, 2) >= 0);
	vqueue_kick(&f->queues[queue]);
}

static inline void send_plain(struct fixture *f, unsigned int queue, uint8_t fill, uint32_t len)
{
	struct net_header header = { 0 };

	send_with(f, queue, &header, fill, len);
}

static inline uint32_t take(struct fixture *f, unsigned int queue)
{
	uint32_t len = 0;

	assert_int_equal(vqueue_wait(&f->queues[queue], WAIT_MS, NULL, &len), 1);
	return len;
}

static inline struct net_header header_at(struct fixture *f, uint64_t address)
{
	struct net_header header;

	memcpy(&header, vmachine_at(f->machine, address, sizeof(header)), sizeof(header));
	return header;
}

static inline uint8_t byte_at(struct fixture *f, uint64_t address)
{
	return *(uint8_t *)vmachine_at(f->machine, address, 1);
}

/* The acknowledgement of a command; 0xff: none came. */
static inline uint8_t command(struct fixture *f, unsigned int queue, const void *bytes,
			      uint32_t len)
{
	uint64_t at = vmachine_alloc(f->machine, len + 1, 16);
	struct vbuffer buffers[2] = { { at, len, false }, { at + len, 1, true } };

	memcpy(vmachine_at(f->machine, at, len), bytes, len);
	*(uint8_t *)vmachine_at(f->machine, at + len, 1) = 0xff;
	assert_true(vqueue_add(&f->queues[queue], buffers, 2) >= 0);
	vqueue_kick(&f->queues[queue]);
	if (!vqueue_wait(&f->queues[queue], 1000, NULL, NULL))
		return 0xff;
	return byte_at(f, at + len);
}

static inline bool wait_status(struct fixture *f, uint8_t bit)
{
	for (int i = 0; i < WAIT_MS; i++) {
		if (vdriver_status(&f->driver) & bit)
			return true;
		usleep(1000);
	}
	return false;
}

static inline uint16_t link_status(struct fixture *f)
{
	return (uint16_t)vdriver_read(&f->driver, VREGION_DEVICE, 6, 2);
}

/* ---- the wire's side ---- */

static inline ssize_t wire_wait(struct fixture *f, unsigned int queue, uint8_t *ret_fill)
{
	for (int i = 0; i < WAIT_MS; i++) {
		ssize_t n = probe_receive(&f->wire[queue], ret_fill);

		if (n)
			return n;
		usleep(1000);
	}
	return 0;
}
