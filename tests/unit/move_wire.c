/* SPDX-License-Identifier: Apache-2.0 */
#include "move_wire.h"

#include <assert.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/endian.h"
#include "check.h"
#include "move/pages/missing.h"
#include "move_rig.h"

/* All streams, both ways; what was passed on already arrives. Nothing passes any more: false. */
static bool cut(struct move_wire *wire)
{
	for (uint32_t i = 0; i < wire->n_ends; i++) {
		shutdown(wire->ends[i].from, SHUT_RDWR);
		shutdown(wire->ends[i].to, SHUT_RDWR);
	}
	return false;
}

static bool read_whole(int fd, void *buf, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = read(fd, (char *)buf + at, len - at);

		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

static bool write_whole(int fd, const void *buf, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = send(fd, (const char *)buf + at, len - at, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		at += (size_t)n;
	}
	return true;
}

/* Whether the planned fault is this frame's: once. */
static bool is_due(struct move_wire *wire, uint16_t kind, bool *ret_muted)
{
	struct move_rig *rig = wire->rig;
	bool due;

	pthread_mutex_lock(&wire->lock);
	*ret_muted = wire->muted;
	due = rig->plan->fault != WIRE_WHOLE && rig->plan->at == kind && !rig->faulted &&
	      (wire->ran || !rig->plan->late) && wire->passed++ >= rig->plan->after;
	wire->ran |= kind == MOVE_ANSWER_RAN;
	rig->faulted |= due;
	wire->muted |= due && rig->plan->fault == WIRE_AFTER;
	pthread_mutex_unlock(&wire->lock);
	return due;
}

/* Until that way ends: who sends is taken all of it. */
static bool hold(struct move_wire_end *end)
{
	uint8_t bytes[4096];

	if (end->wire->rig->plan->hook)
		end->wire->rig->plan->hook(end->wire->rig);
	while (read(end->from, bytes, sizeof(bytes)) > 0)
		;
	return false;
}

static void wait_silently(struct move_wire *wire)
{
	while (clock_now(&clock_host) < __atomic_load_n(&wire->silent_until, __ATOMIC_ACQUIRE))
		usleep(10000);
}

static bool trickle(const struct move_wire_end *end, const uint8_t *bytes, size_t len)
{
	bool passes = true;

	for (size_t i = 0; passes && i < len; i++) {
		usleep(WIRE_SIGN_MS * 1000);
		passes = write_whole(end->to, bytes + i, 1);
	}
	return passes;
}

/* As somebody would who knows the protocol. Nothing else passes any more. */
static bool dribble(const struct move_wire_end *end, uint64_t serial)
{
	struct frame_writer writer = { .serial = serial };
	uint8_t about[WANTED_BYTES];
	int r = stream_plain(dup(end->to), WIRE_SIGN_MS, &writer.stream);

	wanted_put(0, 1, about);
	while (r == 0) {
		usleep(WIRE_SIGN_MS * 1000);
		r = frame_send(&writer, end->wire->rig->plan->dribble, about, sizeof(about));
	}
	stream_free(writer.stream);
	return false;
}

/* False: nothing more passes. */
static bool pass_frame(struct move_wire_end *end, uint8_t *payload)
{
	struct move_rig *rig = end->wire->rig;
	uint8_t header[FRAME_HEADER_BYTES];
	uint32_t len;
	bool due, muted;

	if (!read_whole(end->from, header, sizeof(header)))
		return false;
	len = (uint32_t)le_load(header + 16, 4);
	assert(len <= FRAME_MAX + 4);
	end->wire->passes(rig, le_load(header + 4, 2));
	due = is_due(end->wire, (uint16_t)le_load(header + 4, 2), &muted);
	if (!read_whole(end->from, payload, len))
		return false;
	if (muted || (due && rig->plan->fault == WIRE_CUT))
		return cut(end->wire);
	if (due && rig->plan->fault == WIRE_SILENT)
		__atomic_store_n(&end->wire->silent_until,
				 clock_now(&clock_host) + rig->plan->silent_ms * NSEC_PER_MSEC,
				 __ATOMIC_RELEASE);
	wait_silently(end->wire);
	if (due && rig->plan->fault == WIRE_TRICKLES)
		return trickle(end, header, sizeof(header)) && trickle(end, payload, len);
	if (due && rig->plan->fault == WIRE_DRIBBLES)
		return dribble(end, le_load(header + 8, 8));
	if (due && rig->plan->fault == WIRE_HELD)
		return hold(end);
	if (due && rig->plan->fault == WIRE_LATE)
		rig->plan->hook(rig);
	if (due && rig->plan->fault == WIRE_FLIP) {
		uint32_t at = rig->plan->byte ? rig->plan->byte - 1 : len / 2;

		assert(at < len || !len);
		*(len ? &payload[at] : &header[8]) ^= 0x10;
	}
	return write_whole(end->to, header, sizeof(header)) && write_whole(end->to, payload, len) &&
	       !(due && rig->plan->fault == WIRE_AFTER);
}

static bool pass_bytes(struct move_wire_end *end, uint8_t *bytes)
{
	ssize_t n = read(end->from, bytes, 4096);

	if (n <= 0)
		return false;
	if (end->flip_at > end->passed && end->flip_at <= end->passed + (uint64_t)n) {
		bytes[end->flip_at - end->passed - 1] ^= 0x10;
		end->wire->rig->faulted = true;
	}
	end->passed += (uint64_t)n;
	return write_whole(end->to, bytes, (size_t)n);
}

static void *wire_main(void *arg)
{
	struct move_wire_end *end = arg;
	uint8_t *bytes = malloc(FRAME_MAX + 4096);
	bool open = bytes != NULL;

	while (open)
		open = end->frames ? pass_frame(end, bytes) : pass_bytes(end, bytes);
	shutdown(end->to, SHUT_WR);
	free(bytes);
	return NULL;
}

static void lay_one_way(struct move_wire *wire, int from, int to, uint64_t flip_at)
{
	struct move_wire_end *end = &wire->ends[wire->n_ends++];

	*end = (struct move_wire_end){
		.wire = wire,
		.from = from,
		.to = to,
		.frames = !wire->rig->plan->tls,
		.flip_at = flip_at,
	};
}

static void lay_stream(struct move_wire *wire, uint32_t i)
{
	struct move_rig *rig = wire->rig;
	int here[2], there[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, here), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, there), 0);
	rig->source.job.streams[i] = here[0];
	rig->destination.job.streams[i] = there[0];
	lay_one_way(wire, here[1], there[1], i ? 0 : rig->plan->flip_at);
	lay_one_way(wire, there[1], here[1], 0);
}

/* The kernel's own wire: sends without copies, and nothing befalls it. */
static void connect_stream(struct move_rig *rig, uint32_t i)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int door = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int here = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(door, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(door, 1), 0);
	assert_int_equal(getsockname(door, (struct sockaddr *)&address, &len), 0);
	assert_int_equal(connect(here, (struct sockaddr *)&address, len), 0);
	rig->source.job.streams[i] = here;
	rig->destination.job.streams[i] = accept4(door, NULL, NULL, SOCK_CLOEXEC);
	assert_true(rig->destination.job.streams[i] >= 0);
	close(door);
}

void move_wire_open(struct move_wire *wire, struct move_rig *rig,
		    void (*passes)(struct move_rig *rig, uint64_t kind))
{
	*wire = (struct move_wire){ .rig = rig, .passes = passes };
	pthread_mutex_init(&wire->lock, NULL);
	for (uint32_t i = 0; i < rig->source.job.n_streams; i++)
		rig->plan->tcp ? connect_stream(rig, i) : lay_stream(wire, i);
	for (uint32_t i = 0; i < wire->n_ends; i++)
		assert_int_equal(
			pthread_create(&wire->ends[i].thread, NULL, wire_main, &wire->ends[i]), 0);
}

void move_wire_close(struct move_wire *wire)
{
	cut(wire);
	for (uint32_t i = 0; i < wire->n_ends; i++)
		pthread_join(wire->ends[i].thread, NULL);
	for (uint32_t i = 0; i < wire->n_ends; i += 2) {
		close(wire->ends[i].from);
		close(wire->ends[i].to);
	}
	pthread_mutex_destroy(&wire->lock);
}
