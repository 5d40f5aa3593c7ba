/* SPDX-License-Identifier: Apache-2.0 */
#include "device/rtc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device/output.h"
#include "device/rtc_internal.h"
#include "device/timer.h"

#define PORT_INDEX 0x70 /* bit 7 masks the NMI, of which there is none */

#define OSCILLATOR_HZ 32768ULL

/* Data sheet, "Update cycle": UIP rises 244 us before an update, which takes 1984 us. Here the time changes all at
 * once at the end of that span, so what is read outside of it is good for as long as the data sheet says. */
#define UPDATE_NS ((244 + 1984) * NSEC_PER_USEC)

#define SECONDS_LIMIT                                                                              \
	(1LL << 40) /* either way from 1970: beyond what the year and century can say */

struct rtc {
	struct device device;
	struct bus *bus;
	struct bus_region region;
	const struct clock *clock;
	struct device_timer timer;
	/* under device.lock */
	struct output irq;
	uint64_t origin;
	struct rtc_state state;
};

static int check(const void *state_ptr, struct error *err)
{
	const struct rtc_state *s = state_ptr;
	int64_t seconds = (int64_t)s->seconds;

	if (s->index >= CMOS_SIZE || s->weekday_shift > 6 || s->fraction_ns >= NSEC_PER_SEC ||
	    seconds >= SECONDS_LIMIT || seconds <= -SECONDS_LIMIT || s->periods > OSCILLATOR_HZ ||
	    s->cmos[REG_A] & A_UPDATING)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "rtc: the saved state is not one that the device can have");
	return 0;
}

static const struct state_field rtc_fields[] = {
	STATE_FIELD_U8(struct rtc_state, index),
	STATE_FIELD_U8(struct rtc_state, weekday_shift),
	STATE_FIELD_BYTES(struct rtc_state, cmos),
	STATE_FIELD_KIND(struct rtc_state, seconds, STATE_U64, STATE_CLOCK),
	STATE_FIELD_KIND(struct rtc_state, fraction_ns, STATE_U64, STATE_CLOCK),
	STATE_FIELD_KIND(struct rtc_state, periods, STATE_U32, STATE_CLOCK),
};

static const struct state_table rtc_table = {
	.name = "rtc",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct rtc_state),
	.fields = rtc_fields,
	.n_fields = ARRAY_SIZE(rtc_fields),
	.check = check,
};

static bool divider_held(const struct rtc_state *s)
{
	return (s->cmos[REG_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
}

static bool frozen(const struct rtc_state *s)
{
	return (s->cmos[REG_B] & B_SET) || divider_held(s);
}

/* Length of the periodic interrupt in the oscillator's ticks; 0: off (data sheet, table 5). */
static uint32_t period_ticks(const struct rtc_state *s)
{
	unsigned int rate = s->cmos[REG_A] & A_RATE;

	if (rate == 0)
		return 0;
	return 1U << (rate < 3 ? rate + 6 : rate - 1);
}

/* Whole periods in the first `ns` (less than a second) after a second boundary. */
static uint32_t periods_in(const struct rtc_state *s, uint64_t ns)
{
	uint32_t ticks = period_ticks(s);

	return ticks ? (uint32_t)(ns * OSCILLATOR_HZ / NSEC_PER_SEC) / ticks : 0;
}

/* `whole` seconds have passed: the registers follow, unless SET holds them. */
static void seconds_pass(struct rtc_state *s, uint64_t whole)
{
	unsigned int alarm = rtc_alarm_distance(s);

	if (s->cmos[REG_B] & B_SET)
		return;
	s->cmos[REG_C] |= B_UPDATE;
	if (alarm && alarm <= whole)
		s->cmos[REG_C] |= B_ALARM;
	s->seconds += whole;
}

/* Brings time and flags up to now. */
static void settle(struct rtc *rtc)
{
	struct rtc_state *s = &rtc->state;
	uint64_t elapsed = clock_now(rtc->clock) - rtc->origin;
	uint64_t whole = elapsed / NSEC_PER_SEC;
	uint32_t periods = periods_in(s, elapsed % NSEC_PER_SEC);

	if (divider_held(s))
		return;
	if (period_ticks(s) && (whole || periods > s->periods))
		s->cmos[REG_C] |= B_PERIODIC;
	s->periods = periods;
	if (whole) {
		seconds_pass(s, whole);
		rtc->origin += whole * NSEC_PER_SEC;
	}
}

/* When somebody has to look next. Nobody while the interrupt asks already: it says the same until C is read, so a
 * guest that does not look is not counted for. */
static uint64_t next_due(const struct rtc *rtc)
{
	const struct rtc_state *s = &rtc->state;
	uint8_t enabled = s->cmos[REG_B];
	uint64_t due = DEVICE_TIMER_NEVER, ticks;

	if ((s->cmos[REG_C] & enabled & B_INTERRUPTS) || divider_held(s))
		return DEVICE_TIMER_NEVER;
	if ((enabled & B_PERIODIC) && period_ticks(s)) {
		ticks = (s->periods + 1ULL) * period_ticks(s);
		due = rtc->origin + (ticks * NSEC_PER_SEC + OSCILLATOR_HZ - 1) / OSCILLATOR_HZ;
	}
	if (enabled & B_SET)
		return due;
	if (enabled & B_UPDATE)
		due = MIN(due, rtc->origin + NSEC_PER_SEC);
	if ((enabled & B_ALARM) && rtc_alarm_distance(s))
		due = MIN(due, rtc->origin + rtc_alarm_distance(s) * NSEC_PER_SEC);
	return due;
}

static void update(struct rtc *rtc)
{
	const struct rtc_state *s = &rtc->state;

	output_set(&rtc->irq, s->cmos[REG_C] & s->cmos[REG_B] & B_INTERRUPTS);
	device_timer_set(&rtc->timer, next_due(rtc));
	device_touch(&rtc->device);
}

static void timer_expired(struct device_timer *timer)
{
	struct rtc *rtc = container_of(timer, struct rtc, timer);

	pthread_mutex_lock(&rtc->device.lock);
	settle(rtc);
	update(rtc);
	pthread_mutex_unlock(&rtc->device.lock);
}

static uint8_t read_a(const struct rtc *rtc)
{
	const struct rtc_state *s = &rtc->state;
	uint64_t fraction = clock_now(rtc->clock) - rtc->origin;
	bool updating = !frozen(s) && fraction >= NSEC_PER_SEC - UPDATE_NS;

	return s->cmos[REG_A] | (updating ? A_UPDATING : 0);
}

/* Reading the flags clears them. */
static uint8_t read_c(struct rtc_state *s)
{
	uint8_t flags = s->cmos[REG_C];

	s->cmos[REG_C] = 0;
	return flags & s->cmos[REG_B] & B_INTERRUPTS ? flags | C_REQUEST : flags;
}

static uint8_t read_time(const struct rtc_state *s)
{
	struct rtc_state now = *s;

	rtc_registers_from_time(&now);
	return now.cmos[s->index];
}

static uint8_t read_register(struct rtc *rtc)
{
	struct rtc_state *s = &rtc->state;

	if (rtc_is_time(s->index) && !frozen(s))
		return read_time(s);
	switch (s->index) {
	case REG_A:
		return read_a(rtc);
	case REG_C:
		return read_c(s);
	case REG_D:
		return D_VALID;
	default:
		return s->cmos[s->index];
	}
}

/* A or B has changed: the time moves between `seconds` and the registers. `before` is the state before. */
static void freeze_or_thaw(struct rtc *rtc, const struct rtc_state *before)
{
	struct rtc_state *s = &rtc->state;
	uint8_t format = s->cmos[REG_B];

	if (!frozen(before) && frozen(s)) {
		/* in the format that held until now */
		s->cmos[REG_B] = before->cmos[REG_B];
		rtc_registers_from_time(s);
		s->cmos[REG_B] = format;
	} else if (frozen(before) && !frozen(s)) {
		rtc_time_from_registers(s);
	}
}

/* "The first update occurs one half second after the divider's reset is removed." */
static void write_a(struct rtc *rtc, uint8_t value)
{
	struct rtc_state *s = &rtc->state, before = *s;
	uint64_t now = clock_now(rtc->clock);

	s->cmos[REG_A] = value & A_WRITABLE;
	if (divider_held(s))
		rtc->origin = now;
	else if (divider_held(&before))
		rtc->origin = now - NSEC_PER_SEC / 2;
	s->periods = divider_held(s) ? 0 : periods_in(s, now - rtc->origin);
	freeze_or_thaw(rtc, &before);
}

static void write_b(struct rtc *rtc, uint8_t value)
{
	struct rtc_state *s = &rtc->state, before = *s;

	/* "SET going high clears UIE." */
	if (value & ~before.cmos[REG_B] & B_SET)
		value &= ~B_UPDATE;
	s->cmos[REG_B] = value;
	freeze_or_thaw(rtc, &before);
}

static void write_time(struct rtc_state *s, uint8_t value)
{
	rtc_registers_from_time(s);
	s->cmos[s->index] = value;
	rtc_time_from_registers(s);
}

static void write_register(struct rtc *rtc, uint8_t value)
{
	struct rtc_state *s = &rtc->state;

	if (rtc_is_time(s->index) && !frozen(s)) {
		write_time(s, value);
		return;
	}
	switch (s->index) {
	case REG_A:
		write_a(rtc, value);
		break;
	case REG_B:
		write_b(rtc, value);
		break;
	case REG_C:
	case REG_D:
		break;
	default:
		s->cmos[s->index] = value;
	}
}

/* The index port cannot be read. */
static uint64_t rtc_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct rtc *rtc = ctx;
	uint64_t value = 0;

	settle(rtc);
	for (unsigned int i = 0; i < size; i++)
		value |= (offset + i ? read_register(rtc) : 0xffULL) << 8 * i;
	update(rtc);
	return value;
}

static void rtc_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct rtc *rtc = ctx;

	settle(rtc);
	for (unsigned int i = 0; i < size; i++, data >>= 8)
		if (offset + i)
			write_register(rtc, (uint8_t)data);
		else
			rtc->state.index = data & (CMOS_SIZE - 1);
	update(rtc);
}

static const struct bus_ops rtc_bus_ops = { rtc_read, rtc_write };

/* The RESET pin: the battery keeps time and RAM (data sheet, "RESET"). */
static void reset(struct device *device)
{
	struct rtc *rtc = container_of(device, struct rtc, device);

	settle(rtc);
	rtc->state.cmos[REG_B] &= ~(B_INTERRUPTS | B_SQUARE_WAVE);
	rtc->state.cmos[REG_C] = 0;
	rtc->state.index = 0;
	output_forget(&rtc->irq);
	update(rtc);
}

/* Tells nobody: the interrupt controllers may have been saved already. */
static void before_save(struct device *device)
{
	struct rtc *rtc = container_of(device, struct rtc, device);

	settle(rtc);
	device_touch(device);
	rtc->state.fraction_ns = divider_held(&rtc->state) ? 0
							   : clock_now(rtc->clock) - rtc->origin;
}

static int after_load(struct device *device, struct error *err)
{
	struct rtc *rtc = container_of(device, struct rtc, device);
	uint64_t now = clock_now(rtc->clock);

	rtc->origin = now - device->stopped_ns - rtc->state.fraction_ns;
	output_forget(&rtc->irq);
	/* What the flags say is told by the control loop, when all the machine is loaded. */
	device_timer_set(&rtc->timer, now);
	return 0;
}

static void destroy(struct device *device)
{
	struct rtc *rtc = container_of(device, struct rtc, device);

	bus_remove(rtc->bus, &rtc->region);
	device_timer_release(&rtc->timer);
	device_release(device);
	free(rtc);
}

static const struct device_ops rtc_ops = {
	.reset = reset,
	.before_save = before_save,
	.after_load = after_load,
	.destroy = destroy,
};

static void power_on(struct rtc *rtc)
{
	uint64_t wall = clock_wall(rtc->clock);

	rtc->state.cmos[REG_A] = A_DIVIDER_RUNS | 6; /* 1024 Hz, as firmware leaves it */
	rtc->state.cmos[REG_B] = B_24_HOURS;
	rtc->state.seconds = MIN(wall / NSEC_PER_SEC, (uint64_t)SECONDS_LIMIT - 1);
	rtc->origin = clock_now(rtc->clock) - wall % NSEC_PER_SEC;
	rtc->state.periods = periods_in(&rtc->state, wall % NSEC_PER_SEC);
}

int rtc_new(struct bus *bus, struct loop *loop, const struct irq_line *irq,
	    struct device **ret_device)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));
	int r;

	if (!rtc)
		return -ENOMEM;
	/* gmtime_r opens the time zone's file at its first use: now, not behind the sandbox. */
	tzset();
	device_init(&rtc->device, &rtc_ops, "rtc", &rtc_table, &rtc->state);
	rtc->bus = bus;
	rtc->clock = loop_clock(loop);
	output_init(&rtc->irq, irq);
	power_on(rtc);
	rtc->region = (struct bus_region){
		.name = "rtc",
		.space = BUS_PIO,
		.base = PORT_INDEX,
		.len = 2,
		.ops = &rtc_bus_ops,
		.ctx = rtc,
		.lock = &rtc->device.lock,
	};
	r = device_timer_init(&rtc->timer, loop, timer_expired);
	if (r == 0)
		r = bus_add(bus, &rtc->region);
	if (r < 0) {
		destroy(&rtc->device);
		return r;
	}
	*ret_device = &rtc->device;
	return 0;
}
