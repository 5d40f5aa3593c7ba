/* SPDX-License-Identifier: Apache-2.0 */
#include "device_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

#define WALL_2026 1767225600ULL

static void fail(const char *what, unsigned long long a, unsigned long long b)
{
	fprintf(stderr, "%s: 0x%llx and 0x%llx\n", what, a, b);
	abort();
}

static size_t stream_write(struct stream *stream, const void *buf, size_t len)
{
	struct rig_stream *s = container_of(stream, struct rig_stream, stream);
	size_t n = MIN(len, s->room);

	if (s->n < RIG_STREAM)
		memcpy(s->bytes + s->n, buf, MIN(n, RIG_STREAM - s->n));
	s->n += n;
	s->room -= n;
	return n;
}

static void stream_ready(struct stream *stream)
{
	container_of(stream, struct rig_stream, stream)->readies++;
}

void rig_init(struct device_rig *rig, uint64_t now_ns)
{
	*rig = (struct device_rig){
		.bus = bus_new(),
		.stream = { .stream = { .write = stream_write, .ready = stream_ready },
			    .room = MIB(1) },
	};
	fake_clock_init(&rig->clock, now_ns, WALL_2026 * NSEC_PER_SEC);
	rig->loop = loop_new(&rig->clock.clock);
	if (!rig->bus || !rig->loop)
		abort();
}

void rig_release(struct device_rig *rig)
{
	if (rig->device)
		rig->device->ops->destroy(rig->device);
	loop_free(rig->loop);
	bus_free(rig->bus);
}

static void line_set(void *ctx, uint32_t gsi, bool level)
{
	struct rig_line *line = &((struct device_rig *)ctx)->lines[gsi];

	line->rises += level && !line->level;
	line->level = level;
}

struct irq_line rig_line(struct device_rig *rig, uint32_t gsi)
{
	return (struct irq_line){ .set = line_set, .ctx = rig, .gsi = gsi };
}

uint64_t rig_access(struct device_rig *rig, enum bus_space space, uint64_t address,
		    unsigned int size, bool write, uint64_t data)
{
	struct bus_access access = {
		.space = space,
		.write = write,
		.size = (uint8_t)size,
		.address = address,
		.data = data,
	};

	bus_dispatch(rig->bus, &access);
	return access.data;
}

uint64_t rig_in(struct device_rig *rig, uint16_t port, unsigned int size)
{
	return rig_access(rig, BUS_PIO, port, size, false, 0);
}

void rig_out(struct device_rig *rig, uint16_t port, unsigned int size, uint64_t data)
{
	rig_access(rig, BUS_PIO, port, size, true, data);
}

/* Twice: what a callback armed for a time already past fires in the next turn. */
static void turn(struct device_rig *rig)
{
	if (loop_turn(rig->loop, 0) < 0 || loop_turn(rig->loop, 0) < 0)
		abort();
}

void rig_pass(struct device_rig *rig, uint64_t ns)
{
	fake_clock_advance(&rig->clock, ns);
	turn(rig);
}

void rig_run(struct device_rig *rig, uint64_t ns, uint64_t step)
{
	while (ns) {
		uint64_t now = MIN(ns, step);

		rig_pass(rig, now);
		ns -= now;
	}
}

void rig_save(struct device_rig *rig, struct buffer *out)
{
	struct device *device = rig->device;

	if (device->ops->before_save)
		device->ops->before_save(device);
	if (state_save(out, device->table, device->name, device->state) < 0)
		abort();
}

int rig_load(struct device_rig *rig, const struct device_rig *from, const struct buffer *in,
	     struct error *err)
{
	struct device *device = rig->device;
	struct cursor cursor = { .data = in->data, .left = in->len };
	struct state_section section;
	int r = state_next_section(&cursor, &section);

	if (r != 1)
		return r < 0 ? r : -EBADMSG;
	r = state_load(&section, device->table, device->state, err);
	if (r < 0)
		return r;
	if (from)
		memcpy(rig->lines, from->lines, sizeof(rig->lines));
	if (device->ops->after_load)
		r = device->ops->after_load(device, err);
	if (r == 0 && device->ops->start)
		r = device->ops->start(device, NULL, err);
	turn(rig);
	return r;
}

void rig_expect_equal(struct device_rig *a, struct device_rig *b)
{
	struct buffer sa, sb;
	const char *field;

	buffer_init(&sa, LIMIT_STATE_SECTION);
	buffer_init(&sb, LIMIT_STATE_SECTION);
	rig_save(a, &sa);
	rig_save(b, &sb);
	field = state_compare(a->device->table, a->device->state, b->device->state);
	if (field) {
		fprintf(stderr, "%s: field %s differs\n", a->device->name, field);
		abort();
	}
	for (size_t at = 0; at < MIN(sa.len, sb.len); at++) {
		if (sa.data[at] == sb.data[at])
			continue;
		fprintf(stderr, "%s: a clock field differs, at byte %zu of the section\n",
			a->device->name, at);
		abort();
	}
	buffer_release(&sa);
	buffer_release(&sb);
}

uint64_t rig_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 8;
}

void rig_expect_same_lines(const struct device_rig *a, const struct device_rig *b)
{
	for (unsigned int i = 0; i < RIG_LINES; i++) {
		if (a->lines[i].level != b->lines[i].level)
			fail("line's level", a->lines[i].level, b->lines[i].level);
		if (a->lines[i].rises != b->lines[i].rises)
			fail("line's rises", a->lines[i].rises, b->lines[i].rises);
	}
}

/* Mostly short waits, now and then a long one. */
static uint64_t random_wait(uint64_t *seed)
{
	uint64_t r = rig_random(seed);

	switch (r & 15) {
	case 0:
		return (r >> 4) % (10 * NSEC_PER_SEC);
	case 1 ... 4:
		return (r >> 4) % (20 * NSEC_PER_MSEC);
	case 5 ... 9:
		return (r >> 4) % (100 * NSEC_PER_USEC);
	default:
		return 0;
	}
}

void rig_random_run(struct device_rig *a, struct device_rig *b, const struct rig_port *ports,
		    size_t n_ports, unsigned int accesses, uint64_t *seed,
		    uint64_t (*ignore)(uint16_t port))
{
	while (accesses--) {
		const struct rig_port *port = &ports[rig_random(seed) % n_ports];
		bool write = rig_random(seed) & 1;
		uint64_t data = rig_random(seed), wait = random_wait(seed), va, vb;
		uint64_t mask = ignore ? ~ignore(port->port) : UINT64_MAX;

		va = rig_access(a, BUS_PIO, port->port, port->size, write, data);
		rig_pass(a, wait);
		if (!b)
			continue;
		vb = rig_access(b, BUS_PIO, port->port, port->size, write, data);
		rig_pass(b, wait);
		if (!write && ((va ^ vb) & mask))
			fail("read value", va, vb);
		rig_expect_same_lines(a, b);
	}
}
