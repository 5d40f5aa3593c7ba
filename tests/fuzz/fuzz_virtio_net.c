/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: virtio/net.c virtio/net_control.c virtio/net_rx.c virtio/net_tx.c virtio/net_vhost.c
 *
 * A hostile driver and a hostile wire: an input is a list of actions, each a byte and its arguments. The
 * workers' loops are turned here, so that an input does the same in every run.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/vhost_fake.h"
#include "../unit/virtio_driver.h"
#include "base/cleanup.h"
#include "bus/request.h"
#include "net/iov.h"
#include "net/pair.h"
#include "virtio/net_internal.h"
#include "worker_inline.h"

#define RAM MIB(4)
#define QUEUES_MAX 5
#define WATCH 0xf8 /* actions from here on */
#define ACTIONS_MAX 400
#define ARENA KIB(512) /* buffers lie from here on; rings below */
#define ARENA_LEN KIB(512)
#define OFFLOADS (NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN)

struct machine {
	struct vmachine *vm;
	struct device *device;
	struct net *peer;
	struct loop *wire_loop;
	struct net_queue *wire[2];
	unsigned int pairs, n_queues;
	struct vdriver driver;
	struct vqueue queues[QUEUES_MAX];
	bool driven;
	struct request_tap tap; /* who watches */
	bool drops;		/* what it sees */
	unsigned int seen;
};

struct input {
	struct cursor bytes;
};

static uint32_t take(struct input *in, size_t size)
{
	return (uint32_t)cursor_take_le(&in->bytes, size);
}

static void nothing(void *ctx _unused_)
{
}

static void nothing_gone(void *ctx _unused_, int error _unused_)
{
}

static struct virtio_net *vn_of(struct machine *m)
{
	return virtio_net_of(container_of(m->device, struct virtio_device, device));
}

static void turn(struct machine *m)
{
	struct virtio_device *vdev = &vn_of(m)->vdev;

	for (unsigned int i = 0; i < vdev->n_workers; i++)
		worker_turn(vdev->workers[i]);
	if (loop_turn(m->wire_loop, 0) < 0)
		abort();
}

static void settle(struct machine *m)
{
	for (int i = 0; i < 8; i++)
		turn(m);
}

/* ---- the driver ---- */

static void reset(struct machine *m)
{
	vdriver_write(&m->driver, VREGION_COMMON, VCOMMON_STATUS, 1, 0);
	settle(m);
	if (vdriver_status(&m->driver) != 0)
		abort(); /* with nothing in flight a reset ends */
	m->driven = false;
	m->vm->heap = KIB(64);
}

static void drive(struct machine *m, struct input *in)
{
	uint64_t features = take(in, 4) | VIRTIO_F_VERSION_1;
	uint16_t size = (uint16_t)(1u << (take(in, 1) % 8));

	reset(m);
	if (vdriver_negotiate(&m->driver, features) < 0)
		return;
	vdriver_enable_msix(&m->driver);
	for (unsigned int i = 0; i < m->n_queues; i++)
		if (vqueue_setup(&m->driver, i, size, &m->queues[i]) < 0)
			abort();
	vdriver_go(&m->driver);
	m->driven = true;
}

static struct vqueue *queue_of(struct machine *m, struct input *in)
{
	return &m->queues[take(in, 1) % m->n_queues];
}

static void chain(struct machine *m, struct input *in)
{
	struct vqueue *q = queue_of(m, in);
	unsigned int n = take(in, 1) % 4 + 1;
	unsigned int shape = take(in, 1);
	struct vbuffer buffers[4];

	for (unsigned int i = 0; i < n; i++)
		buffers[i] = (struct vbuffer){ ARENA + take(in, 2) * 4, take(in, 2),
					       shape >> i & 1 };
	if (m->driven)
		vqueue_add(q, buffers, n);
}

/* `count` equal receive buffers or frames to send, as an ordinary driver makes them. */
static void many(struct machine *m, struct input *in)
{
	struct vqueue *q = queue_of(m, in);
	unsigned int count = take(in, 1);
	uint32_t len = take(in, 2);

	for (unsigned int i = 0; m->driven && i < count; i++) {
		struct vbuffer buffer = { ARENA + KIB(1) * (i % 256), len, q->index % 2 == 0 };

		vqueue_add(q, &buffer, 1);
	}
	if (m->driven)
		vqueue_kick(q);
}

static void descriptor(struct machine *m, struct input *in)
{
	struct vqueue *q = queue_of(m, in);
	uint16_t index = (uint16_t)take(in, 1);
	uint64_t address = (uint64_t)take(in, 4) << (take(in, 1) % 32);
	uint32_t len = take(in, 4);
	uint16_t flags = (uint16_t)take(in, 1), next = (uint16_t)take(in, 1);

	if (m->driven)
		vqueue_write_desc(q, index % q->size, address, len, flags, next);
}

static void publish(struct machine *m, struct input *in)
{
	struct vqueue *q = queue_of(m, in);
	uint16_t head = (uint16_t)take(in, 2);

	if (m->driven)
		vqueue_publish(q, head);
}

static void kick(struct machine *m, struct input *in)
{
	struct vqueue *q = queue_of(m, in);

	if (m->driven)
		vqueue_kick_anyway(q);
}

static void collect(struct machine *m, struct input *in)
{
	struct vqueue *q = queue_of(m, in);

	/* What the device claims to have used must be what it was given. */
	while (m->driven && vqueue_get(q, NULL, NULL))
		;
}

static void scribble(struct machine *m, struct input *in)
{
	uint32_t at = take(in, 2) * 4;
	size_t len = take(in, 1) % 32;
	const void *bytes = cursor_take(&in->bytes, len);

	if (bytes)
		memcpy(vmachine_at(m->vm, ARENA + at, 32), bytes, len);
}

static void command(struct machine *m, struct input *in)
{
	unsigned int control = (m->driver.features & NET_F_MQ) ? 2 * m->pairs : 2;
	size_t len = take(in, 1) % 16;
	const void *bytes = cursor_take(&in->bytes, len);
	struct vbuffer buffers[2] = { { ARENA, (uint32_t)len, false }, { ARENA + 64, 1, true } };

	if (!bytes || !m->driven)
		return;
	memcpy(vmachine_at(m->vm, ARENA, 16), bytes, len);
	vqueue_add(&m->queues[control], buffers, 2);
	vqueue_kick(&m->queues[control]);
}

static void registers(struct machine *m, struct input *in)
{
	enum vregion region = take(in, 1) % 2 ? VREGION_COMMON : VREGION_DEVICE;
	unsigned int offset = take(in, 1) % 64;
	unsigned int size = 1u << (take(in, 1) % 4);

	offset &= ~(size - 1);
	vdriver_write(&m->driver, region, offset, size, take(in, 4));
	vdriver_read(&m->driver, region, offset, size);
	if (vdriver_status(&m->driver) == 0)
		m->driven = false;
}

/* ---- the wire ---- */

static void wire_send(struct machine *m, struct input *in)
{
	static uint8_t frame[NET_FRAME_MAX];
	unsigned int queue = take(in, 1) % m->pairs;
	size_t len = NET_HEADER_SIZE + take(in, 2);
	const void *head = cursor_take(&in->bytes, 2);
	struct iovec iov = { frame, len };

	memset(frame, 0, NET_HEADER_SIZE);
	if (head)
		memcpy(frame, head, 2);
	if (m->peer)
		(void)net_send(m->wire[queue], &iov, 1);
}

static void wire_receive(struct machine *m, struct input *in)
{
	static uint8_t frame[NET_FRAME_MAX];
	unsigned int queue = take(in, 1) % m->pairs;
	struct iovec iov = { frame, sizeof(frame) };

	while (m->peer && net_receive(m->wire[queue], &iov, 1) > 0)
		;
}

static void wire_unplug(struct machine *m, struct input *in _unused_)
{
	for (unsigned int i = 0; m->peer && i < m->pairs; i++)
		net_queue_close(m->wire[i]);
	net_free(TAKE_PTR(m->peer));
}

/* ---- the host ---- */

/* What the barrier does to workers. */
static void park(struct machine *m, bool parked)
{
	struct virtio_device *vdev = &vn_of(m)->vdev;

	for (unsigned int i = 0; i < vdev->n_workers; i++)
		worker_park(vdev->workers[i], parked);
}

static void announce(struct machine *m, struct input *in _unused_)
{
	uint8_t mac[6];

	virtio_net_mac(m->device, mac);
	park(m, true);
	park(m, false);
	if (virtio_net_announce(m->device) < 0)
		return;
}

/* Saves, spoils a byte of the stream or none, and loads again into the same device. */
static void save_and_load(struct machine *m, struct input *in)
{
	uint32_t at = take(in, 2);
	uint8_t flip = (uint8_t)take(in, 1);
	struct virtio_net *vn = vn_of(m);
	struct error err = { 0 };
	struct buffer saved;

	buffer_init(&saved, LIMIT_STATE_SECTION);
	park(m, true);
	if (vdevice_save(m->vm, m->device, &saved) < 0)
		abort();
	/* From the end: the queues and what is ours; PCI registers are another target's. */
	if (at < saved.len)
		saved.data[saved.len - 1 - at] ^= flip;
	if (vdevice_load(m->vm, m->device, &saved, &err) == 0 && vn->state.pairs > m->pairs)
		abort();
	park(m, false);
	buffer_release(&saved);
	m->driven = m->driven && vdriver_status(&m->driver) == VSTATUS_OK;
}

/* Claims chains in flight that the driver made, as a stream of another machine may. */
static void claim_in_flight(struct machine *m, struct input *in)
{
	struct virtio_queue_state *q = &vn_of(m)->state.virtio.queues[take(in, 1) % m->n_queues];
	struct buffer saved;

	settle(m);
	if (q->n_inflight >= q->size)
		return;
	q->inflight[q->n_inflight++] = (uint16_t)(take(in, 1) % q->size);
	buffer_init(&saved, LIMIT_STATE_SECTION);
	if (vdevice_save(m->vm, m->device, &saved) < 0)
		abort();
	q->n_inflight--;
	if (vdevice_load(m->vm, m->device, &saved, NULL) < 0)
		m->driven = m->driven && vdriver_status(&m->driver) == VSTATUS_OK;
	buffer_release(&saved);
}

/* The kernel's vhost serves some chains, or refuses the next ring. */
static void vhost_works(struct machine *m, struct input *in)
{
	uint16_t n = (uint16_t)take(in, 1);
	unsigned int index = n & 1;

	if (vn_of(m)->vhost_fd < 0)
		return;
	vhost_fake_work(vhost_fake_of(vn_of(m)->vhost_fd), index, n >> 2);
	vhost_fake_of(vn_of(m)->vhost_fd)->refuse = n & 2 ? -EFAULT : 0;
}

static int arrived(struct request_tap *tap, const struct device_request *request _unused_)
{
	return container_of(tap, struct machine, tap)->drops ? -EIO : 0;
}

/* A watcher copies the frame's first bytes. */
static void answered(struct request_tap *tap, const struct device_request *request)
{
	struct machine *m = container_of(tap, struct machine, tap);
	uint8_t bytes[64];

	if (request->device != m->device || request->queue >= QUEUES_MAX)
		abort();
	m->seen += (unsigned int)net_iov_read(request->iov, request->n_iov, request->skip, bytes,
					      MIN(sizeof(bytes), request->len));
}

/* Somebody begins or ends to watch: some frames, all of them, or to drop them. */
static void watch(struct machine *m, struct input *in)
{
	unsigned int wish = take(in, 1);

	park(m, true);
	m->tap = (struct request_tap){ .arrived = arrived, .answered = answered };
	m->drops = wish & 4;
	m->device->requests = wish & 1 ? &m->tap : NULL;
	m->device->see_all = wish & 2;
	park(m, false);
}

static void turn_once(struct machine *m, struct input *in _unused_)
{
	turn(m);
}

static void (*const actions[])(struct machine *m, struct input *in) = {
	turn_once,	 chain,	  many,	       descriptor,  publish,	  kick,	    collect,
	scribble,	 command, registers,   wire_send,   wire_receive, announce, save_and_load,
	claim_in_flight, drive,	  wire_unplug, vhost_works,
};

/* ---- an input ---- */

static void plug(struct machine *m, struct input *in)
{
	unsigned int shape = take(in, 1);
	struct net_pair_params cable = { .queue_pairs = 1 + (shape & 1),
					 .offloads = shape & 2 ? OFFLOADS : 0,
					 .mtu = shape & 4 ? 9000 : 0 };
	struct net_events events = { nothing, nothing, nothing_gone, NULL };
	struct virtio_net_params params = { .vhost_fd = -1, .tap_fd = -1 };

	if (shape == 8) { /* one pair, by the kernel */
		params.vhost_fd = vhost_fake_new();
		params.tap_fd = params.vhost_fd;
	}
	m->pairs = cable.queue_pairs;
	m->n_queues = 2 * m->pairs + 1;
	m->vm = vmachine_new(RAM, NULL);
	m->wire_loop = loop_new(&clock_host);
	if (!m->vm || !m->wire_loop || net_pair_new(&cable, &params.net, &m->peer) < 0 ||
	    virtio_net_new(&m->vm->host, &params, &m->device, NULL) < 0 ||
	    vdevice_start(m->device) < 0)
		abort();
	for (unsigned int i = 0; i < m->pairs; i++)
		if (net_queue_open(m->peer, i, m->wire_loop, &events, &m->wire[i]) < 0)
			abort();
	if (vdriver_find(m->vm, VIRTIO_ID_NET, &m->driver) < 0)
		abort();
}

static void unplug(struct machine *m)
{
	reset(m);
	vdevice_destroy(m->device);
	wire_unplug(m, NULL);
	loop_free(m->wire_loop);
	vmachine_free(m->vm);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { { .data = data, .left = size } };
	struct machine m = { 0 };

	plug(&m, &in);
	drive(&m, &in);
	for (int i = 0; i < ACTIONS_MAX && in.bytes.left && !in.bytes.bad; i++) {
		uint32_t action = take(&in, 1);

		if (action >= WATCH)
			watch(&m, &in);
		else
			actions[action % ARRAY_SIZE(actions)](&m, &in);
		turn(&m);
	}
	settle(&m);
	unplug(&m);
	return 0;
}
