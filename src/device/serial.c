/* SPDX-License-Identifier: Apache-2.0 */
#include "device/serial.h"

#include <errno.h>
#include <stdlib.h>

#include "device/output.h"
#include "device/serial_fifo.h"

#define SERIAL_LEN 8

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCRATCH };

#define IER_RECEIVED 0x01
#define IER_THR_EMPTY 0x02
#define IER_LINE_STATUS 0x04
#define IER_MODEM_STATUS 0x08
#define IER_BITS 0x0f

#define IIR_MODEM_STATUS 0x00
#define IIR_NONE 0x01
#define IIR_THR_EMPTY 0x02
#define IIR_RECEIVED 0x04
#define IIR_LINE_STATUS 0x06
#define IIR_TIMEOUT 0x0c
#define IIR_FIFOS 0xc0

#define FCR_ENABLE 0x01
#define FCR_CLEAR_RECEIVER 0x02
#define FCR_CLEAR_TRANSMITTER 0x04
#define FCR_KEPT 0xc9 /* enable, DMA mode, trigger level */

#define LCR_BREAK 0x40
#define LCR_DIVISOR 0x80

#define MCR_DTR 0x01
#define MCR_RTS 0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08 /* on a PC it lets the interrupt out to the bus */
#define MCR_LOOPBACK 0x10
#define MCR_BITS 0x1f

#define LSR_DATA_READY 0x01
#define LSR_OVERRUN 0x02
#define LSR_PARITY 0x04
#define LSR_FRAMING 0x08
#define LSR_BREAK 0x10
#define LSR_THR_EMPTY 0x20
#define LSR_IDLE 0x40
#define LSR_FIFO_ERROR 0x80
#define LSR_OF_CHARACTER (LSR_PARITY | LSR_FRAMING | LSR_BREAK)
#define LSR_ERRORS (LSR_OVERRUN | LSR_OF_CHARACTER)

#define MSR_DELTA_CTS 0x01
#define MSR_DELTA_DSR 0x02
#define MSR_TRAILING_RI 0x04
#define MSR_DELTA_DCD 0x08
#define MSR_DELTAS 0x0f
#define MSR_CTS 0x10
#define MSR_DSR 0x20
#define MSR_RI 0x40
#define MSR_DCD 0x80

/* The other end is always there: data set ready, carrier, clear to send. */
#define MODEM_OUTSIDE (MSR_CTS | MSR_DSR | MSR_DCD)

/*
 * The line has no speed: what is written leaves at once for the stream, and waits in the transmitter's FIFO
 * only while the stream is full. So THRE and TEMT are one, and a character timeout has passed as soon as the
 * stream has nothing more to give.
 */
struct serial_state {
	uint8_t ier, fcr, lcr, mcr, scratch, divisor_low, divisor_high;
	uint8_t errors;	   /* LSR error bits not yet read */
	uint8_t modem;	   /* MSR */
	uint8_t thr_empty; /* the interrupt "transmitter empty" waits to be read or served */
	struct serial_fifo in, out;
};

struct serial {
	struct device device;
	struct bus *bus;
	struct bus_region region;
	struct stream *stream;
	/* under device.lock */
	struct output irq;
	bool refused; /* the stream has bytes that did not fit */
	struct serial_state state;
};

static uint32_t capacity(const struct serial_state *s)
{
	return s->fcr & FCR_ENABLE ? SERIAL_FIFO_SIZE : 1;
}

static uint32_t fifo_room(const struct serial_state *s, const struct serial_fifo *fifo)
{
	return capacity(s) - fifo->count;
}

static bool fifo_holds(const struct serial_state *s, const struct serial_fifo *fifo)
{
	uint8_t errors = 0;

	for (unsigned int i = 0; i < SERIAL_FIFO_SIZE; i++)
		errors |= fifo->errors[i];
	return fifo->count <= capacity(s) && !(errors & ~LSR_OF_CHARACTER);
}

static int check(const void *state_ptr, struct error *err)
{
	const struct serial_state *s = state_ptr;

	if (!fifo_holds(s, &s->in) || !fifo_holds(s, &s->out) || s->ier & ~IER_BITS ||
	    s->fcr & ~FCR_KEPT || s->mcr & ~MCR_BITS || s->errors & ~LSR_ERRORS || s->thr_empty > 1)
		return error_set(err, -EINVAL, EXIT_STATUS_FAILED,
				 "serial: the saved state is not one that the device can have");
	return 0;
}

static const struct state_field serial_fields[] = {
	STATE_FIELD_U8(struct serial_state, ier),
	STATE_FIELD_U8(struct serial_state, fcr),
	STATE_FIELD_U8(struct serial_state, lcr),
	STATE_FIELD_U8(struct serial_state, mcr),
	STATE_FIELD_U8(struct serial_state, scratch),
	STATE_FIELD_U8(struct serial_state, divisor_low),
	STATE_FIELD_U8(struct serial_state, divisor_high),
	STATE_FIELD_U8(struct serial_state, errors),
	STATE_FIELD_U8(struct serial_state, modem),
	STATE_FIELD_U8(struct serial_state, thr_empty),
	STATE_FIELD_STRUCT(struct serial_state, in, &serial_fifo_table),
	STATE_FIELD_STRUCT(struct serial_state, out, &serial_fifo_table),
};

static const struct state_table serial_table = {
	.name = "serial",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct serial_state),
	.fields = serial_fields,
	.n_fields = ARRAY_SIZE(serial_fields),
	.check = check,
};

static uint32_t trigger_level(const struct serial_state *s)
{
	static const uint8_t levels[] = { 1, 4, 8, 14 };

	return s->fcr & FCR_ENABLE ? levels[s->fcr >> 6] : 1;
}

/* The most urgent interrupt (data sheet, table III). */
static uint8_t pending(const struct serial_state *s)
{
	if ((s->ier & IER_LINE_STATUS) && s->errors)
		return IIR_LINE_STATUS;
	if ((s->ier & IER_RECEIVED) && s->in.count)
		return s->in.count >= trigger_level(s) ? IIR_RECEIVED : IIR_TIMEOUT;
	if ((s->ier & IER_THR_EMPTY) && s->thr_empty)
		return IIR_THR_EMPTY;
	if ((s->ier & IER_MODEM_STATUS) && (s->modem & MSR_DELTAS))
		return IIR_MODEM_STATUS;
	return IIR_NONE;
}

/* OUT2's pin, which gates the interrupt, is inactive in loopback. */
static void irq_update(struct serial *serial)
{
	const struct serial_state *s = &serial->state;
	bool gate = (s->mcr & (MCR_OUT2 | MCR_LOOPBACK)) == MCR_OUT2;

	output_set(&serial->irq, gate && pending(s) != IIR_NONE);
}

/* An error counts from when its character is the next to be read. */
static void reveal_errors(struct serial_state *s)
{
	if (s->in.count)
		s->errors |= s->in.errors[0];
}

static void receive(struct serial_state *s, uint8_t byte, uint8_t errors)
{
	if (!fifo_room(s, &s->in)) {
		s->errors |= LSR_OVERRUN;
		/* Without FIFOs the holding register is overwritten; with them the newcomer is lost. */
		if (s->fcr & FCR_ENABLE)
			return;
		serial_fifo_clear(&s->in);
	}
	serial_fifo_push(&s->in, byte, errors);
	if (s->in.count == 1)
		reveal_errors(s);
}

/* Gives the stream what it takes. */
static void transmit(struct serial *serial)
{
	struct serial_state *s = &serial->state;
	size_t taken;

	if (!s->out.count)
		return;
	taken = serial->stream->write(serial->stream, s->out.bytes, s->out.count);
	serial_fifo_drop(&s->out, (uint32_t)MIN(taken, s->out.count));
	if (!s->out.count)
		s->thr_empty = 1;
	device_touch(&serial->device);
}

static void write_data(struct serial *serial, uint8_t byte)
{
	struct serial_state *s = &serial->state;

	s->thr_empty = 0;
	if (s->mcr & MCR_LOOPBACK) {
		if (!(s->lcr & LCR_BREAK))
			receive(s, byte, 0);
		s->thr_empty = 1;
	} else if (s->lcr & LCR_BREAK) { /* the line is held: the other end sees no character */
		s->thr_empty = 1;
	} else {
		transmit(serial); /* the stream may have room again */
		if (fifo_room(s, &s->out))
			serial_fifo_push(&s->out, byte, 0);
		s->thr_empty = 0;
		transmit(serial);
	}
}

static void world_may_send(struct serial *serial)
{
	if (serial->refused && fifo_room(&serial->state, &serial->state.in) &&
	    !(serial->state.mcr & MCR_LOOPBACK)) {
		serial->refused = false;
		serial->stream->ready(serial->stream);
	}
}

static uint8_t read_data(struct serial *serial)
{
	struct serial_state *s = &serial->state;
	uint8_t byte = s->in.bytes[0];

	if (s->in.count) {
		serial_fifo_drop(&s->in, 1);
		reveal_errors(s);
		world_may_send(serial);
	}
	return byte;
}

static void write_ier(struct serial_state *s, uint8_t value)
{
	/* Enabling the interrupt while the transmitter is empty raises it at once. */
	if ((value & ~s->ier & IER_THR_EMPTY) && !s->out.count)
		s->thr_empty = 1;
	s->ier = value & IER_BITS;
}

/* Reading the identification takes back the transmitter's interrupt, when it is that one. */
static uint8_t read_iir(struct serial_state *s)
{
	uint8_t iir = pending(s);

	if (iir == IIR_THR_EMPTY)
		s->thr_empty = 0;
	return iir | (s->fcr & FCR_ENABLE ? IIR_FIFOS : 0);
}

static void write_fcr(struct serial *serial, uint8_t value)
{
	struct serial_state *s = &serial->state;
	bool changes = (value ^ s->fcr) & FCR_ENABLE;

	/* "This bit must be a 1 when other FCR bits are written to or they will not be programmed." */
	s->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
	if (changes || (value & FCR_ENABLE && value & FCR_CLEAR_RECEIVER))
		serial_fifo_clear(&s->in);
	if ((changes || (value & FCR_ENABLE && value & FCR_CLEAR_TRANSMITTER)) && s->out.count) {
		serial_fifo_clear(&s->out);
		s->thr_empty = 1;
	}
	world_may_send(serial);
}

/* In loopback a break that begins arrives as one zero character with the break's mark. */
static void write_lcr(struct serial_state *s, uint8_t value)
{
	if ((value & ~s->lcr & LCR_BREAK) && (s->mcr & MCR_LOOPBACK))
		receive(s, 0, LSR_BREAK | LSR_FRAMING);
	s->lcr = value;
}

static uint8_t modem_lines(const struct serial_state *s)
{
	static const uint8_t looped[][2] = {
		{ MCR_RTS, MSR_CTS },
		{ MCR_DTR, MSR_DSR },
		{ MCR_OUT1, MSR_RI },
		{ MCR_OUT2, MSR_DCD },
	};
	uint8_t lines = 0;

	if (!(s->mcr & MCR_LOOPBACK))
		return MODEM_OUTSIDE;
	for (unsigned int i = 0; i < ARRAY_SIZE(looped); i++)
		if (s->mcr & looped[i][0])
			lines |= looped[i][1];
	return lines;
}

static void write_mcr(struct serial *serial, uint8_t value)
{
	struct serial_state *s = &serial->state;
	uint8_t before = s->modem, changed;

	s->mcr = value & MCR_BITS;
	s->modem = (before & MSR_DELTAS) | modem_lines(s);
	changed = before ^ s->modem;
	/* Each line's bit stands four above its delta; RI's tells only its end. */
	s->modem |= changed >> 4 & (MSR_DELTA_CTS | MSR_DELTA_DSR | MSR_DELTA_DCD);
	if (changed & before & MSR_RI)
		s->modem |= MSR_TRAILING_RI;
	transmit(serial);
	world_may_send(serial);
}

static uint8_t read_lsr(struct serial *serial)
{
	struct serial_state *s = &serial->state;
	uint8_t lsr;

	transmit(serial); /* the stream may have room again */
	lsr = s->errors | (s->in.count ? LSR_DATA_READY : 0);
	if (!s->out.count)
		lsr |= LSR_THR_EMPTY | LSR_IDLE;
	if ((s->fcr & FCR_ENABLE) && serial_fifo_has_error(&s->in))
		lsr |= LSR_FIFO_ERROR;
	if (s->errors && s->in.count) /* told now: the next character's errors are its own */
		s->in.errors[0] = 0;
	s->errors = 0;
	return lsr;
}

static uint8_t read_msr(struct serial_state *s)
{
	uint8_t msr = s->modem;

	s->modem &= ~MSR_DELTAS;
	return msr;
}

static uint8_t read_register(struct serial *serial, uint64_t reg)
{
	struct serial_state *s = &serial->state;
	bool divisor = s->lcr & LCR_DIVISOR;

	switch (reg) {
	case REG_DATA:
		return divisor ? s->divisor_low : read_data(serial);
	case REG_IER:
		return divisor ? s->divisor_high : s->ier;
	case REG_IIR_FCR:
		return read_iir(s);
	case REG_LCR:
		return s->lcr;
	case REG_MCR:
		return s->mcr;
	case REG_LSR:
		return read_lsr(serial);
	case REG_MSR:
		return read_msr(s);
	default:
		return s->scratch;
	}
}

static void write_register(struct serial *serial, uint64_t reg, uint8_t value)
{
	struct serial_state *s = &serial->state;
	bool divisor = s->lcr & LCR_DIVISOR;

	switch (reg) {
	case REG_DATA:
		if (divisor)
			s->divisor_low = value;
		else
			write_data(serial, value);
		break;
	case REG_IER:
		if (divisor)
			s->divisor_high = value;
		else
			write_ier(s, value);
		break;
	case REG_IIR_FCR:
		write_fcr(serial, value);
		break;
	case REG_LCR:
		write_lcr(s, value);
		break;
	case REG_MCR:
		write_mcr(serial, value);
		break;
	case REG_LSR: /* for factory tests only */
	case REG_MSR:
		break;
	default:
		s->scratch = value;
	}
}

/* Wider accesses reach the registers one after the other, as on the ISA bus. */
static uint64_t serial_read(void *ctx, uint64_t offset, unsigned int size)
{
	struct serial *serial = ctx;
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value |= (uint64_t)read_register(serial, offset + i) << 8 * i;
	irq_update(serial);
	device_touch(&serial->device);
	return value;
}

static void serial_write(void *ctx, uint64_t offset, unsigned int size, uint64_t data)
{
	struct serial *serial = ctx;

	for (unsigned int i = 0; i < size; i++)
		write_register(serial, offset + i, (uint8_t)(data >> 8 * i));
	irq_update(serial);
	device_touch(&serial->device);
}

static const struct bus_ops serial_bus_ops = { serial_read, serial_write };

static size_t stream_received(void *ctx, const void *buf, size_t len)
{
	struct serial *serial = ctx;
	struct serial_state *s = &serial->state;
	size_t taken = 0;

	pthread_mutex_lock(&serial->device.lock);
	/* In loopback the receiver's pin is disconnected; what comes may wait outside. */
	if (!(s->mcr & MCR_LOOPBACK))
		for (; taken < len && fifo_room(s, &s->in); taken++)
			receive(s, ((const uint8_t *)buf)[taken], 0);
	serial->refused = taken < len;
	if (taken)
		device_touch(&serial->device);
	irq_update(serial);
	pthread_mutex_unlock(&serial->device.lock);
	return taken;
}

static void stream_writable(void *ctx)
{
	struct serial *serial = ctx;

	pthread_mutex_lock(&serial->device.lock);
	transmit(serial);
	irq_update(serial);
	pthread_mutex_unlock(&serial->device.lock);
}

/* Data sheet, table I. The scratch and divisor registers and the receiver's buffer are not reset there;
 * here they are, so that equal histories since a reset make equal states. */
static void power_on(struct serial_state *s)
{
	*s = (struct serial_state){ .modem = MODEM_OUTSIDE };
}

static void reset(struct device *device)
{
	struct serial *serial = container_of(device, struct serial, device);

	power_on(&serial->state);
	output_forget(&serial->irq);
	irq_update(serial);
	world_may_send(serial);
	device_touch(device);
}

static int after_load(struct device *device, struct error *err)
{
	struct serial *serial = container_of(device, struct serial, device);

	output_forget(&serial->irq); /* the controllers' saved inputs hold the line meanwhile */
	return 0;
}

/* Loaded bytes leave and the stream is asked only now: a load may be a mere rehearsal. */
static int start(struct device *device, const struct thread_entry *enter, struct error *err)
{
	struct serial *serial = container_of(device, struct serial, device);

	pthread_mutex_lock(&device->lock);
	transmit(serial);
	irq_update(serial);
	serial->refused = true; /* the stream may have been holding back since before the save */
	world_may_send(serial);
	pthread_mutex_unlock(&device->lock);
	return 0;
}

static void destroy(struct device *device)
{
	struct serial *serial = container_of(device, struct serial, device);

	bus_remove(serial->bus, &serial->region);
	serial->stream->received = NULL;
	serial->stream->writable = NULL;
	device_release(device);
	free(serial);
}

static const struct device_ops serial_ops = {
	.start = start,
	.reset = reset,
	.after_load = after_load,
	.destroy = destroy,
};

int serial_new(struct bus *bus, uint16_t base, const struct irq_line *irq, struct stream *stream,
	       struct device **ret_device)
{
	struct serial *serial = calloc(1, sizeof(*serial));
	int r;

	if (!serial)
		return -ENOMEM;
	device_init(&serial->device, &serial_ops, "serial", &serial_table, &serial->state);
	serial->bus = bus;
	serial->stream = stream;
	output_init(&serial->irq, irq);
	power_on(&serial->state);
	serial->region = (struct bus_region){
		.name = "serial",
		.space = BUS_PIO,
		.base = base,
		.len = SERIAL_LEN,
		.ops = &serial_bus_ops,
		.ctx = serial,
		.lock = &serial->device.lock,
	};
	stream->received = stream_received;
	stream->writable = stream_writable;
	stream->ctx = serial;
	r = bus_add(bus, &serial->region);
	if (r < 0) {
		destroy(&serial->device);
		return r;
	}
	*ret_device = &serial->device;
	return 0;
}
