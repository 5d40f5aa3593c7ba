/* SPDX-License-Identifier: Apache-2.0 */

/* covers: virtio/transport.c virtio/transport_new.c virtio/transport_state.c virtio/registers.c
 *
 * Sequences of what a guest, a board and a slow back end do to a virtio device, past DRIVER_OK: registers
 * at any width, hostile rings, resets and loads with requests in flight. Workers are turned by the script
 * instead of by threads, so that a run repeats exactly. Whatever came in: in the end the back end finishes,
 * a reset completes, and a sane driver finds a device that works.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "../unit/virtio_driver.h"

#define QUEUES 3
#define SIZE 8
#define STEPS_MAX 256
#define TURNS_MAX 64

static void must(bool what_holds)
{
	if (!what_holds)
		abort();
}

/* ---- a device type whose requests end when the script says ---- */

struct echo {
	struct virtio_device vdev;
	struct virtio_state state;
	struct virtio_chain held[QUEUES][SIZE];
	unsigned int n_held[QUEUES];
	bool stopping[QUEUES];
	unsigned int threads_seen; /* start and stop calls */
};

static struct echo *from_vdev(struct virtio_device *vdev)
{
	return container_of(vdev, struct echo, vdev);
}

static int echo_started(struct virtio_vq *vq)
{
	struct echo *echo = from_vdev(vq->vdev);

	must(!echo->n_held[vq->index] && !echo->stopping[vq->index]);
	for (uint32_t i = 0; i < vq->queue.state->n_inflight; i++) {
		int r = virtio_queue_refetch(&vq->queue, i, &echo->held[vq->index][i]);

		if (r < 0)
			return r;
		echo->n_held[vq->index]++;
	}
	return 0;
}

static void echo_kicked(struct virtio_vq *vq)
{
	struct echo *echo = from_vdev(vq->vdev);
	unsigned int *n = &echo->n_held[vq->index];
	int r;

	must(!echo->stopping[vq->index]);
	if (vq->drain)
		return;
	do {
		/* Heads are distinct: there are never more in flight than the queue is long. */
		must(*n <= SIZE);
		r = *n < SIZE ? virtio_queue_pop(&vq->queue, &echo->held[vq->index][*n]) : 0;
		*n += r > 0;
	} while (r > 0);
	if (r < 0)
		virtio_device_broken(vq->vdev);
	else
		virtio_queue_enable_kicks(&vq->queue);
}

static void idle_if_done(struct virtio_vq *vq)
{
	struct echo *echo = from_vdev(vq->vdev);

	if (!echo->stopping[vq->index] || echo->n_held[vq->index])
		return;
	echo->stopping[vq->index] = false;
	virtio_queue_idle(vq);
}

static void drained_if_done(struct virtio_vq *vq)
{
	const unsigned int *n = &from_vdev(vq->vdev)->n_held[vq->index];

	if (vq->drain && !*n)
		virtio_queue_drained(vq, vq->index ? 0 : -EIO);
}

static void echo_stopping(struct virtio_vq *vq)
{
	must(!from_vdev(vq->vdev)->stopping[vq->index]);
	from_vdev(vq->vdev)->stopping[vq->index] = true;
	idle_if_done(vq);
}

/* The back end finishes one request, the newest or the oldest. */
static void complete(struct virtio_vq *vq, bool newest)
{
	struct echo *echo = from_vdev(vq->vdev);
	struct virtio_chain *held = echo->held[vq->index];
	unsigned int n = echo->n_held[vq->index];
	unsigned int i = newest ? n - 1 : 0;

	if (!n)
		return;
	virtio_queue_push(&vq->queue, &held[i], 1);
	virtio_queue_signal(vq);
	memmove(&held[i], &held[i + 1], (n - 1 - i) * sizeof(held[0]));
	echo->n_held[vq->index]--;
	drained_if_done(vq);
	idle_if_done(vq);
}

static int echo_negotiated(struct virtio_device *vdev _unused_, uint64_t features)
{
	return features & 2 ? -1 : 0;
}

static void echo_config_written(struct virtio_device *vdev, unsigned int offset, unsigned int size,
				uint64_t data)
{
	must(offset + size <= vdev->state->config_len);
	le_store(vdev->state->config + offset, size, data);
}

static int echo_start(struct virtio_device *vdev, struct error *err _unused_)
{
	from_vdev(vdev)->threads_seen++;
	return 0;
}

static void echo_stop(struct virtio_device *vdev)
{
	from_vdev(vdev)->threads_seen++;
}

static int echo_after_load(struct virtio_device *vdev, struct error *err)
{
	if (vdev->state->config[0] == 0xff)
		return error_set(err, -22, EXIT_STATUS_FAILED, "configuration of another device");
	return 0;
}

static void echo_destroy(struct virtio_device *vdev)
{
	virtio_device_release(vdev);
	free(from_vdev(vdev));
}

static const struct virtio_feature_words echo_words[] = { { 1, "echoes" }, { 0, NULL } };

static const struct virtio_ops echo_ops = {
	.queue_started = echo_started,
	.queue_kicked = echo_kicked,
	.queue_stopping = echo_stopping,
	.queue_drain = drained_if_done,
	.config_written = echo_config_written,
	.negotiated = echo_negotiated,
	.start = echo_start,
	.stop = echo_stop,
	.after_load = echo_after_load,
	.destroy = echo_destroy,
	.feature_words = echo_words,
};

static unsigned int last_worker(unsigned int queue)
{
	return queue == 0;
}

static struct echo *echo_new(struct vmachine *m, unsigned int index)
{
	static const uint16_t ids[] = { VIRTIO_ID_NET, VIRTIO_ID_BLOCK, VIRTIO_ID_CONSOLE,
					VIRTIO_ID_RNG };
	static const uint8_t config[12];
	const struct virtio_params params = {
		.name = index & 1 ? "virtio-echo" : "echo",
		.id = ids[index % ARRAY_SIZE(ids)],
		.features = 3,
		.config = config,
		.config_len = index & 4 ? 0 : sizeof(config),
		.n_queues = QUEUES,
		.queue_size = SIZE,
		.n_workers = 2,
		.worker_of = index & 1 ? last_worker : NULL,
		.ops = &echo_ops,
	};
	struct echo *echo = calloc(1, sizeof(*echo));

	must(echo && virtio_device_init(&echo->vdev, &echo->state, &params, &m->host, NULL) == 0);
	/* As after start, but the workers' loops are turned here. */
	echo->vdev.running = true;
	return echo;
}

/* ---- the script ---- */

struct rig {
	struct vmachine *m;
	struct echo *echo;
	struct vdriver driver;
	uint16_t id;
	struct vqueue queues[QUEUES];
	uint64_t page;
	struct buffer saved;
};

static void turn_workers(struct rig *rig)
{
	for (unsigned int i = 0; i < rig->echo->vdev.n_workers; i++)
		must(loop_turn(worker_loop(rig->echo->vdev.workers[i]), 0) == 0);
}

static void mmio(struct rig *rig, struct cursor *in)
{
	uint8_t how = (uint8_t)cursor_take_le(in, 1);
	unsigned int size = 1u << (how & 3);
	uint64_t page = (uint64_t)(how >> 2 & 3) << 12;
	uint64_t offset = cursor_take_le(in, 1);
	uint64_t bar = vdriver_config_read(&rig->driver, 0x10 + 4u * (how >> 6 & 1), 4) & ~15ULL;
	uint64_t address = bar + ((how >> 6 & 1) ? 0 : page) + offset;

	if (how & 0x20)
		vmachine_write(rig->m, BUS_MMIO, address, size, cursor_take_le(in, size));
	else
		vmachine_read(rig->m, BUS_MMIO, address, size);
}

/* Any offset of 12 bits, so that accesses straddle pages too. */
static void far_mmio(struct rig *rig, struct cursor *in)
{
	uint8_t how = (uint8_t)cursor_take_le(in, 1);
	unsigned int size = 1u << (how & 3);
	uint64_t offset = MIN(cursor_take_le(in, 2) & 0x3fff, 0x4000 - size);
	uint64_t bar = vdriver_config_read(&rig->driver, 0x10, 4) & ~15ULL;

	if (how & 4)
		vmachine_write(rig->m, BUS_MMIO, bar + offset, size, cursor_take_le(in, size));
	else
		vmachine_read(rig->m, BUS_MMIO, bar + offset, size);
}

static void pci_config(struct rig *rig, struct cursor *in)
{
	uint8_t how = (uint8_t)cursor_take_le(in, 1);
	unsigned int size = 1u << (how % 3);
	unsigned int offset = (unsigned int)cursor_take_le(in, 1) & ~(size - 1);

	if (how & 0x80)
		vdriver_config_write(&rig->driver, offset, size, cursor_take_le(in, size));
	else
		vdriver_config_read(&rig->driver, offset, size);
}

/* A register of the common configuration, at its own width. */
static void common(struct rig *rig, struct cursor *in)
{
	static const struct {
		uint8_t offset, size;
	} registers[] = {
		{ VCOMMON_DEVICE_FEATURE_SELECT, 4 },
		{ VCOMMON_DRIVER_FEATURE_SELECT, 4 },
		{ VCOMMON_DRIVER_FEATURE, 4 },
		{ VCOMMON_CONFIG_VECTOR, 2 },
		{ VCOMMON_STATUS, 1 },
		{ VCOMMON_QUEUE_SELECT, 2 },
		{ VCOMMON_QUEUE_SIZE, 2 },
		{ VCOMMON_QUEUE_VECTOR, 2 },
		{ VCOMMON_QUEUE_ENABLE, 2 },
		{ VCOMMON_QUEUE_DESC, 8 },
		{ VCOMMON_QUEUE_DRIVER, 8 },
		{ VCOMMON_QUEUE_DEVICE, 4 },
	};
	size_t i = cursor_take_le(in, 1) % ARRAY_SIZE(registers);
	unsigned int size = registers[i].size;

	vdriver_write(&rig->driver, VREGION_COMMON, registers[i].offset, size,
		      cursor_take_le(in, MIN(size, 4)));
}

/* The access window, aimed by a driver that knows how. */
static void window(struct rig *rig, struct cursor *in)
{
	unsigned int cap = rig->driver.regions[VREGION_ACCESS].at;
	uint8_t how = (uint8_t)cursor_take_le(in, 1);

	vdriver_config_write(&rig->driver, cap + 4, 1, how & 0x10 ? how : 0);
	vdriver_config_write(&rig->driver, cap + 8, 4, cursor_take_le(in, 2));
	vdriver_config_write(&rig->driver, cap + 12, 4, how & 15);
	if (how & 0x80)
		vdriver_config_write(&rig->driver, cap + 16, 4, cursor_take_le(in, 4));
	else
		vdriver_config_read(&rig->driver, cap + 16, 4);
}

/* A sane driver's start, when the device lets it. */
static bool bring_up(struct rig *rig)
{
	vdriver_config_write(&rig->driver, 4, 2, 6);
	vdriver_write(&rig->driver, VREGION_COMMON, VCOMMON_STATUS, 1, 0);
	turn_workers(rig);
	if (vdriver_status(&rig->driver) ||
	    vdriver_negotiate(&rig->driver, VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC | 1) < 0)
		return false;
	rig->m->heap = rig->page + MEMORY_PAGE_SIZE;
	for (unsigned int i = 0; i < QUEUES; i++)
		if (vqueue_setup(&rig->driver, i, SIZE, &rig->queues[i]) < 0)
			return false;
	vdriver_go(&rig->driver);
	return true;
}

/* A driver that names rings where there is no RAM. */
static void start_without_rings(struct rig *rig)
{
	if (vdriver_negotiate(&rig->driver, 0) < 0)
		return;
	vdriver_write(&rig->driver, VREGION_COMMON, VCOMMON_QUEUE_SELECT, 2, 1);
	vdriver_write(&rig->driver, VREGION_COMMON, VCOMMON_QUEUE_DESC, 8, 0xc0000000);
	vdriver_write(&rig->driver, VREGION_COMMON, VCOMMON_QUEUE_ENABLE, 2, 1);
	vdriver_go(&rig->driver);
}

static void start_driver(struct rig *rig, struct cursor *in)
{
	uint8_t how = (uint8_t)cursor_take_le(in, 1);

	if (how & 1)
		vdriver_enable_msix(&rig->driver);
	if (how & 2)
		start_without_rings(rig);
	else
		bring_up(rig);
	if (how & 4) /* and changes its mind before any worker has seen it */
		vdriver_write(&rig->driver, VREGION_COMMON, VCOMMON_STATUS, 1, 0);
}

static void request(struct rig *rig, struct cursor *in)
{
	static const uint64_t places[] = { 0, MIB(4) - 4, MIB(4), 0xc0000000, UINT64_MAX };
	uint8_t how = (uint8_t)cursor_take_le(in, 1);
	struct vqueue *q = &rig->queues[how % QUEUES];
	uint16_t index;

	if (!q->size)
		return;
	if (how & 0x80) { /* anything in a descriptor */
		index = (uint16_t)cursor_take_le(in, 1);
		vqueue_write_desc(q, index % q->size, places[(how >> 2) % ARRAY_SIZE(places)],
				  (uint32_t)cursor_take_le(in, 1), how & 7,
				  (uint16_t)cursor_take_le(in, 1));
		vqueue_publish(q, index);
	} else {
		const struct vbuffer buffer = { rig->page, 16, true };

		if (vqueue_add(q, &buffer, 1) < 0)
			return;
	}
	if (how & 0x40)
		vqueue_kick_anyway(q);
	else
		vqueue_kick(q);
}

static void take_used(struct rig *rig, struct cursor *in)
{
	struct vqueue *q = &rig->queues[cursor_take_le(in, 1) % QUEUES];

	if (q->size)
		vqueue_get(q, NULL, NULL);
}

static void work(struct rig *rig, struct cursor *in _unused_)
{
	turn_workers(rig);
}

static void finish_request(struct rig *rig, struct cursor *in)
{
	uint8_t how = (uint8_t)cursor_take_le(in, 1);

	complete(&rig->echo->vdev.queues[how % QUEUES], how & 0x80);
}

static void machine_reset(struct rig *rig, struct cursor *in _unused_)
{
	struct device *device = &rig->echo->vdev.device;

	pthread_mutex_lock(&device->lock);
	device->ops->reset(device);
	pthread_mutex_unlock(&device->lock);
	device->ops->resetting(device);
}

static void save(struct rig *rig, struct cursor *in _unused_)
{
	rig->saved.len = 0;
	must(vdevice_save(rig->m, &rig->echo->vdev.device, &rig->saved) == 0);
}

/* Loads what was saved, some bytes changed, over whatever the device is doing. */
static void load(struct rig *rig, struct cursor *in)
{
	unsigned int n = (unsigned int)(cursor_take_le(in, 1) % 4);

	if (!rig->saved.len)
		return;
	while (n--) {
		uint64_t at = cursor_take_le(in, 2) % rig->saved.len;

		rig->saved.data[at] ^= (uint8_t)cursor_take_le(in, 1);
	}
	if (vdevice_load(rig->m, &rig->echo->vdev.device, &rig->saved, NULL) < 0)
		return;
	must(virtio_state_check(&rig->echo->state, NULL) == 0);
}

/* Fields that a stream can hold, past the checksum of nothing: straight into the transport's part. */
static void load_fields(struct rig *rig, struct cursor *in)
{
	struct virtio_state *s = &rig->echo->state;
	struct virtio_state *before = malloc(sizeof(*before));
	struct virtio_queue_state *q = &s->queues[cursor_take_le(in, 1) % QUEUES];
	struct virtio_device *vdev = &rig->echo->vdev;
	const uint64_t offers = vdev->offers;
	uint8_t here;

	must(before);
	*before = *s;
	s->status = (uint8_t)cursor_take_le(in, 1);
	s->resetting = (uint8_t)(cursor_take_le(in, 1) % 3);
	here = (uint8_t)cursor_take_le(in, 1);
	s->driver_features ^= here & 0x1f;
	q->enabled = (uint8_t)cursor_take_le(in, 1) % 3;
	q->msix_vector = (uint16_t)cursor_take_le(in, 1);
	q->n_inflight = (uint32_t)cursor_take_le(in, 1) % (SIZE + 2);
	for (uint32_t i = 0; i < q->n_inflight; i++)
		q->inflight[i] = (uint16_t)cursor_take_le(in, 1) % (SIZE + 1);
	save(rig, in);
	*s = *before;
	free(before);
	/* A host that has less. */
	vdev->offers &= ~((here & 0x20 ? 1ULL : 0) | (here & 0x40 ? VIRTIO_F_INDIRECT_DESC : 0) |
			  (here & 0x80 ? VIRTIO_F_EVENT_IDX | 2 : 0));
	load(rig, in);
	vdev->offers = offers;
}

static void host_events(struct rig *rig, struct cursor *in)
{
	struct virtio_device *vdev = &rig->echo->vdev;
	uint8_t how = (uint8_t)cursor_take_le(in, 1);

	if (how & 1)
		virtio_device_broken(vdev);
	else if (vdev->state->config_len)
		virtio_config_update(vdev, how % 12, &how, 1);
}

/* In place of a step: the VM is to move, or stays after all. */
#define DRAIN 0xfe

static void drain(struct rig *rig, bool on)
{
	struct device *device = &rig->echo->vdev.device;

	device->ops->drain(device, on);
	turn_workers(rig);
	(void)device->ops->drained(device);
	must(device->ops->own(device, on, NULL) == 0);
}

static void (*const steps[])(struct rig *rig, struct cursor *in) = {
	work,	     mmio,	  pci_config,	  common,	 window, start_driver,
	request,     request,	  finish_request, machine_reset, save,	 load,
	load_fields, host_events, far_mmio,	  take_used,
};

/* Nothing that happened keeps the device from being idle: the back end ends its requests. */
static void settle(struct rig *rig)
{
	for (unsigned int turn = 0; turn < TURNS_MAX; turn++) {
		turn_workers(rig);
		for (unsigned int i = 0; i < QUEUES; i++)
			complete(&rig->echo->vdev.queues[i], false);
	}
}

static void works_in_the_end(struct rig *rig)
{
	const struct vbuffer buffer = { rig->page, 16, true };
	uint32_t len = 0;

	drain(rig, false);
	/* Decoding may be off and BARs anywhere: a machine reset puts them back. */
	machine_reset(rig, NULL);
	settle(rig);
	must(vdriver_find(rig->m, rig->id, &rig->driver) == 0);
	must(vdriver_status(&rig->driver) == 0);
	must(bring_up(rig));
	vdriver_enable_msix(&rig->driver);
	for (unsigned int i = 0; i < QUEUES; i++) {
		must(vqueue_add(&rig->queues[i], &buffer, 1) >= 0);
		vqueue_kick(&rig->queues[i]);
		settle(rig);
		must(vqueue_get(&rig->queues[i], NULL, &len) == 1 && len == 1);
	}
}

/* Once with real threads: started from a state that a stream brought, stopped. */
static void run_with_threads(struct rig *rig)
{
	struct device *device = &rig->echo->vdev.device;

	rig->echo->vdev.running = false;
	must(device->ops->start(device, NULL, NULL) == 0);
	device->ops->stop(device);
	must(rig->echo->threads_seen == 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint16_t ids[] = { VIRTIO_ID_NET, VIRTIO_ID_BLOCK, VIRTIO_ID_CONSOLE,
					VIRTIO_ID_RNG };
	struct cursor in = { .data = data, .left = size };
	uint8_t kind = (uint8_t)cursor_take_le(&in, 1);
	struct rig rig = { .m = vmachine_new(MIB(8), NULL), .id = ids[kind % ARRAY_SIZE(ids)] };

	must(rig.m);
	buffer_init(&rig.saved, MIB(1));
	rig.echo = echo_new(rig.m, kind);
	must(vdriver_find(rig.m, rig.id, &rig.driver) == 0);
	rig.page = vmachine_alloc(rig.m, MEMORY_PAGE_SIZE, MEMORY_PAGE_SIZE);
	for (unsigned int i = 0; i < STEPS_MAX && in.left; i++) {
		uint8_t step = (uint8_t)cursor_take_le(&in, 1);

		if (step >= DRAIN)
			drain(&rig, step == DRAIN);
		else
			steps[step % ARRAY_SIZE(steps)](&rig, &in);
	}
	settle(&rig);
	works_in_the_end(&rig);
	if (kind & 0x40)
		run_with_threads(&rig);
	rig.echo->vdev.device.ops->destroy(&rig.echo->vdev.device);
	buffer_release(&rig.saved);
	vmachine_free(rig.m);
	return 0;
}
