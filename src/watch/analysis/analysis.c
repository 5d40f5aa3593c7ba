/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/analysis/analysis.h"

#include <stdlib.h>
#include <string.h>

#include "watch/analysis/internal.h"

/* A network is in use for so long after a frame: two machines that answer each other leave small gaps. */
#define NET_LINGER_NS NSEC_PER_MSEC

static const struct {
	const char *prefix;
	enum analysis_role role;
} roles[] = {
	{ "virtio-blk", ROLE_DISK },
	{ "virtio-net", ROLE_NET },
	{ "virtio-console", ROLE_CONSOLE },
	{ "serial", ROLE_CONSOLE },
};

static void window_begin(struct analysis *analysis, uint64_t begin_ns)
{
	struct analysis_window *window = &analysis->window;
	uint32_t n_vcpus = window->n_vcpus;

	memset(window, 0, sizeof(*window));
	window->n_vcpus = n_vcpus;
	window->begin_ns = begin_ns;
}

struct analysis *analysis_new(uint64_t window_ns, uint32_t n_vcpus,
			      const struct analysis_times *times)
{
	struct analysis *analysis = calloc(1, sizeof(*analysis));

	if (!analysis)
		return NULL;
	analysis->window_ns = window_ns;
	analysis->times = *times;
	analysis->window.n_vcpus = MIN(n_vcpus, ANALYSIS_VCPUS);
	memset(analysis->places, -1, sizeof(analysis->places));
	analysis->nobody = -1;
	return analysis;
}

void analysis_free(struct analysis *analysis)
{
	free(analysis);
}

void analysis_name_device(struct analysis *analysis, uint16_t device, const char *name)
{
	if (device >= STORE_DEVICES_MAX)
		return;
	analysis->roles[device] = ROLE_OTHER;
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
		if (!strncmp(name, roles[i].prefix, strlen(roles[i].prefix)))
			analysis->roles[device] = roles[i].role;
	if (analysis->places[device] >= 0)
		analysis->window.devices[analysis->places[device]].role = analysis->roles[device];
}

/* The last place is kept for accesses without a device, and for devices that have found no other. */
static int place_of(struct analysis *analysis, uint16_t device)
{
	struct analysis_window *window = &analysis->window;
	bool known = device < STORE_DEVICES_MAX;
	uint32_t room = ANALYSIS_DEVICES - (analysis->nobody < 0);
	int8_t *place = known ? &analysis->places[device] : &analysis->nobody;

	if (*place >= 0)
		return *place;
	if (known && window->n_devices >= room)
		return place_of(analysis, STORE_NO_DEVICE);
	*place = (int8_t)window->n_devices++;
	window->devices[*place].device = known ? device : STORE_NO_DEVICE;
	window->devices[*place].role = known ? analysis->roles[device] : ROLE_OTHER;
	return *place;
}

/* Devices keep their places from window to window: what a trace knows goes on. */
static void carry_devices(struct analysis *analysis)
{
	const struct analysis_window *before = &analysis->done;
	struct analysis_window *window = &analysis->window;

	window->n_devices = before->n_devices;
	for (uint32_t i = 0; i < before->n_devices; i++) {
		window->devices[i].device = before->devices[i].device;
		window->devices[i].role = before->devices[i].role;
	}
}

static void cut_traces(struct analysis *analysis, uint64_t until_ns)
{
	for (uint32_t i = 0; i < analysis->window.n_devices; i++) {
		busy_cut(&analysis->traces[i].busy, until_ns);
		period_clear(&analysis->traces[i].period);
		analysis->traces[i].status = 0;
	}
	for (uint32_t i = 0; i < analysis->window.n_vcpus; i++) {
		struct analysis_vcpu *vcpu = &analysis->vcpus[i];

		busy_cut(&vcpu->requests, until_ns);
		busy_cut(&vcpu->console, until_ns);
		vcpu->cpu_ns = vcpu->covered_ns = 0;
	}
	memset(&analysis->tables, 0, sizeof(analysis->tables));
}

static void window_end(struct analysis *analysis, uint64_t end_ns)
{
	uint64_t begin_ns = end_ns +
			    (analysis->now_ns - end_ns) / analysis->window_ns * analysis->window_ns;

	analysis->done = analysis->window;
	analysis_conclude(analysis, end_ns, &analysis->done);
	analysis->complete = true;
	window_begin(analysis, begin_ns);
	carry_devices(analysis);
	cut_traces(analysis, begin_ns);
}

int analysis_pass(struct analysis *analysis, uint64_t now_ns)
{
	uint64_t begin_ns = analysis->window.begin_ns;

	if (!analysis->begun) {
		analysis->begun = true;
		analysis->now_ns = now_ns;
		window_begin(analysis, now_ns);
		return 0;
	}
	analysis->now_ns = MAX(analysis->now_ns, now_ns);
	if (!analysis->window_ns || analysis->now_ns - begin_ns < analysis->window_ns)
		return 0;
	window_end(analysis, begin_ns + analysis->window_ns);
	return 1;
}

void analysis_lost(struct analysis *analysis, uint64_t records)
{
	analysis->window.lost += MIN(records, UINT64_MAX - analysis->window.lost);
}

/* What the thread used since its last sample, as far as it lies in this window. */
static void add_vcpu_time(struct analysis *analysis, const struct watch_record *record,
			  uint64_t at_ns)
{
	struct analysis_vcpu *vcpu = &analysis->vcpus[record->source % ANALYSIS_VCPUS];
	uint64_t from_ns = vcpu->sample_ns, before = vcpu->sample_cpu_ns, inside, used;

	if (record->source >= analysis->window.n_vcpus || at_ns <= from_ns)
		return;
	vcpu->sample_ns = at_ns;
	vcpu->sample_cpu_ns = record->data;
	if (!from_ns || record->data < before || at_ns <= analysis->window.begin_ns)
		return;
	inside = at_ns - MAX(from_ns, analysis->window.begin_ns);
	used = MIN(record->data - before, at_ns - from_ns);
	vcpu->cpu_ns += (uint64_t)((double)used * ((double)inside / (double)(at_ns - from_ns)));
	vcpu->covered_ns += inside;
}

static void add_access(struct analysis *analysis, const struct watch_record *record, int place,
		       uint64_t begin_ns, uint64_t ns)
{
	struct analysis_device *device = &analysis->window.devices[place];
	struct analysis_vcpu *vcpu = &analysis->vcpus[record->source % ANALYSIS_VCPUS];

	device->accesses++;
	device->writes += !!(record->flags & RECORD_WRITE);
	device->reads += !(record->flags & RECORD_WRITE);
	device->bytes += record->size;
	latency_add(&device->access_latency, ns);
	analysis_tally_access(analysis, record);
	if (record->source >= analysis->window.n_vcpus)
		return;
	busy_add(&vcpu->requests, begin_ns, begin_ns + ns);
	if (device->role == ROLE_CONSOLE)
		busy_add(&vcpu->console, begin_ns, begin_ns + ns);
}

/*
 * Whether the request is near where one of the last few streams has come to, but not the same again: several streams are
 * mixed, and requests of one overtake each other. The stream moves to the front.
 */
static bool stream_follow(struct device_trace *trace, uint64_t begin, uint64_t len)
{
	uint64_t *ends = trace->stream_ends, end = begin + len, near;
	unsigned int i;

	if (!len || end < begin || __builtin_mul_overflow(len, STREAM_NEAR, &near))
		return false;
	for (i = 0; i < STREAMS; i++)
		if (ends[i] && end != ends[i] &&
		    (begin < ends[i] ? ends[i] - begin : begin - ends[i]) <= near)
			break;
	if (i < STREAMS)
		end = MAX(end, ends[i]);
	memmove(&ends[1], &ends[0], MIN(i, STREAMS - 1U) * sizeof(ends[0]));
	ends[0] = end;
	return i < STREAMS;
}

static void add_disk(struct analysis_device *device, struct device_trace *trace,
		     const struct watch_record *record)
{
	uint8_t operation = MIN(record->operation, RECORD_DISK_OTHER);

	device->operations[operation]++;
	if (operation != RECORD_DISK_READ && operation != RECORD_DISK_WRITE)
		return;
	device->moves++;
	device->sequential += stream_follow(trace, record->address, record->data);
}

/* How much longer than `ns` the request keeps its device in use, for the rules. */
static uint64_t busy_ns(const struct analysis_device *device, const struct watch_record *record,
			uint64_t ns)
{
	if (record->kind == RECORD_NET)
		return MAX(ns, NET_LINGER_NS);
	/* Buffers wait in a console's queue until somebody types. */
	if (record->kind == RECORD_QUEUE && !(record->flags & RECORD_WRITE))
		return 0;
	return device->role == ROLE_OTHER ? 0 : ns;
}

static void add_request(struct analysis *analysis, const struct watch_record *record, int place,
			uint64_t begin_ns, uint64_t ns)
{
	struct analysis_device *device = &analysis->window.devices[place];
	struct device_trace *trace = &analysis->traces[place];
	uint64_t busy;

	if (device->role == ROLE_OTHER && record->kind != RECORD_QUEUE)
		device->role = record->kind == RECORD_DISK ? ROLE_DISK : ROLE_NET;
	busy = busy_ns(device, record, ns);
	device->requests++;
	device->request_bytes += MIN(record->data, UINT64_MAX - device->request_bytes);
	if (record->status < 0) {
		device->failed++;
		trace->status = record->status;
	}
	latency_add(&device->request_latency, ns);
	busy_add(&trace->busy, begin_ns, begin_ns + busy);
	if (record->kind == RECORD_DISK) {
		add_disk(device, trace, record);
	} else {
		device->sent += !!(record->flags & RECORD_WRITE);
		device->received += !(record->flags & RECORD_WRITE);
	}
}

/* Whether the record is an access or request of its own: a nested one's outer record tells of the same. */
static bool is_own(const struct watch_record *record)
{
	return record->kind != RECORD_PCI && !(record->flags & RECORD_NESTED);
}

static void count_record(struct analysis *analysis, const struct watch_record *record,
			 uint64_t begin_ns)
{
	const struct analysis_times *times = &analysis->times;
	uint64_t ns = MIN(times->ticks_ns(times->ctx, record->duration), UINT64_MAX - begin_ns);
	int place;

	analysis->window.records++;
	if (!is_own(record))
		return;
	place = place_of(analysis, record->device);
	period_add(&analysis->traces[place].period, begin_ns, begin_ns + ns);
	if (record->kind == RECORD_PIO || record->kind == RECORD_MMIO)
		add_access(analysis, record, place, begin_ns, ns);
	else
		add_request(analysis, record, place, begin_ns, ns);
}

int analysis_add(struct analysis *analysis, const struct watch_record *record)
{
	const struct analysis_times *times = &analysis->times;
	/* Kept from the end of the scale, so that a window's length can be added. */
	uint64_t begin_ns = MIN(times->wall_ns(times->ctx, record->begin), UINT64_MAX / 2);
	int complete;

	if (!record->kind || record->kind >= RECORD_KINDS)
		return 0;
	complete = analysis_pass(analysis, begin_ns);
	analysis->window.kinds[record->kind]++;
	if (record->kind == RECORD_VCPU)
		add_vcpu_time(analysis, record, begin_ns);
	else
		count_record(analysis, record, begin_ns);
	return complete;
}

bool analysis_take(struct analysis *analysis, bool now, struct analysis_window *ret_window)
{
	if (!now && !analysis->complete)
		return false;
	if (!now) {
		*ret_window = analysis->done;
		analysis->complete = false;
		return true;
	}
	if (!analysis->begun)
		return false;
	*ret_window = analysis->window;
	analysis_conclude(analysis, analysis->now_ns, ret_window);
	return true;
}
