/* SPDX-License-Identifier: Apache-2.0 */
#include "device/pit.h"

#include <errno.h>
#include <stdlib.h>

#include "device/output.h"
#include "device/pit_counter.h"
#include "device/timer.h"

#define PORT_COUNTERS 0x40
#define PORT_SPEAKER 0x61
#define COUNTERS 3
#define REG_CONTROL 3

/* Control word (data sheet, figure 7) and read-back command (figure 10). */
#define CONTROL_COUNTER(word) ((word) >> 6)
#define CONTROL_ACCESS 0x30
#define READ_BACK 3
#define READ_BACK_NO_COUNT 0x20
#define READ_BACK_NO_STATUS 0x10

/* Port 0x61 (ICH9 data sheet, 13.7.1). */
#define SPEAKER_GATE 0x01
#define SPEAKER_WRITABLE 0x0f /* gate, speaker, and the enables of two NMIs that never come */
#define SPEAKER_REFRESH 0x10
#define SPEAKER_OUTPUT 0x20

#define REFRESH_NS 15085ULL /* DRAM refresh: 18 pulses of the clock */

/* Two interrupts are never closer than this: ticks that come faster, or while we slept, are one. */
#define SHORTEST_NS (100 * NSEC_PER_USEC)

/* quiet_ns is CLOCK: time since the last interrupt as of the save, at most SHORTEST_NS. Interrupts that were due while the
 * machine stood still are one. */
struct pit_state {
	struct pit_counter counters[COUNTERS];
	uint8_t speaker; /* port 0x61's writable bits */
	uint64_t quiet_ns;
};

enum { REGION_COUNTERS, REGION_SPEAKER, REGIONS };

struct pit {
	struct device device;
	struct bus *bus;
	struct bus_region regions[REGIONS];
	const struct clock *clock;
	struct device_timer timer;
	/* under device.lock */
	struct output irq;
	uint64_t told; /* when the last interrupt was; may lie before the clock's 0 */
	struct pit_state state;
};

static int check(const void *state_ptr, struct error *err)
{
	const struct pit_state *s = state_ptr;
	bool good = !(s->speaker & ~SPEAKER_WRITABLE) && s->quiet_ns <= SHORTEST_NS;

	for (unsigned int i = 0; i < COUNTERS; i++)
		good = good && pit_counter_check(&s->counters[i]) == 0;
	/* The gates of counters 0 and 1 are wired high, that of counter 2 to port 0x61. */
	good = good && s->counters[0].gate && s->counters[1].gate &&
	       s->counters[2].gate == (s->speaker & SPEAKER_GATE);
	if (!good)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "pit: the saved state is not one that the device can have");
	return 0;
}

static const struct state_field pit_fields[] = {
	STATE_FIELD_STRUCTS(struct pit_state, counters, &pit_counter_table),
	STATE_FIELD_U8(struct pit_state, speaker),
	STATE_FIELD_KIND(struct pit_state, quiet_ns, STATE_U64, STATE_CLOCK),
};

static const struct state_table pit_table = {
	.name = "pit",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct pit_state),
	.fields = pit_fields,
	.n_fields = ARRAY_SIZE(pit_fields),
	.check = check,
};

/*
 * The interrupt line follows counter 0's output, but its falls come just before the next rise: the
 * controller's input must stay high until the CPU takes the interrupt, and a vCPU may be away for longer
 * than the high half of a square wave.
 */
static void irq_update(struct pit *pit, uint64_t now)
{
	struct pit_counter *counter = &pit->state.counters[0];

	if (now - pit->told >= SHORTEST_NS && pit_counter_take_edge(counter, now)) {
		output_set(&pit->irq, false);
		output_set(&pit->irq, true);
		pit->told = now;
	}
	if (counter->mode < 2 && !pit_counter_output(counter, now))
		output_set(&pit->irq, false);
}

/* When somebody has to look at counter 0 next. */
static uint64_t next_due(struct pit *pit, uint64_t now)
{
	struct pit_counter *counter = &pit->state.counters[0];
	uint64_t edge = pit_counter_next_edge(counter, now);

	if (counter->edge_owed)
		edge = now;
	return MAX(edge, pit->told + SHORTEST_NS);
}

static void update(struct pit *pit, uint64_t now)
{
	irq_update(pit, now);
	device_timer_set(&pit->timer, next_due(pit, now));
	device_touch(&pit->device);
}

static void timer_expired(struct device_timer *timer)
{
	struct pit *pit = container_of(timer, struct pit, timer);

	pthread_mutex_lock(&pit->device.lock);
	update(pit, clock_now(pit->clock));
	pthread_mutex_unlock(&pit->device.lock);
}

static void read_back(struct pit *pit, uint8_t word, uint64_t now)
{
	for (unsigned int i = 0; i < COUNTERS; i++) {
		if (!(word & 2U << i))
			continue;
		if (!(word & READ_BACK_NO_COUNT))
			pit_counter_latch_count(&pit->state.counters[i], now);
		if (!(word & READ_BACK_NO_STATUS))
			pit_counter_latch_status(&pit->state.counters[i], now);
	}
}

static void write_control(struct pit *pit, uint8_t word, uint64_t now)
{
	if (CONTROL_COUNTER(word) == READ_BACK)
		read_back(pit, word, now);
	else if (word & CONTROL_ACCESS)
		pit_counter_control(&pit->state.counters[CONTROL_COUNTER(word)], word, now);
	else
		pit_counter_latch_count(&pit->state.counters[CONTROL_COUNTER(word)], now);
}

/* Wider accesses reach the ports one after the other, as on the ISA bus. The control port cannot be read. */
static uint64_t counters_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct pit *pit = ctx;
	uint64_t now = clock_now(pit->clock), value = 0;

	for (unsigned int i = 0; i < size; i++, offset++)
		value |= (offset == REG_CONTROL
				  ? 0xffULL
				  : pit_counter_read(&pit->state.counters[offset], now))
			 << 8 * i;
	device_touch(&pit->device);
	return value;
}

static void counters_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct pit *pit = ctx;
	uint64_t now = clock_now(pit->clock);

	for (unsigned int i = 0; i < size; i++, offset++, data >>= 8)
		if (offset == REG_CONTROL)
			write_control(pit, (uint8_t)data, now);
		else
			pit_counter_write(&pit->state.counters[offset], (uint8_t)data, now);
	update(pit, now);
}

/* The refresh bit only has to toggle: its phase is no state, and starts anywhere after a move. */
static uint64_t speaker_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct pit *pit = ctx;
	uint64_t now = clock_now(pit->clock);
	uint8_t value = pit->state.speaker;

	if (now / REFRESH_NS & 1)
		value |= SPEAKER_REFRESH;
	if (pit_counter_output(&pit->state.counters[2], now))
		value |= SPEAKER_OUTPUT;
	return value;
}

static void speaker_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct pit *pit = ctx;

	pit->state.speaker = data & SPEAKER_WRITABLE;
	pit_counter_set_gate(&pit->state.counters[2], data & SPEAKER_GATE, clock_now(pit->clock));
	device_touch(&pit->device);
}

static const struct bus_ops counters_ops = { counters_read, counters_write };
static const struct bus_ops speaker_ops = { speaker_read, speaker_write };

static const struct bus_region region_list[REGIONS] = {
	[REGION_COUNTERS] = { "pit", BUS_PIO, PORT_COUNTERS, 4, &counters_ops },
	[REGION_SPEAKER] = { "pit.speaker", BUS_PIO, PORT_SPEAKER, 1, &speaker_ops },
};

static void power_on(struct pit *pit)
{
	struct pit_state *s = &pit->state;

	s->speaker = 0;
	for (unsigned int i = 0; i < COUNTERS; i++) {
		s->counters[i].gate = i < 2;
		pit_counter_reset(&s->counters[i]);
	}
	pit->told = clock_now(pit->clock) - SHORTEST_NS;
}

static void reset(struct device *device)
{
	struct pit *pit = container_of(device, struct pit, device);

	power_on(pit);
	output_forget(&pit->irq);
	update(pit, clock_now(pit->clock));
}

/* Tells nobody: the interrupt controllers may have been saved already. What is due stays owed. */
static void before_save(struct device *device)
{
	struct pit *pit = container_of(device, struct pit, device);
	uint64_t now = clock_now(pit->clock);

	device_touch(device);
	pit->state.quiet_ns = MIN(now - pit->told, SHORTEST_NS);
	for (unsigned int i = 0; i < COUNTERS; i++)
		pit_counter_save(&pit->state.counters[i], now);
}

static int after_load(struct device *device, struct error *err)
{
	struct pit *pit = container_of(device, struct pit, device);
	uint64_t now = clock_now(pit->clock), saved_at = now - device->stopped_ns;

	for (unsigned int i = 0; i < COUNTERS; i++)
		pit_counter_loaded(&pit->state.counters[i], saved_at);
	pit->told = saved_at - pit->state.quiet_ns;
	output_forget(&pit->irq);
	/* What is owed is told by the control loop, when all the machine is loaded. */
	device_timer_set(&pit->timer, now);
	return 0;
}

static void destroy(struct device *device)
{
	struct pit *pit = container_of(device, struct pit, device);

	for (unsigned int i = 0; i < REGIONS; i++)
		bus_remove(pit->bus, &pit->regions[i]);
	device_timer_release(&pit->timer);
	device_release(device);
	free(pit);
}

static const struct device_ops pit_ops = {
	.reset = reset,
	.before_save = before_save,
	.after_load = after_load,
	.destroy = destroy,
};

static int add_regions(struct pit *pit)
{
	int r = 0;

	for (unsigned int i = 0; i < REGIONS && r == 0; i++) {
		pit->regions[i] = region_list[i];
		pit->regions[i].ctx = pit;
		pit->regions[i].lock = &pit->device.lock;
		r = bus_add(pit->bus, &pit->regions[i]);
	}
	return r;
}

int pit_new(struct bus *bus, struct loop *loop, const struct irq_line *irq,
	    struct device **ret_device)
{
	struct pit *pit = calloc(1, sizeof(*pit));
	int r;

	if (!pit)
		return -ENOMEM;
	device_init(&pit->device, &pit_ops, "pit", &pit_table, &pit->state);
	pit->bus = bus;
	pit->clock = loop_clock(loop);
	output_init(&pit->irq, irq);
	power_on(pit);
	r = device_timer_init(&pit->timer, loop, timer_expired);
	if (r == 0)
		r = add_regions(pit);
	if (r < 0) {
		destroy(&pit->device);
		return r;
	}
	*ret_device = &pit->device;
	return 0;
}
