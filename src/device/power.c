/* SPDX-License-Identifier: Apache-2.0 */
#include "device/power.h"

#include <errno.h>
#include <stdlib.h>

#include "base/endian.h"
#include "device/output.h"
#include "device/timer.h"

#define PORT_PM 0x600
#define PORT_GED 0x620
#define PORT_RESET 0xcf9
#define PORT_KEYBOARD_DATA 0x60
#define PORT_KEYBOARD_COMMAND 0x64

/* PM1 status and enable (ACPI 6.4, 4.8.3.1), at their bits in both registers. */
#define PM1_TIMER 0x0001
#define PM1_GLOBAL 0x0020
#define PM1_POWER_BUTTON 0x0100
/* Never happens here; Linux enables it all the same, and complains when it cannot. */
#define PM1_RTC 0x0400
#define PM1_ENABLE_BITS (PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_RTC)

/* PM1 control (ACPI 6.4, 4.8.3.2). SCI_EN reads 1 always: there is no legacy mode to leave, so the FADT names no
 * SMI command port. */
#define CONTROL_SCI_ENABLED 0x0001
#define CONTROL_KEPT 0x1c02 /* SLP_TYP and BM_RLD */
#define CONTROL_SLEEP_TYPE_SHIFT 10
#define CONTROL_SLEEP 0x2000

#define PM_TIMER_HZ 3579545ULL
#define PM_TIMER_MASK ((1U << POWER_PM_TIMER_BITS) - 1)

/* Reset control register (ICH9 data sheet, 13.7.5). */
#define RESET_CPU 0x04 /* its rising edge resets */
#define RESET_KEPT 0x0e

/* The 8042 has a line to the CPU's reset: commands 0xf0..0xff pulse its output bits that are 0, bit 0 is that
 * line. */
#define KEYBOARD_PULSE 0xf0
#define KEYBOARD_NO_RESET 0x01

/*
 * timer_ns: nanoseconds since the PM timer was 0, as of the save. CLOCK: the loader goes on from there on
 * its own clock, the time of the stop counted.
 */
struct power_state {
	uint16_t status, enable, control;
	uint8_t reset_control;
	uint8_t events; /* the event device's */
	uint64_t timer_ns;
	uint64_t timer_wraps; /* changes of the timer's top bit that the status knows of */
};

enum {
	REGION_PM,
	REGION_GED,
	REGION_RESET,
	REGION_KEYBOARD_DATA,
	REGION_KEYBOARD_COMMAND,
	REGIONS
};

struct power {
	struct device device;
	struct bus *bus;
	const struct clock *clock;
	struct bus_region regions[REGIONS];
	struct power_host host;
	struct device_timer timer;
	/* under device.lock */
	struct output sci, ged;
	uint64_t
		timer_start; /* when the PM timer was 0, on our clock; may lie before the clock's own 0 */
	struct power_state state;
};

static int check(const void *state_ptr, struct error *err)
{
	const struct power_state *s = state_ptr;

	if ((s->enable | s->status) & ~PM1_ENABLE_BITS || s->control & ~CONTROL_KEPT ||
	    s->reset_control & ~RESET_KEPT || s->timer_ns > INT64_MAX)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "power: the saved state is not one that the device can have");
	return 0;
}

static const struct state_field power_fields[] = {
	STATE_FIELD_U16(struct power_state, status),
	STATE_FIELD_U16(struct power_state, enable),
	STATE_FIELD_U16(struct power_state, control),
	STATE_FIELD_U8(struct power_state, reset_control),
	STATE_FIELD_U8(struct power_state, events),
	STATE_FIELD_KIND(struct power_state, timer_ns, STATE_U64, STATE_CLOCK),
	STATE_FIELD_KIND(struct power_state, timer_wraps, STATE_U64, STATE_CLOCK),
};

static const struct state_table power_table = {
	.name = "power",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct power_state),
	.fields = power_fields,
	.n_fields = ARRAY_SIZE(power_fields),
	.check = check,
};

static uint64_t timer_ns(const struct power *power)
{
	return clock_now(power->clock) - power->timer_start;
}

static uint64_t timer_ticks(const struct power *power)
{
	return (uint64_t)((unsigned __int128)timer_ns(power) * PM_TIMER_HZ / NSEC_PER_SEC);
}

/* When, counted from the timer's 0, its ticks reach `ticks`. */
static uint64_t ticks_to_ns(uint64_t ticks)
{
	return (uint64_t)(((unsigned __int128)ticks * NSEC_PER_SEC + PM_TIMER_HZ - 1) /
			  PM_TIMER_HZ);
}

/* TMR_STS tells each change of the timer's top bit (ACPI 6.4, 4.8.3.3). */
static void settle(struct power *power)
{
	uint64_t wraps = timer_ticks(power) >> (POWER_PM_TIMER_BITS - 1);

	if (wraps == power->state.timer_wraps)
		return;
	power->state.timer_wraps = wraps;
	power->state.status |= PM1_TIMER;
	device_touch(&power->device);
}

/* When the timer's top bit changes next: somebody has to look then only while that interrupts. */
static uint64_t next_due(const struct power *power)
{
	const struct power_state *s = &power->state;

	if (!(s->enable & ~s->status & PM1_TIMER))
		return DEVICE_TIMER_NEVER;
	return power->timer_start + ticks_to_ns((s->timer_wraps + 1) << (POWER_PM_TIMER_BITS - 1));
}

static void look(struct power *power)
{
	settle(power);
	output_set(&power->sci, power->state.status & power->state.enable);
	output_set(&power->ged, power->state.events);
	device_timer_set(&power->timer, next_due(power));
}

static void update(struct power *power)
{
	look(power);
	device_touch(&power->device);
}

static void timer_expired(struct device_timer *timer)
{
	struct power *power = container_of(timer, struct power, timer);

	pthread_mutex_lock(&power->device.lock);
	update(power);
	pthread_mutex_unlock(&power->device.lock);
}

static void happened(struct power *power, enum power_event event)
{
	power->host.happened(power->host.ctx, event);
}

/* ACPI allows any width at any register: all go through their bytes. */
static uint64_t pm_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct power *power = ctx;
	uint8_t bytes[POWER_PM_LEN] = { 0 };

	look(power);
	le_store(bytes + POWER_PM1_EVENT, 2, power->state.status);
	le_store(bytes + POWER_PM1_EVENT + 2, 2, power->state.enable);
	le_store(bytes + POWER_PM1_CONTROL, 2, power->state.control | CONTROL_SCI_ENABLED);
	le_store(bytes + POWER_PM_TIMER, 4, timer_ticks(power) & PM_TIMER_MASK);
	return le_load(bytes + offset, size);
}

/* The bits of the register at `at` (2 bytes) that the access covers. */
static uint16_t covered(uint64_t offset, unsigned int size, uint64_t at)
{
	uint16_t bits = 0;

	for (unsigned int i = 0; i < 2; i++)
		if (at + i >= offset && at + i < offset + size)
			bits |= 0xff << 8 * i;
	return bits;
}

static uint16_t replace(uint16_t old, uint16_t new, uint16_t bits)
{
	return (old & ~bits) | (new &bits);
}

static void write_control(struct power *power, uint16_t value)
{
	power->state.control = value & CONTROL_KEPT;
	if ((value & CONTROL_SLEEP) &&
	    (value >> CONTROL_SLEEP_TYPE_SHIFT & 7) == POWER_SLEEP_TYPE_S5)
		happened(power, POWER_OFF);
}

static void pm_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct power *power = ctx;
	struct power_state *s = &power->state;
	uint8_t bytes[POWER_PM_LEN] = { 0 };
	uint16_t bits;

	settle(power);
	le_store(bytes + offset, size, data);
	s->status &= ~le_load(bytes + POWER_PM1_EVENT, 2);
	bits = covered(offset, size, POWER_PM1_EVENT + 2);
	s->enable = replace(s->enable, le_load(bytes + POWER_PM1_EVENT + 2, 2),
			    bits & PM1_ENABLE_BITS);
	bits = covered(offset, size, POWER_PM1_CONTROL);
	if (bits)
		write_control(power,
			      replace(s->control, le_load(bytes + POWER_PM1_CONTROL, 2), bits));
	update(power);
}

/* The status byte, then zeroes. Reading it clears it: ACPI's handler runs once for each rise of the line and takes
 * all that has come. */
static uint64_t ged_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct power *power = ctx;
	uint8_t events = power->state.events;

	if (offset)
		return 0;
	power->state.events = 0;
	update(power);
	return events;
}

static void ged_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
}

static uint64_t reset_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct power *power = ctx;

	return power->state.reset_control;
}

/* Bits 1 and 3 choose between a reset of the CPU, of the system and a power cycle: for a virtual machine the same. */
static void reset_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct power *power = ctx;
	bool rises = data & ~power->state.reset_control & RESET_CPU;

	power->state.reset_control = data & RESET_KEPT;
	device_touch(&power->device);
	if (rises)
		happened(power, POWER_RESET);
}

/* There is no keyboard; of its controller there is what resets the machine. Status 0: ready for a command. */
static uint64_t keyboard_read(void *ctx, uint64_t offset, unsigned int size)
{
	return 0;
}

static void keyboard_data_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
}

static void keyboard_command_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	if ((data & (KEYBOARD_PULSE | KEYBOARD_NO_RESET)) == KEYBOARD_PULSE)
		happened(ctx, POWER_RESET);
}

static const struct bus_ops pm_ops = { pm_read, pm_write };
static const struct bus_ops ged_ops = { ged_read, ged_write };
static const struct bus_ops reset_ops = { reset_read, reset_write };
static const struct bus_ops keyboard_data_ops = { keyboard_read, keyboard_data_write };
static const struct bus_ops keyboard_command_ops = { keyboard_read, keyboard_command_write };

static const struct bus_region region_list[REGIONS] = {
	[REGION_PM] = { "acpi-pm", BUS_PIO, PORT_PM, POWER_PM_LEN, &pm_ops },
	[REGION_GED] = { "acpi-ged", BUS_PIO, PORT_GED, POWER_GED_LEN, &ged_ops },
	[REGION_RESET] = { "reset", BUS_PIO, PORT_RESET, 1, &reset_ops },
	[REGION_KEYBOARD_DATA] = { "keyboard.data", BUS_PIO, PORT_KEYBOARD_DATA, 1,
				   &keyboard_data_ops },
	[REGION_KEYBOARD_COMMAND] = { "keyboard.command", BUS_PIO, PORT_KEYBOARD_COMMAND, 1,
				      &keyboard_command_ops },
};

bool power_press_button(struct device *device)
{
	struct power *power = container_of(device, struct power, device);
	bool enabled;

	pthread_mutex_lock(&device->lock);
	enabled = power->state.enable & PM1_POWER_BUTTON;
	if (enabled) {
		power->state.status |= PM1_POWER_BUTTON;
		update(power);
	}
	pthread_mutex_unlock(&device->lock);
	return enabled;
}

void power_raise_event(struct device *device, uint32_t bits)
{
	struct power *power = container_of(device, struct power, device);

	pthread_mutex_lock(&device->lock);
	power->state.events |= (uint8_t)bits;
	/* An edge each time: one that came while the input was masked is lost, the next must not be. */
	output_set(&power->ged, false);
	update(power);
	pthread_mutex_unlock(&device->lock);
}

static void reset(struct device *device)
{
	struct power *power = container_of(device, struct power, device);

	power->state = (struct power_state){ 0 };
	power->timer_start = clock_now(power->clock);
	output_forget(&power->sci);
	output_forget(&power->ged);
	update(power);
}

/* Tells nobody: the interrupt controllers may have been saved already. */
static void before_save(struct device *device)
{
	struct power *power = container_of(device, struct power, device);

	settle(power);
	device_touch(device);
	power->state.timer_ns = timer_ns(power);
}

static int after_load(struct device *device, struct error *err)
{
	struct power *power = container_of(device, struct power, device);
	uint64_t now = clock_now(power->clock);

	power->timer_start = now - device->stopped_ns - power->state.timer_ns;
	output_forget(&power->sci);
	output_forget(&power->ged);
	/* The lines are told by the control loop, when all the machine is loaded. */
	device_timer_set(&power->timer, now);
	return 0;
}

static void destroy(struct device *device)
{
	struct power *power = container_of(device, struct power, device);

	for (unsigned int i = 0; i < REGIONS; i++)
		bus_remove(power->bus, &power->regions[i]);
	device_timer_release(&power->timer);
	device_release(device);
	free(power);
}

static const struct device_ops power_ops = {
	.reset = reset,
	.before_save = before_save,
	.after_load = after_load,
	.destroy = destroy,
};

static int add_regions(struct power *power)
{
	int r = 0;

	for (unsigned int i = 0; i < REGIONS && r == 0; i++) {
		power->regions[i] = region_list[i];
		power->regions[i].ctx = power;
		power->regions[i].lock = &power->device.lock;
		r = bus_add(power->bus, &power->regions[i]);
	}
	return r;
}

int power_new(struct bus *bus, struct loop *loop, const struct irq_line *sci,
	      const struct irq_line *ged, const struct power_host *host, struct device **ret_device)
{
	struct power *power = calloc(1, sizeof(*power));
	int r;

	if (!power)
		return -ENOMEM;
	power->bus = bus;
	power->clock = loop_clock(loop);
	output_init(&power->sci, sci);
	output_init(&power->ged, ged);
	power->host = *host;
	power->timer_start = clock_now(power->clock);
	device_init(&power->device, &power_ops, "power", &power_table, &power->state);
	r = device_timer_init(&power->timer, loop, timer_expired);
	if (r == 0)
		r = add_regions(power);
	if (r < 0) {
		destroy(&power->device);
		return r;
	}
	*ret_device = &power->device;
	return 0;
}
