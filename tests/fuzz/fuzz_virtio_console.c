/* SPDX-License-Identifier: Apache-2.0 */

/* covers: virtio/console.c virtio/rng.c
 *
 * The console and the entropy device of one machine, under a hostile driver, a world that reads and types
 * as it likes, time that jumps, and loads of damaged states. Workers are turned by the script. In the end a
 * sane driver must find both at work.
 */

#include <stdlib.h>
#include <string.h>

#include "../unit/virtio_driver.h"
#include "virtio/console.h"
#include "virtio/rng.h"
#include "worker_inline.h"

#define STEPS_MAX 400
#define BUFFER_LEN KIB(16)

static void must(bool what_holds)
{
	if (!what_holds)
		abort();
}

struct world {
	struct stream stream;
	size_t room;
	uint64_t got; /* bytes taken */
	uint8_t last; /* the last of them */
	unsigned int readied;
};

static size_t world_write(struct stream *stream, const void *buf, size_t len)
{
	struct world *world = container_of(stream, struct world, stream);
	size_t n = MIN(len, world->room);

	if (n)
		world->last = ((const uint8_t *)buf)[n - 1];
	world->got += n;
	world->room -= n;
	return n;
}

static void world_ready(struct stream *stream)
{
	container_of(stream, struct world, stream)->readied++;
}

/* A device and its driver. */
struct unit {
	struct device *device;
	struct vdriver driver;
	struct vqueue queues[2];
	unsigned int n_queues;
	uint16_t id;
	struct buffer saved;
};

enum { CONSOLE, RNG, UNITS };

struct rig {
	struct fake_clock clock;
	struct vmachine *m;
	struct world world;
	struct unit units[UNITS];
	uint64_t page, rings; /* guest addresses */
};

static void turn(struct rig *rig)
{
	for (unsigned int i = 0; i < UNITS; i++) {
		struct virtio_device *vdev = container_of(rig->units[i].device,
							  struct virtio_device, device);

		worker_turn(vdev->workers[0]);
	}
}

static bool bring_up(struct rig *rig, struct unit *unit, uint64_t features)
{
	struct vdriver *d = &unit->driver;

	vdriver_write(d, VREGION_COMMON, VCOMMON_STATUS, 1, 0);
	turn(rig);
	if (vdriver_status(d) || vdriver_negotiate(d, features) < 0)
		return false;
	for (unsigned int i = 0; i < unit->n_queues; i++)
		if (vqueue_setup(d, i, 0, &unit->queues[i]) < 0)
			return false;
	vdriver_go(d);
	return true;
}

static struct vqueue *some_queue(struct rig *rig, uint8_t how)
{
	struct unit *unit = &rig->units[how & 1 ? CONSOLE : RNG];

	return &unit->queues[(how >> 1) % unit->n_queues];
}

static void add(struct rig *rig, struct cursor *in)
{
	uint8_t how = (uint8_t)cursor_take_le(in, 1);
	uint32_t len = (uint32_t)(cursor_take_le(in, 2) % BUFFER_LEN);
	struct vqueue *q = some_queue(rig, how);
	const struct vbuffer buffers[] = {
		{ rig->page, len, how & 4 },
		{ how & 0x20 ? 0xc0000000 : rig->page + len, 7, true },
	};

	if (vqueue_add(q, buffers, how & 8 ? 2 : 1) >= 0 && how & 0x10)
		vqueue_kick(q);
}

static void publish(struct rig *rig, struct cursor *in)
{
	struct vqueue *q = some_queue(rig, (uint8_t)cursor_take_le(in, 1));

	vqueue_publish(q, (uint16_t)cursor_take_le(in, 1));
	vqueue_kick_anyway(q);
}

static void take_used(struct rig *rig, struct cursor *in)
{
	struct vqueue *q = some_queue(rig, (uint8_t)cursor_take_le(in, 1));

	while (vqueue_get(q, NULL, NULL))
		;
}

static void work(struct rig *rig, struct cursor *in _unused_)
{
	turn(rig);
}

static void read_output(struct rig *rig, struct cursor *in)
{
	rig->world.room = cursor_take_le(in, 2);
	rig->world.stream.writable(rig->world.stream.ctx);
}

static void type(struct rig *rig, struct cursor *in)
{
	uint8_t bytes[5000];
	size_t len = cursor_take_le(in, 2) % sizeof(bytes);

	memset(bytes, 'k', len);
	must(rig->world.stream.received(rig->world.stream.ctx, bytes, len) <= len);
}

static void pass_time(struct rig *rig, struct cursor *in)
{
	fake_clock_advance(&rig->clock, cursor_take_le(in, 1) * 10 * NSEC_PER_MSEC);
}

static void restart(struct rig *rig, struct cursor *in)
{
	uint8_t how = (uint8_t)cursor_take_le(in, 1);

	rig->m->heap = how & 1 ? rig->rings : rig->rings + KIB(64);
	bring_up(rig, &rig->units[how & 1 ? CONSOLE : RNG],
		 how & 2 ? VIRTIO_F_EVENT_IDX | VIRTIO_F_INDIRECT_DESC : 0);
}

static void save(struct rig *rig, struct cursor *in)
{
	struct unit *unit = &rig->units[cursor_take_le(in, 1) & 1];

	unit->saved.len = 0;
	must(vdevice_save(rig->m, unit->device, &unit->saved) == 0);
}

/* Some bytes changed, counted from the end, where the type's own fields and the queues are. */
static void load(struct rig *rig, struct cursor *in)
{
	uint8_t how = (uint8_t)cursor_take_le(in, 1);
	struct unit *unit = &rig->units[how & 1];

	if (!unit->saved.len)
		return;
	for (unsigned int n = (how >> 1) % 4; n; n--) {
		uint64_t back = cursor_take_le(in, 2) % unit->saved.len;

		unit->saved.data[unit->saved.len - 1 - back] ^= (uint8_t)cursor_take_le(in, 1);
	}
	if (vdevice_load(rig->m, unit->device, &unit->saved, NULL) == 0)
		must(unit->device->table->check(unit->device->state, NULL) == 0);
}

/* A queue's list of requests in flight, as a stream may claim it. */
static void claim_in_flight(struct rig *rig, struct cursor *in)
{
	uint8_t how = (uint8_t)cursor_take_le(in, 1);
	struct unit *unit = &rig->units[how & 1];
	struct virtio_state *s = unit->device->state; /* begins with it */
	struct virtio_queue_state *q = &s->queues[(how >> 1) % unit->n_queues];
	struct virtio_queue_state before = *q;

	q->n_inflight = (how >> 2) % 4;
	for (uint32_t i = 0; i < q->n_inflight; i++)
		q->inflight[i] = (uint16_t)(cursor_take_le(in, 1) % 8);
	unit->saved.len = 0;
	must(vdevice_save(rig->m, unit->device, &unit->saved) == 0);
	*q = before;
	if (vdevice_load(rig->m, unit->device, &unit->saved, NULL) == 0)
		turn(rig);
}

static void (*const steps[])(struct rig *rig, struct cursor *in) = {
	add,  work, publish, take_used, read_output,	 type, pass_time, restart,
	save, load, add,     work,	claim_in_flight,
};

static void print_works(struct rig *rig, struct vqueue *q)
{
	const struct vbuffer buffer = { rig->page, 1, false };
	uint64_t before = rig->world.got;

	*(uint8_t *)vmachine_at(rig->m, rig->page, 1) = '!';
	must(vqueue_add(q, &buffer, 1) >= 0);
	vqueue_kick(q);
	turn(rig);
	must(rig->world.got == before + 1 && rig->world.last == '!');
}

static void typing_works(struct rig *rig, struct vqueue *q)
{
	const struct vbuffer buffer = { rig->page, 4096, true };
	uint32_t len = 0;

	must(vqueue_add(q, &buffer, 1) >= 0);
	vqueue_kick(q);
	/* Room for a byte there is, or older input waits. */
	rig->world.stream.received(rig->world.stream.ctx, "x", 1);
	turn(rig);
	must(vqueue_get(q, NULL, &len) == 1 && len > 0);
}

static void entropy_works(struct rig *rig, struct vqueue *q)
{
	const struct vbuffer buffer = { rig->page, 16, true };
	uint32_t len = 0;

	fake_clock_advance(&rig->clock, NSEC_PER_SEC);
	must(vqueue_add(q, &buffer, 1) >= 0);
	vqueue_kick(q);
	turn(rig);
	must(vqueue_get(q, NULL, &len) == 1 && len == 16);
}

static void works_in_the_end(struct rig *rig)
{
	rig->world.room = SIZE_MAX;
	rig->m->heap = rig->rings;
	for (unsigned int i = 0; i < UNITS; i++) {
		struct device *device = rig->units[i].device;

		pthread_mutex_lock(&device->lock);
		device->ops->reset(device);
		pthread_mutex_unlock(&device->lock);
		turn(rig);
		must(vdriver_find(rig->m, rig->units[i].id, &rig->units[i].driver) == 0);
		must(bring_up(rig, &rig->units[i], VIRTIO_F_EVENT_IDX));
		turn(rig);
	}
	print_works(rig, &rig->units[CONSOLE].queues[1]);
	typing_works(rig, &rig->units[CONSOLE].queues[0]);
	entropy_works(rig, &rig->units[RNG].queues[0]);
}

static void make(struct rig *rig)
{
	fake_clock_init(&rig->clock, NSEC_PER_SEC, 0);
	rig->m = vmachine_new(MIB(4), &rig->clock.clock);
	must(rig->m);
	rig->world.stream = (struct stream){ .write = world_write, .ready = world_ready };
	rig->units[CONSOLE] = (struct unit){ .n_queues = 2, .id = VIRTIO_ID_CONSOLE };
	rig->units[RNG] = (struct unit){ .n_queues = 1, .id = VIRTIO_ID_RNG };
	must(virtio_console_new(&rig->m->host, &rig->world.stream, &rig->units[CONSOLE].device,
				NULL) == 0);
	must(virtio_rng_new(&rig->m->host, &rig->units[RNG].device, NULL) == 0);
	rig->page = vmachine_alloc(rig->m, 2 * BUFFER_LEN, MEMORY_PAGE_SIZE);
	rig->rings = rig->m->heap;
	for (unsigned int i = 0; i < UNITS; i++) {
		buffer_init(&rig->units[i].saved, MIB(1));
		must(vdevice_start(rig->units[i].device) == 0);
		must(vdriver_find(rig->m, rig->units[i].id, &rig->units[i].driver) == 0);
		must(bring_up(rig, &rig->units[i], VIRTIO_F_EVENT_IDX));
	}
}

static void release(struct rig *rig)
{
	for (unsigned int i = 0; i < UNITS; i++) {
		/* Without threads nobody would hear of a stop: the reset makes the queues idle. */
		vdriver_write(&rig->units[i].driver, VREGION_COMMON, VCOMMON_STATUS, 1, 0);
		turn(rig);
	}
	for (unsigned int i = 0; i < UNITS; i++) {
		vdevice_destroy(rig->units[i].device);
		buffer_release(&rig->units[i].saved);
	}
	vmachine_free(rig->m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cursor in = { .data = data, .left = size };
	struct rig rig = { .world.room = SIZE_MAX };

	make(&rig);
	for (unsigned int i = 0; i < STEPS_MAX && in.left; i++)
		steps[cursor_take_le(&in, 1) % ARRAY_SIZE(steps)](&rig, &in);
	works_in_the_end(&rig);
	release(&rig);
	return 0;
}
