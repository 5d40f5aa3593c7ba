/* SPDX-License-Identifier: Apache-2.0 */
#include "device/pit_counter.h"

#include <errno.h>

#include "base/macros.h"

#define ACCESS_LATCH 0
#define ACCESS_LOW 1
#define ACCESS_HIGH 2
#define ACCESS_BOTH 3

#define STATUS_OUTPUT 0x80
#define STATUS_NULL_COUNT 0x40

#define COUNT_LIMIT 65536U

static const struct state_field counter_fields[] = {
	STATE_FIELD_U8(struct pit_counter, mode),
	STATE_FIELD_U8(struct pit_counter, bcd),
	STATE_FIELD_U8(struct pit_counter, access),
	STATE_FIELD_U8(struct pit_counter, gate),
	STATE_FIELD_U8(struct pit_counter, write_high),
	STATE_FIELD_U8(struct pit_counter, low),
	STATE_FIELD_U8(struct pit_counter, read_high),
	STATE_FIELD_U8(struct pit_counter, latched),
	STATE_FIELD_U16(struct pit_counter, latch),
	STATE_FIELD_U8(struct pit_counter, status_latched),
	STATE_FIELD_U8(struct pit_counter, status),
	STATE_FIELD_U8(struct pit_counter, null_count),
	STATE_FIELD_U8(struct pit_counter, loaded),
	STATE_FIELD_U8(struct pit_counter, counting),
	STATE_FIELD_KIND(struct pit_counter, edge_owed, STATE_U8, STATE_CLOCK),
	STATE_FIELD_U32(struct pit_counter, written),
	STATE_FIELD_U32(struct pit_counter, count),
	STATE_FIELD_U64(struct pit_counter, load_at),
	STATE_FIELD_KIND(struct pit_counter, elapsed_ns, STATE_U64, STATE_CLOCK),
	STATE_FIELD_KIND(struct pit_counter, edges, STATE_U64, STATE_CLOCK),
};

const struct state_table pit_counter_table = {
	.name = "counter",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct pit_counter),
	.fields = counter_fields,
	.n_fields = ARRAY_SIZE(counter_fields),
};

int pit_counter_check(const struct pit_counter *c)
{
	uint8_t flags = c->bcd | c->gate | c->write_high | c->read_high | c->latched |
			c->status_latched | c->null_count | c->loaded | c->counting | c->edge_owed;

	if (c->mode > 5 || flags > 1 || c->access < ACCESS_LOW || c->access > ACCESS_BOTH)
		return -EINVAL;
	if (c->written < 1 || c->written > COUNT_LIMIT || c->count < 1 || c->count > COUNT_LIMIT)
		return -EINVAL;
	return c->elapsed_ns > INT64_MAX ? -EINVAL : 0;
}

void pit_counter_reset(struct pit_counter *c)
{
	*c = (struct pit_counter){
		.access = ACCESS_BOTH,
		.gate = c->gate,
		.null_count = 1,
		.written = COUNT_LIMIT,
		.count = COUNT_LIMIT,
	};
}

/* The first nanosecond at which `ticks` pulses of the clock have been. */
static uint64_t ticks_to_ns(uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * NSEC_PER_SEC + PIT_HZ - 1) / PIT_HZ);
}

static uint64_t ticks_at(const struct pit_counter *c, uint64_t now)
{
	uint64_t ns = c->counting ? now - c->started : c->elapsed_ns;

	return (uint64_t)((unsigned __int128)ns * PIT_HZ / NSEC_PER_SEC);
}

static bool periodic(const struct pit_counter *c)
{
	return c->mode == 2 || c->mode == 3;
}

/* Modes 1 and 5: the gate's rising edge begins, its level does not matter. */
static bool triggered(const struct pit_counter *c)
{
	return c->mode == 1 || c->mode == 5;
}

/* Mode 3, "odd counts": the output is high for one pulse more than it is low. */
static uint32_t high_ticks(uint32_t count)
{
	return (count + 1) / 2;
}

/* Rising edges of OUT in the first `ticks` since the load. */
static uint64_t edges_at(const struct pit_counter *c, uint64_t ticks)
{
	if (!c->loaded)
		return 0;
	switch (c->mode) {
	case 0:
	case 1:
		return ticks >= c->count;
	case 2:
	case 3:
		return ticks / c->count;
	default: /* the strobe lasts one pulse */
		return ticks > c->count;
	}
}

static void account_edges(struct pit_counter *c, uint64_t ticks)
{
	uint64_t edges = edges_at(c, ticks);

	if (edges > c->edges)
		c->edge_owed = 1;
	c->edges = edges;
}

/* A new count takes over at the end of a period, in mode 3 also of a half: then the low half is the new
 * count's. */
static void take_over(struct pit_counter *c)
{
	bool half = c->load_at % c->count != 0;

	account_edges(c, c->load_at);
	c->started += ticks_to_ns(c->load_at);
	c->count = c->written;
	if (half)
		c->started -= ticks_to_ns(high_ticks(c->count));
	c->null_count = 0;
	c->load_at = 0;
	c->edges = 0;
}

/* Brings the counter up to now; returns the ticks since the load. */
static uint64_t settle(struct pit_counter *c, uint64_t now)
{
	uint64_t ticks = ticks_at(c, now);

	if (c->loaded && c->counting && c->null_count && periodic(c) && ticks >= c->load_at) {
		take_over(c);
		ticks = ticks_at(c, now);
	}
	account_edges(c, ticks);
	return ticks;
}

/* Begins to count from what was written. */
static void load(struct pit_counter *c, uint64_t now)
{
	c->count = c->written;
	c->null_count = 0;
	c->loaded = 1;
	c->counting = c->gate || triggered(c);
	c->started = now;
	c->elapsed_ns = 0;
	c->edges = 0;
	c->load_at = 0;
}

static uint32_t modulus(const struct pit_counter *c)
{
	return c->bcd ? 10000 : COUNT_LIMIT;
}

static uint32_t from_digits(uint16_t digits)
{
	return (digits >> 12) * 1000U + (digits >> 8 & 15) * 100U + (digits >> 4 & 15) * 10U +
	       (digits & 15);
}

static uint16_t to_digits(uint32_t value)
{
	return value / 1000 << 12 | value / 100 % 10 << 8 | value / 10 % 10 << 4 | value % 10;
}

/* Mode 3 counts in twos, an odd count from the even number below it. */
static uint32_t square_value(const struct pit_counter *c, uint64_t ticks)
{
	uint32_t at = (uint32_t)(ticks % c->count), high = high_ticks(c->count);

	if (at >= high)
		at -= high;
	return (c->count & ~1U) - 2 * at;
}

/* The counting element as it is read. Before a load it is undefined on the chip. */
static uint16_t value_at(const struct pit_counter *c, uint64_t ticks)
{
	uint32_t value, m = modulus(c);

	if (c->mode == 2)
		value = c->count - (uint32_t)(ticks % c->count);
	else if (c->mode == 3)
		value = square_value(c, ticks);
	else /* goes on below 0 */
		value = c->count + m - (uint32_t)(ticks % m);
	value %= m;
	return c->bcd ? to_digits(value) : (uint16_t)value;
}

static bool output_at(const struct pit_counter *c, uint64_t ticks)
{
	if (!c->loaded)
		return c->mode != 0;
	switch (c->mode) {
	case 0:
	case 1:
		return ticks >= c->count;
	case 2: /* a gate that is low holds the output high */
		return !c->counting || ticks % c->count != c->count - 1;
	case 3:
		return !c->counting || ticks % c->count < high_ticks(c->count);
	default:
		return ticks != c->count;
	}
}

bool pit_counter_output(struct pit_counter *c, uint64_t now)
{
	return output_at(c, settle(c, now));
}

void pit_counter_control(struct pit_counter *c, uint8_t word, uint64_t now)
{
	bool before = pit_counter_output(c, now);
	uint8_t mode = word >> 1 & 7;

	c->mode = mode > 5 ? mode - 4 : mode; /* modes 2 and 3 ignore the top bit */
	c->bcd = word & 1;
	c->access = word >> 4 & 3;
	c->write_high = c->low = c->read_high = 0;
	c->latched = c->status_latched = c->status = 0;
	c->latch = 0;
	c->null_count = 1;
	c->loaded = c->counting = 0;
	c->elapsed_ns = c->edges = c->load_at = 0;
	if (!before && c->mode != 0)
		c->edge_owed = 1;
}

void pit_counter_latch_count(struct pit_counter *c, uint64_t now)
{
	if (c->latched)
		return; /* "ignored until the latched count is read" */
	c->latch = value_at(c, settle(c, now));
	c->latched = 1;
}

void pit_counter_latch_status(struct pit_counter *c, uint64_t now)
{
	if (c->status_latched)
		return;
	c->status = (uint8_t)(c->access << 4 | c->mode << 1 | c->bcd);
	if (pit_counter_output(c, now))
		c->status |= STATUS_OUTPUT;
	if (c->null_count)
		c->status |= STATUS_NULL_COUNT;
	c->status_latched = 1;
}

/* The whole count has been written. */
static void count_written(struct pit_counter *c, uint16_t value, uint64_t now)
{
	uint64_t ticks = settle(c, now);
	uint64_t into;

	c->written = c->bcd ? from_digits(value) : value;
	if (!c->written)
		c->written = modulus(c);
	c->null_count = 1;
	if (triggered(c))
		return; /* waits for the gate */
	if (!periodic(c) || !c->loaded) {
		load(c, now);
		return;
	}
	into = ticks % c->count;
	if (c->mode == 3 && into < high_ticks(c->count) && c->count > 1)
		c->load_at = ticks - into + high_ticks(c->count);
	else
		c->load_at = ticks - into + c->count;
}

void pit_counter_write(struct pit_counter *c, uint8_t value, uint64_t now)
{
	switch (c->access) {
	case ACCESS_LOW:
		count_written(c, value, now);
		return;
	case ACCESS_HIGH:
		count_written(c, value << 8, now);
		return;
	}
	c->write_high ^= 1;
	if (!c->write_high) {
		count_written(c, value << 8 | c->low, now);
		c->low = 0;
		return;
	}
	settle(c, now);
	c->low = value;
	if (c->mode == 0) { /* "Writing the first byte disables counting. OUT is set low" */
		c->loaded = c->counting = 0;
		c->elapsed_ns = c->edges = 0;
	}
}

static uint8_t read_half(struct pit_counter *c, uint16_t value)
{
	bool high = c->access == ACCESS_HIGH || c->read_high;

	if (c->access == ACCESS_BOTH)
		c->read_high ^= 1;
	if (!c->read_high) {
		c->latched = 0;
		c->latch = 0;
	}
	return high ? value >> 8 : (uint8_t)value;
}

uint8_t pit_counter_read(struct pit_counter *c, uint64_t now)
{
	uint8_t status = c->status;

	if (c->status_latched) {
		c->status_latched = c->status = 0;
		return status;
	}
	return read_half(c, c->latched ? c->latch : value_at(c, settle(c, now)));
}

static void gate_rises(struct pit_counter *c, uint64_t now)
{
	/* In modes 1, 2, 3 and 5 the rising gate starts anew; in the others counting goes on. */
	if (triggered(c) || (periodic(c) && c->loaded)) {
		load(c, now);
	} else if (c->loaded) {
		c->counting = 1;
		c->started = now - c->elapsed_ns;
	}
}

static void gate_falls(struct pit_counter *c, uint64_t now)
{
	if (triggered(c) || !c->counting)
		return;
	c->elapsed_ns = periodic(c) ? 0 : now - c->started;
	if (periodic(c))
		c->edges = 0;
	c->counting = 0;
}

void pit_counter_set_gate(struct pit_counter *c, bool level, uint64_t now)
{
	if (c->gate == level)
		return;
	settle(c, now);
	c->gate = level;
	if (level)
		gate_rises(c, now);
	else
		gate_falls(c, now);
}

bool pit_counter_take_edge(struct pit_counter *c, uint64_t now)
{
	bool owed;

	settle(c, now);
	owed = c->edge_owed;
	c->edge_owed = 0;
	return owed;
}

uint64_t pit_counter_next_edge(struct pit_counter *c, uint64_t now)
{
	uint64_t ticks = settle(c, now), at;

	if (!c->loaded || !c->counting)
		return PIT_NEVER;
	if (periodic(c)) {
		at = (ticks / c->count + 1) * c->count;
		if (c->null_count)
			at = MIN(at, c->load_at);
	} else {
		at = c->count + (c->mode >= 4);
		if (ticks >= at)
			return PIT_NEVER;
	}
	return c->started + ticks_to_ns(at);
}

void pit_counter_save(struct pit_counter *c, uint64_t now)
{
	settle(c, now);
	if (c->counting)
		c->elapsed_ns = now - c->started;
}

void pit_counter_loaded(struct pit_counter *c, uint64_t now)
{
	c->started = now - c->elapsed_ns;
}
