/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A Perfetto trace of track events (ui.perfetto.dev). Rows: below "vCPUs" one for each vCPU with its accesses, below
 * "devices" one for each device with its accesses and requests, and more of them where requests overlap:
 *
 *   VM: vCPUs    vcpu0         |out port 0x3f8|  |in port 0x3fd|
 *   VM: devices  serial        |out|             |in|
 *                virtio-blk.0  |write        | |read |
 *                virtio-blk.0 #2   |write |
 *
 * A file is a sequence of packets, each a field of one message, so it can be written bit by bit and read as far as it
 * goes. Perfetto sorts by time itself.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include <perfetto.pb-c.h>

#include "view/export/export.h"
#include "view/export/lanes.h"

#define SEQUENCE 1
#define STATE_CLEARED 1 /* in sequence_flags: what came before does not matter */
#define CLOCK_REALTIME_ID 1
#define CLOCK_TRACE_ID 6
#define PACKET_MAX 2048
#define ARGUMENTS_MAX 12
#define TEXT_MAX 256

/* Tracks' numbers: groups, then 2^16 for each row. */
enum group { GROUP_VCPUS, GROUP_DEVICES, GROUPS };
#define GROUP_UUID(group) (1 + (uint64_t)(group))
#define ROW_UUID(group, index, lane)                                                               \
	((1 + (uint64_t)(group)) << 40 | (uint64_t)(index) << 16 | (uint64_t)(lane))

struct perfetto {
	struct view_context *view;
	struct export_stream *stream;
	bool begun; /* the first packet was written */
	bool groups[GROUPS];
	uint64_t lost;				     /* to be told with the next record */
	struct lanes rings[STORE_RINGS_MAX + 1];     /* the last: what was lost */
	struct lanes devices[STORE_DEVICES_MAX + 1]; /* the last: without a device */
};

/* A slice, or an instant where there is no room for one. */
struct slice {
	uint64_t begin_ns, end_ns;
	enum group group;
	uint32_t index; /* of the ring or device */
	char row[64];	/* its name */
	char name[64];
	size_t n_arguments;
	Perfetto__DebugAnnotation arguments[ARGUMENTS_MAX];
	char texts[ARGUMENTS_MAX][TEXT_MAX];
};

static int write_packet(struct perfetto *perfetto, Perfetto__TracePacket *packet)
{
	uint8_t bytes[PACKET_MAX + 16] = { 1 << 3 | 2 }; /* field 1 of the trace, with a length */
	size_t len, at = 1;

	packet->has_trusted_packet_sequence_id = true;
	packet->trusted_packet_sequence_id = SEQUENCE;
	packet->has_sequence_flags = !perfetto->begun;
	packet->sequence_flags = STATE_CLEARED;
	perfetto->begun = true;
	len = perfetto__trace_packet__get_packed_size(packet);
	if (len > PACKET_MAX)
		return -E2BIG;
	for (size_t rest = len; at == 1 || rest; rest >>= 7)
		bytes[at++] = (uint8_t)((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
	at += perfetto__trace_packet__pack(packet, bytes + at);
	return export_stream_write(perfetto->stream, bytes, at);
}

/* Timestamps are of the wall clock, which the trace's clock is set to. */
static int write_clock(struct perfetto *perfetto, uint64_t ns)
{
	Perfetto__ClockSnapshot__Clock clocks[2] = { PERFETTO__CLOCK_SNAPSHOT__CLOCK__INIT,
						     PERFETTO__CLOCK_SNAPSHOT__CLOCK__INIT };
	Perfetto__ClockSnapshot__Clock *list[2] = { &clocks[0], &clocks[1] };
	Perfetto__ClockSnapshot snapshot = PERFETTO__CLOCK_SNAPSHOT__INIT;
	Perfetto__TracePacket packet = PERFETTO__TRACE_PACKET__INIT;

	clocks[0].clock_id = CLOCK_REALTIME_ID;
	clocks[1].clock_id = CLOCK_TRACE_ID;
	for (size_t i = 0; i < ARRAY_SIZE(clocks); i++) {
		clocks[i].has_clock_id = clocks[i].has_timestamp = true;
		clocks[i].timestamp = ns;
	}
	snapshot.n_clocks = ARRAY_SIZE(list);
	snapshot.clocks = list;
	packet.clock_snapshot = &snapshot;
	packet.has_timestamp = true;
	packet.timestamp = ns;
	return write_packet(perfetto, &packet);
}

static int write_group(struct perfetto *perfetto, enum group group)
{
	static const char *const names[GROUPS] = { "vCPUs", "devices" };
	Perfetto__ProcessDescriptor process = PERFETTO__PROCESS_DESCRIPTOR__INIT;
	Perfetto__TrackDescriptor track = PERFETTO__TRACK_DESCRIPTOR__INIT;
	Perfetto__TracePacket packet = PERFETTO__TRACE_PACKET__INIT;
	char name[128];

	snprintf(name, sizeof(name), "%s: %s", perfetto->view->vm, names[group]);
	process.has_pid = true;
	process.pid = 1 + (int)group;
	process.process_name = name;
	track.has_uuid = true;
	track.uuid = GROUP_UUID(group);
	track.process = &process;
	packet.track_descriptor = &track;
	perfetto->groups[group] = true;
	return write_packet(perfetto, &packet);
}

static int write_row(struct perfetto *perfetto, const struct slice *slice, uint32_t lane)
{
	Perfetto__TrackDescriptor track = PERFETTO__TRACK_DESCRIPTOR__INIT;
	Perfetto__TracePacket packet = PERFETTO__TRACE_PACKET__INIT;
	char name[96];
	int r = perfetto->groups[slice->group] ? 0 : write_group(perfetto, slice->group);

	snprintf(name, sizeof(name), "%s", slice->row);
	if (lane)
		snprintf(name, sizeof(name), "%s #%" PRIu32, slice->row, lane + 1);
	track.has_uuid = track.has_parent_uuid = true;
	track.uuid = ROW_UUID(slice->group, slice->index, lane);
	track.parent_uuid = GROUP_UUID(slice->group);
	track.name = name;
	packet.track_descriptor = &track;
	return r < 0 ? r : write_packet(perfetto, &packet);
}

static int write_event(struct perfetto *perfetto, struct slice *slice, uint32_t lane,
		       Perfetto__TrackEvent__Type type)
{
	Perfetto__DebugAnnotation *arguments[ARGUMENTS_MAX];
	Perfetto__TrackEvent event = PERFETTO__TRACK_EVENT__INIT;
	Perfetto__TracePacket packet = PERFETTO__TRACE_PACKET__INIT;
	bool is_end = type == PERFETTO__TRACK_EVENT__TYPE__TYPE_SLICE_END;

	event.has_type = event.has_track_uuid = true;
	event.type = type;
	event.track_uuid = ROW_UUID(slice->group, slice->index, lane);
	if (!is_end) {
		for (size_t i = 0; i < slice->n_arguments; i++)
			arguments[i] = &slice->arguments[i];
		event.name = slice->name;
		event.n_debug_annotations = slice->n_arguments;
		event.debug_annotations = arguments;
	}
	packet.has_timestamp = true;
	packet.timestamp = is_end ? slice->end_ns : slice->begin_ns;
	packet.track_event = &event;
	return write_packet(perfetto, &packet);
}

static struct lanes *lanes_of(struct perfetto *perfetto, const struct slice *slice)
{
	return slice->group == GROUP_VCPUS ? &perfetto->rings[slice->index]
					   : &perfetto->devices[slice->index];
}

/* An instant on the first row, when it would cross others on all of them. */
static int draw(struct perfetto *perfetto, struct slice *slice, bool inside)
{
	struct lanes *lanes = lanes_of(perfetto, slice);
	uint32_t n = lanes->n, lane = LANES_MAX;
	int r = 0;

	if (inside)
		lane = lanes_place_inside(lanes, slice->begin_ns, slice->end_ns);
	if (lane == LANES_MAX)
		lane = lanes_place(lanes, slice->begin_ns, slice->end_ns);
	if (lanes->n > n)
		r = write_row(perfetto, slice, lane);
	if (r >= 0 && lane == LANES_MAX)
		return write_event(perfetto, slice, 0, PERFETTO__TRACK_EVENT__TYPE__TYPE_INSTANT);
	if (r >= 0)
		r = write_event(perfetto, slice, lane,
				PERFETTO__TRACK_EVENT__TYPE__TYPE_SLICE_BEGIN);
	if (r >= 0)
		r = write_event(perfetto, slice, lane, PERFETTO__TRACK_EVENT__TYPE__TYPE_SLICE_END);
	return r;
}

/* Arguments. */

static Perfetto__DebugAnnotation *add(struct slice *slice, const char *name)
{
	Perfetto__DebugAnnotation *argument = &slice->arguments[slice->n_arguments++];

	perfetto__debug_annotation__init(argument);
	argument->name = (char *)name;
	return argument;
}

static void add_number(struct slice *slice, const char *name, uint64_t value)
{
	Perfetto__DebugAnnotation *argument = add(slice, name);

	argument->has_uint_value = true;
	argument->uint_value = value;
}

/* The text's place, TEXT_MAX bytes, to be filled. */
static char *add_text(struct slice *slice, const char *name)
{
	char *text = slice->texts[slice->n_arguments];

	text[0] = '\0';
	add(slice, name)->string_value = text;
	return text;
}

static void add_access(struct perfetto *perfetto, struct slice *slice,
		       const struct watch_record *record)
{
	Perfetto__DebugAnnotation *argument;

	view_format_data(record, add_text(slice, "data"), TEXT_MAX);
	add_number(slice, "size", record->size);
	if (record->repeat)
		add_number(slice, "element", record->repeat);
	if (!view_has_instruction(record))
		return;
	view_format_instruction(perfetto->view, record, add_text(slice, "instruction"), TEXT_MAX);
	snprintf(add_text(slice, "verdict"), TEXT_MAX, "%s",
		 view_verdict_name(record->access.verdict));
	argument = add(slice, "rip");
	argument->has_pointer_value = true;
	argument->pointer_value = record->access.registers.rip;
}

static void add_request(struct slice *slice, const struct watch_record *record)
{
	if (record->kind == RECORD_DISK)
		add_number(slice, "offset", record->address);
	add_number(slice, "bytes", record->data);
	snprintf(add_text(slice, "status"), TEXT_MAX, "%s", view_status_name(record));
}

/* The same name for what is alike, so that Perfetto can sum it up. */
static void name_slice(struct slice *slice, const struct watch_record *record)
{
	char address[48];

	view_format_address(record, address, sizeof(address));
	snprintf(slice->name, sizeof(slice->name), "%s%s%s", view_operation_name(record),
		 record_is_access(record) ? " " : "", record_is_access(record) ? address : "");
}

static void slice_begin(struct perfetto *perfetto, struct slice *slice,
			const struct watch_record *record)
{
	const struct analysis_times *times = &perfetto->view->times;
	uint64_t ns = times->ticks_ns(times->ctx, record->duration);

	slice->n_arguments = 0;
	slice->begin_ns = times->wall_ns(times->ctx, record->begin);
	slice->end_ns = slice->begin_ns + MIN(ns, UINT64_MAX - slice->begin_ns);
	name_slice(slice, record);
	if (record_is_access(record))
		add_access(perfetto, slice, record);
	else
		add_request(slice, record);
}

static int draw_by_device(struct perfetto *perfetto, struct slice *slice,
			  const struct watch_record *record, uint32_t ring)
{
	slice->group = GROUP_DEVICES;
	slice->index = MIN(record->device, STORE_DEVICES_MAX);
	view_format_device(perfetto->view, record, slice->row, sizeof(slice->row));
	view_format_ring(perfetto->view, ring, add_text(slice, "by"), TEXT_MAX);
	return draw(perfetto, slice, false);
}

static int draw_by_ring(struct perfetto *perfetto, struct slice *slice,
			const struct watch_record *record, uint32_t ring)
{
	slice->group = GROUP_VCPUS;
	slice->index = ring;
	view_format_ring(perfetto->view, ring, slice->row, sizeof(slice->row));
	view_format_device(perfetto->view, record, add_text(slice, "device"), TEXT_MAX);
	return draw(perfetto, slice, record->flags & RECORD_NESTED);
}

/* A mark on a row of its own, where the gap ends. */
static int draw_lost(struct perfetto *perfetto, uint64_t ns)
{
	struct slice slice = { .begin_ns = ns,
			       .end_ns = ns,
			       .group = GROUP_VCPUS,
			       .index = STORE_RINGS_MAX,
			       .row = "lost",
			       .name = "lost" };

	if (!perfetto->lost)
		return 0;
	add_number(&slice, "records", perfetto->lost);
	perfetto->lost = 0;
	return draw(perfetto, &slice, false);
}

static int perfetto_record(void *state, const struct watch_record *record, uint32_t ring)
{
	struct perfetto *perfetto = state;
	struct slice slice;
	size_t n_arguments;
	int r = 0;

	if (ring >= STORE_RINGS_MAX)
		return 0;
	slice_begin(perfetto, &slice, record);
	if (!perfetto->begun)
		r = write_clock(perfetto, slice.begin_ns);
	if (r >= 0)
		r = draw_lost(perfetto, slice.begin_ns);
	n_arguments = slice.n_arguments;
	if (r >= 0 && record_is_access(record))
		r = draw_by_ring(perfetto, &slice, record, ring);
	slice.n_arguments = n_arguments;
	if (r >= 0)
		r = draw_by_device(perfetto, &slice, record, ring);
	return r < 0 ? r : 1;
}

static int perfetto_open(struct view_context *view, void **ret_state, struct error *err)
{
	_cleanup_(freep) struct perfetto *perfetto = calloc(1, sizeof(*perfetto));
	int r;

	if (!perfetto)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST,
				 "%s: out of memory; free some and try again", view->title);
	perfetto->view = view;
	r = export_stream_open(view->options.output, &perfetto->stream, err);
	if (r < 0)
		return r;
	*ret_state = TAKE_PTR(perfetto);
	return 0;
}

static int perfetto_lost(void *state, uint64_t records)
{
	((struct perfetto *)state)->lost += records;
	return 0;
}

static int perfetto_flush(void *state)
{
	return export_stream_flush(((struct perfetto *)state)->stream);
}

static int perfetto_close(void *state)
{
	_cleanup_(freep) struct perfetto *perfetto = state;

	return export_stream_close(perfetto->stream);
}

const struct export_format export_perfetto = {
	.open = perfetto_open,
	.record = perfetto_record,
	.lost = perfetto_lost,
	.flush = perfetto_flush,
	.close = perfetto_close,
};
