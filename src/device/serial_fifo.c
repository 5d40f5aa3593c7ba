/* SPDX-License-Identifier: Apache-2.0 */
#include "device/serial_fifo.h"

#include <string.h>

#include "base/macros.h"

static const struct state_field fifo_fields[] = {
	STATE_FIELD_U32(struct serial_fifo, count),
	STATE_FIELD_BYTES(struct serial_fifo, bytes),
	STATE_FIELD_BYTES(struct serial_fifo, errors),
};

const struct state_table serial_fifo_table = {
	.name = "fifo",
	.version = 1,
	.min_version = 1,
	.size = sizeof(struct serial_fifo),
	.fields = fifo_fields,
	.n_fields = ARRAY_SIZE(fifo_fields),
};

void serial_fifo_push(struct serial_fifo *fifo, uint8_t byte, uint8_t errors)
{
	fifo->bytes[fifo->count] = byte;
	fifo->errors[fifo->count++] = errors;
}

void serial_fifo_drop(struct serial_fifo *fifo, uint32_t n)
{
	fifo->count -= n;
	memmove(fifo->bytes, fifo->bytes + n, fifo->count);
	memmove(fifo->errors, fifo->errors + n, fifo->count);
	memset(fifo->bytes + fifo->count, 0, n);
	memset(fifo->errors + fifo->count, 0, n);
}

void serial_fifo_clear(struct serial_fifo *fifo)
{
	*fifo = (struct serial_fifo){ 0 };
}

bool serial_fifo_has_error(const struct serial_fifo *fifo)
{
	for (uint32_t i = 0; i < fifo->count; i++)
		if (fifo->errors[i])
			return true;
	return false;
}
