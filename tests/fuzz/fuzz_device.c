/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Register sequences against each device of the PC, with time, lines and console bytes between them, and
 * saved states damaged at will.
 *
 * covers: device/generation.c device/ioapic.c device/irqchip.c device/pic.c device/pit.c
 * covers: device/pit_counter.c device/power.c device/rtc.c device/rtc_time.c device/serial.c device/serial_fifo.c device/timer.c
 *
 *   input := device u8, op*
 *   op    := code u8, then what the code needs; the codes are listed at `ops`
 *
 * What must hold: nothing crashes; a device's own saved state is one that it accepts; a copy loaded from it
 * answers as the original does from then on.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "device/generation.h"
#include "device/irqchip.h"
#include "device/pit.h"
#include "device/power.h"
#include "device/rtc.h"
#include "device/serial.h"
#include "../unit/device_rig.h"

#define MAX_OPS 2000
#define ID_AT 0x1000
#define REFRESH_PERIODS                                                                            \
	(2 * 15085ULL) /* port 0x61's bit 4 has this period: a copy's clock differs by a multiple */

struct machine {
	const struct target *target;
	struct device_rig rig;
	struct irqchip *irqchip;
	struct memory *memory;
	uint64_t sums; /* of what left by other ways than registers: messages, events, routes */
};

struct range {
	enum bus_space space;
	uint64_t base;
	uint8_t len;
};

struct target {
	int (*create)(struct machine *m);
	void (*poke)(struct machine *m, uint8_t what, uint8_t value); /* the other sides */
	size_t n_ranges;
	struct range ranges[4];
};

static void sum(struct machine *m, uint64_t value)
{
	m->sums = (m->sums ^ value) * 0x100000001b3ULL;
}

static void sent(void *ctx, const struct msi_message *message)
{
	sum(ctx, message->address ^ message->data);
}

static void pic_changed(void *ctx, bool asserted)
{
	sum(ctx, asserted);
}

static void routes_changed(void *ctx, const struct msi_message messages[IRQCHIP_LINES])
{
	for (unsigned int i = 0; i < IRQCHIP_LINES; i++)
		sum(ctx, messages[i].address ^ messages[i].data);
}

static int create_irqchip(struct machine *m)
{
	const struct irqchip_host host = {
		.msi = { .send = sent, .ctx = m },
		.pic_changed = pic_changed,
		.routes_changed = routes_changed,
		.ctx = m,
	};
	int r = irqchip_new(m->rig.bus, &host, &m->irqchip);

	if (r == 0)
		m->rig.device = irqchip_device(m->irqchip);
	return r;
}

static void poke_irqchip(struct machine *m, uint8_t what, uint8_t value)
{
	struct irq_line line = irqchip_line(m->irqchip, value & 31);

	if (what & 0x80)
		sum(m, (uint64_t)irqchip_pic_acknowledge(m->irqchip));
	else if (what & 0x40)
		irqchip_eoi(m->irqchip, value);
	else
		irq_set(&line, what & 1);
}

static int create_pit(struct machine *m)
{
	const struct irq_line line = rig_line(&m->rig, 0);

	return pit_new(m->rig.bus, m->rig.loop, &line, &m->rig.device);
}

static int create_rtc(struct machine *m)
{
	const struct irq_line line = rig_line(&m->rig, 8);

	return rtc_new(m->rig.bus, m->rig.loop, &line, &m->rig.device);
}

static int create_serial(struct machine *m)
{
	const struct irq_line line = rig_line(&m->rig, 4);

	m->rig.stream.room = 10;
	return serial_new(m->rig.bus, 0x3f8, &line, &m->rig.stream.stream, &m->rig.device);
}

static void poke_serial(struct machine *m, uint8_t what, uint8_t value)
{
	static const char typed[] = "what somebody types at a console";
	struct stream *stream = &m->rig.stream.stream;

	if (what & 0x80) {
		m->rig.stream.room = value;
		stream->writable(stream->ctx);
	} else {
		sum(m, stream->received(stream->ctx, typed, value % sizeof(typed)));
	}
}

static void happened(void *ctx, enum power_event event)
{
	sum(ctx, event);
}

static int create_power(struct machine *m)
{
	const struct irq_line sci = rig_line(&m->rig, 9), ged = rig_line(&m->rig, 10);
	const struct power_host host = { .happened = happened, .ctx = m };

	return power_new(m->rig.bus, m->rig.loop, &sci, &ged, &host, &m->rig.device);
}

static void poke_power(struct machine *m, uint8_t what, uint8_t value)
{
	if (what & 0x80)
		sum(m, power_press_button(m->rig.device));
	else
		power_raise_event(m->rig.device, value);
}

static int create_generation(struct machine *m)
{
	static const uint8_t id[16] = "an incarnation";
	struct device *device;
	int r = memory_create(MIB(2), GIB(1), GIB(4), MEMORY_HUGE_OFF, -1, &m->memory, NULL);

	if (r == 0 && generation_new(m->memory, gpa(ID_AT + 4), id, &device) == 0)
		abort();
	return r < 0 ? r : generation_new(m->memory, gpa(ID_AT), id, &m->rig.device);
}

static void poke_generation(struct machine *m, uint8_t what, uint8_t value)
{
	uint8_t id[16];

	memset(id, what ^ value, sizeof(id));
	sum(m, (uint64_t)generation_renew(m->rig.device, id, NULL));
}

static void poke_nothing(struct machine *m, uint8_t what, uint8_t value)
{
	/* The loop has turned: time alone is all that reaches these devices. */
	rig_pass(&m->rig, (uint64_t)what * value);
}

static const struct target targets[] = {
	{ create_irqchip,
	  poke_irqchip,
	  4,
	  { { BUS_PIO, 0x20, 2 },
	    { BUS_PIO, 0xa0, 2 },
	    { BUS_PIO, 0x4d0, 2 },
	    { BUS_MMIO, IRQCHIP_IOAPIC_BASE, 0x44 } } },
	{ create_pit, poke_nothing, 2, { { BUS_PIO, 0x40, 4 }, { BUS_PIO, 0x61, 1 } } },
	{ create_rtc, poke_nothing, 1, { { BUS_PIO, 0x70, 2 } } },
	{ create_serial, poke_serial, 1, { { BUS_PIO, 0x3f8, 8 } } },
	{ create_power,
	  poke_power,
	  4,
	  { { BUS_PIO, 0x600, 12 },
	    { BUS_PIO, 0x620, 4 },
	    { BUS_PIO, 0xcf9, 1 },
	    { BUS_PIO, 0x60, 5 } } },
	{ create_generation, poke_generation, 0, { { 0 } } },
};

static struct machine *machine_new(const struct target *target, uint64_t now)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		abort();
	m->target = target;
	rig_init(&m->rig, now);
	if (target->create(m) < 0)
		abort();
	return m;
}

static void machine_free(struct machine *m)
{
	if (!m)
		return;
	rig_release(&m->rig);
	memory_free(m->memory);
	free(m);
}

struct run {
	const struct target *target;
	struct cursor in;
	struct machine *a, *b; /* `b`: the copy, or NULL */
};

static void expect(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

/* What the original does the copy does too. */
static void both(struct run *run, void (*do_it)(struct machine *m, void *arg), void *arg)
{
	do_it(run->a, arg);
	if (!run->b)
		return;
	do_it(run->b, arg);
	expect(run->a->sums == run->b->sums, "the copy sends something else");
	expect(run->a->rig.stream.n == run->b->rig.stream.n, "the copy writes something else");
	rig_expect_same_lines(&run->a->rig, &run->b->rig);
}

struct access {
	enum bus_space space;
	uint64_t address;
	unsigned int size;
	bool write;
	uint64_t data;
};

static void do_access(struct machine *m, void *arg)
{
	const struct access *a = arg;
	uint64_t answer = rig_access(&m->rig, a->space, a->address, a->size, a->write, a->data);

	if (!a->write)
		sum(m, answer);
	rig_pass(&m->rig, 0);
}

static void op_access(struct run *run, bool write)
{
	uint8_t where = (uint8_t)cursor_take_le(&run->in, 1);
	const struct range *range =
		&run->target
			 ->ranges[run->target->n_ranges ? (where >> 6) % run->target->n_ranges : 0];
	struct access access = { .space = range->space, .write = write };

	if (!range->len)
		return;
	access.address = range->base + (where & 15) % range->len;
	if (range->space == BUS_MMIO) /* the window's registers are 16 bytes apart */
		access.address = range->base + (where & 7) % 5 * 16;
	access.size = range->space == BUS_MMIO && !(where & 8) ? 4 : 1U << (where >> 4 & 3);
	if (write)
		access.data = cursor_take_le(&run->in, MIN(access.size, 4));
	both(run, do_access, &access);
}

static void do_pass(struct machine *m, void *arg)
{
	rig_pass(&m->rig, *(uint64_t *)arg);
}

/* From nanoseconds to days. */
static void op_pass(struct run *run)
{
	uint8_t exponent = (uint8_t)cursor_take_le(&run->in, 1);
	uint64_t ns = (cursor_take_le(&run->in, 1) + 1) << exponent % 40;

	both(run, do_pass, &ns);
}

static void do_poke(struct machine *m, void *arg)
{
	const uint8_t *bytes = arg;

	m->target->poke(m, bytes[0], bytes[1]);
}

static void op_poke(struct run *run)
{
	uint8_t bytes[2];

	bytes[0] = (uint8_t)cursor_take_le(&run->in, 1);
	bytes[1] = (uint8_t)cursor_take_le(&run->in, 1);
	both(run, do_poke, bytes);
}

static void do_reset(struct machine *m, void *arg)
{
	struct device *device = m->rig.device;

	(void)arg;
	pthread_mutex_lock(&device->lock);
	if (device->ops->reset)
		device->ops->reset(device);
	pthread_mutex_unlock(&device->lock);
	rig_pass(&m->rig, 0);
}

static void op_reset(struct run *run)
{
	both(run, do_reset, NULL);
}

/* A second device takes over from here, beside the first. The controllers tell anew where they lead, and what the
 * stream had room for is its own. */
static void op_copy(struct run *run)
{
	struct machine *a = run->a, *b;
	struct error err = { 0 };
	struct buffer saved;

	machine_free(run->b);
	run->b = b = machine_new(run->target, a->rig.clock.now_ns + 1000 * REFRESH_PERIODS);
	b->rig.stream.room = a->rig.stream.room;
	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(&a->rig, &saved);
	expect(rig_load(&b->rig, &a->rig, &saved, &err) == 0, "a device refuses its own state");
	buffer_release(&saved);
	rig_pass(&a->rig, 0);
	do_access(a, &(struct access){ .address = 0xffff, .size = 1 });
	do_access(b, &(struct access){ .address = 0xffff, .size = 1 });
	b->sums = a->sums;
	b->rig.stream.n = a->rig.stream.n;
	memcpy(b->rig.lines, a->rig.lines, sizeof(b->rig.lines));
	rig_expect_equal(&a->rig, &b->rig);
}

/* A saved state with some bytes changed: refused, or a state to go on from. The copy is given up. */
static void op_damage(struct run *run)
{
	struct error err = { 0 };
	struct buffer saved;
	unsigned int n = (unsigned int)cursor_take_le(&run->in, 1) % 8;

	machine_free(run->b);
	run->b = NULL;
	buffer_init(&saved, LIMIT_STATE_SECTION);
	rig_save(&run->a->rig, &saved);
	while (n--) {
		size_t at = (size_t)cursor_take_le(&run->in, 2) % saved.len;

		saved.data[at] ^= (uint8_t)cursor_take_le(&run->in, 1);
	}
	(void)!rig_load(&run->a->rig, NULL, &saved, &err);
	buffer_release(&saved);
}

static void op_read(struct run *run)
{
	op_access(run, false);
}

static void op_write(struct run *run)
{
	op_access(run, true);
}

static void (*const ops[16])(struct run *run) = {
	op_read, op_read, op_read, op_read, op_write, op_write,	 op_write, op_write,
	op_pass, op_pass, op_poke, op_poke, op_copy,  op_damage, op_reset, op_write,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run run = { .in = { .data = data, .left = size } };

	run.target = &targets[cursor_take_le(&run.in, 1) % ARRAY_SIZE(targets)];
	run.a = machine_new(run.target, 5 * NSEC_PER_SEC);
	for (unsigned int i = 0; i < MAX_OPS && run.in.left; i++)
		ops[cursor_take_le(&run.in, 1) & 15](&run);
	/* Whatever happened: the state is one that another accepts. */
	op_copy(&run);
	machine_free(run.a);
	machine_free(run.b);
	return 0;
}
