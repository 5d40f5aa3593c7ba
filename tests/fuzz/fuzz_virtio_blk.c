/* SPDX-License-Identifier: Apache-2.0 */
/*
 * covers: virtio/blk.c virtio/blk_queue.c virtio/blk_request.c
 *
 * A hostile driver of a block device: an input is a list of actions, each a byte and its arguments. The
 * workers' loops are turned here and the disk is memory, so that an input does the same in every run. Whatever
 * comes in, the disk is asked nothing that it could not do, and a reset ends once the disk has answered.
 */
#include <stdlib.h>
#include <string.h>

#include "../unit/ram_block.h"
#include "../unit/virtio_driver.h"
#include "base/cleanup.h"
#include "base/endian.h"
#include "virtio/blk.h"
#include "worker_inline.h"

#define RAM MIB(4)
#define DISK KIB(64)
#define QUEUES_MAX 2
#define ACTIONS_MAX 300
#define ARENA KIB(512) /* headers and buffers lie from here on; rings below */

struct machine {
	struct vmachine *vm;
	struct device *device;
	struct ram_block *disk;
	unsigned int n_queues;
	struct vdriver driver;
	struct vqueue queues[QUEUES_MAX];
	bool driven;
};

struct input {
	struct cursor bytes;
};

static uint32_t take(struct input *in, size_t size)
{
	return (uint32_t)cursor_take_le(&in->bytes, size);
}

static struct virtio_device *vdev_of(struct machine *m)
{
	return container_of(m->device, struct virtio_device, device);
}

static void turn(struct machine *m)
{
	for (unsigned int i = 0; i < vdev_of(m)->n_workers; i++)
		worker_turn(vdev_of(m)->workers[i]);
}

/* Lets everything in flight end. */
static void settle(struct machine *m)
{
	m->disk->hold = false;
	for (int i = 0; i < 8; i++) {
		ram_block_run(m->disk);
		turn(m);
	}
}

/* ---- the driver ---- */

static void reset(struct machine *m, struct input *in _unused_)
{
	vdriver_write(&m->driver, VREGION_COMMON, VCOMMON_STATUS, 1, 0);
	settle(m);
	if (vdriver_status(&m->driver) != 0)
		abort();
	m->driven = false;
	m->vm->heap = KIB(64);
}

static void drive(struct machine *m, struct input *in)
{
	uint64_t features = ~(uint64_t)take(in, 4);
	uint16_t size = (uint16_t)(1u << (take(in, 1) % 9));

	reset(m, in);
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

static void write_header(struct machine *m, uint64_t at, struct input *in)
{
	static const uint32_t types[] = { 0, 1, 4, 8, 11, 13, 10, 14 };
	uint8_t *p = vmachine_at(m->vm, at, 32);
	uint8_t type = (uint8_t)take(in, 1);
	uint64_t sector = take(in, 1);

	le_store(p, 4, type < 0x80 ? types[type % ARRAY_SIZE(types)] : type);
	/* Mostly on the disk, sometimes at its end or at the end of all numbers. */
	le_store(p + 8, 8, sector < 0xf0 ? sector : UINT64_MAX - (sector - 0xf0) * (1ULL << 51));
	le_store(p + 16, 8, sector);
	le_store(p + 24, 4, take(in, 1));
	le_store(p + 28, 4, take(in, 1) % 4);
}

/* A well-formed request: header, data in one or two pieces, status. */
static void request(struct machine *m, struct input *in)
{
	struct vqueue *q = queue_of(m, in);
	unsigned int slot = take(in, 1);
	uint64_t at = ARENA + slot * 64;
	uint8_t shape = (uint8_t)take(in, 1);
	uint32_t len = (shape & 0x3fu) * 512;
	uint64_t data = ARENA + KIB(64) + slot * 512;
	bool to_guest = shape & 0x40;
	struct vbuffer buffers[] = {
		{ at, 16, false },
		{ data, len / 2, to_guest },
		{ data + len / 2, len - len / 2, to_guest },
		{ at + 48, 1, true },
	};

	write_header(m, at, in);
	if (shape == 0x80) /* a range */
		buffers[1] = buffers[2] = (struct vbuffer){ at + 16, 8, false },
		buffers[2].address += 8;
	if (m->driven && shape & 0x20)
		vqueue_add_indirect(q, buffers, 4);
	else if (m->driven)
		vqueue_add(q, buffers, 4);
}

/* Any chain over the arena: cut anywhere, without header or status. */
static void chain(struct machine *m, struct input *in)
{
	struct vqueue *q = queue_of(m, in);
	unsigned int n = take(in, 1) % 4 + 1;
	unsigned int shape = take(in, 1);
	struct vbuffer buffers[4];

	for (unsigned int i = 0; i < n; i++)
		buffers[i] = (struct vbuffer){ ARENA + take(in, 1) * 4, take(in, 2),
					       shape >> i & 1 };
	write_header(m, buffers[0].address, in);
	if (m->driven)
		vqueue_add(q, buffers, n);
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

	while (m->driven && vqueue_get(q, NULL, NULL))
		;
}

static void scribble(struct machine *m, struct input *in)
{
	uint32_t at = take(in, 2);
	size_t len = take(in, 1) % 32;
	const void *bytes = cursor_take(&in->bytes, len);

	if (bytes)
		memcpy(vmachine_at(m->vm, ARENA + at, 32), bytes, len);
}

static void registers(struct machine *m, struct input *in)
{
	enum vregion region = take(in, 1) % 2 ? VREGION_COMMON : VREGION_DEVICE;
	unsigned int offset = take(in, 1) % 64;
	unsigned int size = 1u << (take(in, 1) % 3);

	offset &= ~(size - 1);
	vdriver_write(&m->driver, region, offset, size, take(in, 4));
	vdriver_read(&m->driver, region, offset, size);
	if (vdriver_status(&m->driver) == 0)
		m->driven = false;
}

static void cache_mode(struct machine *m, struct input *in)
{
	vdriver_write(&m->driver, VREGION_DEVICE, 32, 1, take(in, 1));
}

/* A reset that the disk keeps waiting. */
static void begin_reset(struct machine *m, struct input *in _unused_)
{
	vdriver_write(&m->driver, VREGION_COMMON, VCOMMON_STATUS, 1, 0);
	m->driven = false;
}

/* ---- the host ---- */

static void hold(struct machine *m, struct input *in)
{
	m->disk->hold = take(in, 1) & 1;
}

static void answer(struct machine *m, struct input *in)
{
	static const int errors[] = { 0, -5, -28, -95 };

	m->disk->error = errors[take(in, 1) % ARRAY_SIZE(errors)];
	ram_block_run(m->disk);
}

static void save(struct machine *m, struct buffer *saved)
{
	buffer_init(saved, LIMIT_STATE_SECTION);
	if (vdevice_save(m->vm, m->device, saved) < 0)
		abort();
}

/* Back to a state that was this device's: never refused. */
static void load(struct machine *m, const struct buffer *saved)
{
	if (vdevice_load(m->vm, m->device, saved, NULL) < 0)
		abort();
}

/* Saves, spoils a byte of the stream or none, and loads again into the same device. */
static void save_and_load(struct machine *m, struct input *in)
{
	uint32_t at = take(in, 2);
	uint8_t flip = (uint8_t)take(in, 1);
	struct buffer saved;

	save(m, &saved);
	at = (uint32_t)saved.len - 1 - at % (uint32_t)saved.len;
	saved.data[at] ^= flip;
	if (vdevice_load(m->vm, m->device, &saved, NULL) < 0) {
		saved.data[at] ^= flip;
		load(m, &saved);
	}
	buffer_release(&saved);
	m->driven = m->driven && vdriver_status(&m->driver) == VSTATUS_OK;
}

/* A disk of another size is refused. */
static void change_disk(struct machine *m, struct input *in _unused_)
{
	struct buffer saved;

	settle(m);
	save(m, &saved);
	m->disk->block.geometry.size -= 4096;
	if (vdevice_load(m->vm, m->device, &saved, NULL) == 0)
		abort();
	m->disk->block.geometry.size += 4096;
	load(m, &saved);
	buffer_release(&saved);
	m->driven = m->driven && vdriver_status(&m->driver) == VSTATUS_OK;
}

/* Nothing that was taken is left to another host. */
static bool in_flight(struct machine *m)
{
	const struct virtio_state *state = vdev_of(m)->state;
	uint32_t n = 0;

	for (unsigned int i = 0; i < m->n_queues; i++)
		n += state->queues[i].n_inflight;
	return n && vdriver_status(&m->driver) == VSTATUS_OK;
}

/* The VM is to move, or stays after all: begun and given up at any moment. */
static void drain(struct machine *m, bool on)
{
	const struct device_ops *ops = m->device->ops;

	ops->drain(m->device, on);
	turn(m);
	if (on && ops->drained(m->device) == 1 && in_flight(m))
		abort();
	if (ops->own(m->device, on, NULL) < 0)
		abort();
}

static void turn_once(struct machine *m, struct input *in _unused_)
{
	turn(m);
}

static void (*const actions[])(struct machine *m, struct input *in) = {
	turn_once, request, request,  chain,	 descriptor,	publish,
	kick,	   collect, scribble, registers, cache_mode,	begin_reset,
	hold,	   answer,  reset,    drive,	 save_and_load, change_disk,
};

#define DRAIN 0xfe /* in place of an action; the byte behind it is the other way */

static void act(struct machine *m, struct input *in)
{
	uint32_t what = take(in, 1);

	if (what >= DRAIN)
		drain(m, what == DRAIN);
	else
		actions[what % ARRAY_SIZE(actions)](m, in);
	turn(m);
}

/* ---- an input ---- */

static void plug(struct machine *m, struct input *in)
{
	unsigned int shape = take(in, 1);
	struct virtio_blk_params params = { .index = 3, .serial = shape & 8 ? NULL : "fuzz" };

	m->n_queues = 1 + (shape & 1);
	m->vm = vmachine_new(RAM, NULL);
	m->disk = ram_block_new(DISK, shape & 2 ? 4096 : 512, (shape & 0x14) == 0x14);
	if (!m->vm || !m->disk)
		abort();
	params.block = &m->disk->block;
	params.queues = m->n_queues;
	if (virtio_blk_new(&m->vm->host, &params, &m->device, NULL) < 0 ||
	    vdevice_start(m->device) < 0 || vdriver_find(m->vm, VIRTIO_ID_BLOCK, &m->driver) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { { .data = data, .left = size } };
	struct machine m = { 0 };

	plug(&m, &in);
	drive(&m, &in);
	for (int i = 0; i < ACTIONS_MAX && in.bytes.left && !in.bytes.bad; i++)
		act(&m, &in);
	reset(&m, &in);
	vdevice_destroy(m.device);
	vmachine_free(m.vm);
	return 0;
}
