/* SPDX-License-Identifier: Apache-2.0 */

/* Requests of queues: from a device's tap to the queue's ring, on the queue's thread. */

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "net/iov.h"
#include "watch/stop_internal.h"

#define WAIT_STEP_NS (200 * NSEC_PER_USEC)

static const uint8_t kinds[] = {
	[REQUEST_DISK] = RECORD_DISK,
	[REQUEST_NET] = RECORD_NET,
	[REQUEST_OTHER] = RECORD_QUEUE,
};

static const uint8_t operations[] = {
	[REQUEST_READ] = RECORD_DISK_READ,
	[REQUEST_WRITE] = RECORD_DISK_WRITE,
	[REQUEST_FLUSH] = RECORD_DISK_FLUSH,
	[REQUEST_DISCARD] = RECORD_DISK_DISCARD,
	[REQUEST_WRITE_ZEROES] = RECORD_DISK_WRITE_ZEROES,
	[REQUEST_NO_OPERATION] = RECORD_DISK_OTHER,
};

struct ring *monitor_take_ring(struct monitor *monitor, const char *name)
{
	uint64_t index = __atomic_fetch_add(&monitor->rings_used, 1, __ATOMIC_RELAXED);
	struct ring *ring;

	if (index >= monitor->n_rings)
		return NULL;
	ring = store_ring(monitor->store, (uint32_t)index, name);
	__atomic_store_n(&monitor->rings[index], ring, __ATOMIC_RELEASE);
	return ring;
}

static struct ring *ring_of(struct monitor_device *md, uint16_t queue)
{
	char name[STORE_NAME];

	if (queue >= ARRAY_SIZE(md->rings))
		return NULL;
	if (!md->rings[queue]) {
		snprintf(name, sizeof(name), "%.24s:%u", md->device->name, queue);
		md->rings[queue] = monitor_take_ring(md->monitor, name);
	}
	return md->rings[queue];
}

/* Sleeps until followers have read; the control thread expels those who do not, and the barrier does not wait for
 * them. False: no room is left, the record is given up. */
static bool wait_for_room(struct monitor *monitor, struct ring *ring)
{
	const struct timespec step = { .tv_nsec = WAIT_STEP_NS };
	uint64_t owner;

	if (!monitor->now.lossless)
		return true;
	while (!ring_has_room(ring, MONITOR_SPARE_RECORDS, &owner) &&
	       !quiesce_requested(&monitor->vm->quiesce))
		nanosleep(&step, NULL);
	if (ring_has_room(ring, 1, &owner))
		return true;
	ring_drop(ring);
	return false;
}

static void copy_frame(const struct device_request *request, struct record_frame *frame)
{
	size_t len = 0;

	memset(frame->reserved, 0, sizeof(frame->reserved));
	if (request->iov)
		len = net_iov_read(request->iov, request->n_iov, request->skip, frame->bytes,
				   MIN(sizeof(frame->bytes), request->len));
	frame->n_bytes = (uint16_t)len;
}

void monitor_fill_request(const struct monitor_device *md, const struct device_request *request,
			  struct watch_record *record)
{
	record->begin = request->begin;
	record->duration = __rdtsc() - request->begin;
	record->address = request->offset;
	record->data = request->len;
	record->kind = kinds[request->kind];
	record->flags = request->operation == REQUEST_WRITE ||
					request->operation == REQUEST_WRITE_ZEROES
				? RECORD_WRITE
				: 0;
	record->size = 0;
	record->operation = operations[request->operation];
	record->source = request->queue;
	record->device = md->index;
	record->repeat = 0;
	record->status = request->status;
	if (request->kind == REQUEST_NET)
		copy_frame(request, &record->frame);
	else
		memset(record->raw, 0, sizeof(record->raw));
}

int monitor_request_arrived(struct request_tap *tap, const struct device_request *request)
{
	struct monitor_device *md = container_of(tap, struct monitor_device, tap);

	return md->monitor->stop ? stop_request(md->monitor->stop, md, request) : 0;
}

void monitor_request_answered(struct request_tap *tap, const struct device_request *request)
{
	struct monitor_device *md = container_of(tap, struct monitor_device, tap);
	struct ring *ring = ring_of(md, request->queue);

	if (!ring || !wait_for_room(md->monitor, ring))
		return;
	monitor_fill_request(md, request, ring_begin(ring));
	ring_commit(ring);
}
