/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_source.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

void fake_source_init(struct watch_source *source)
{
	*source = (struct watch_source){
		.header = { .magic = STORE_MAGIC,
			    .version = STORE_VERSION,
			    .record_size = sizeof(struct watch_record),
			    .n_rings = 3,
			    .ring_records = 64,
			    .n_devices = 2,
			    .mode = STORE_NORMAL,
			    .n_vcpus = 2,
			    .tsc_hz = 1000000000,
			    .vm = "vm1",
			    .devices = { "serial", "disk" } },
		.at_end = -ENODATA,
	};
}

struct watch_record *fake_source_add(struct watch_source *source, uint64_t begin)
{
	struct watch_record *record = &source->records[source->n_records++];

	assert(source->n_records <= FAKE_SOURCE_RECORDS);
	*record = (struct watch_record){
		.sequence = source->n_records,
		.begin = begin,
		.duration = 12345,
		.address = 0x3f8,
		.data = 'A',
		.kind = RECORD_PIO,
		.flags = RECORD_WRITE,
		.size = 1,
		.access = { .instruction = 0xffffffff81000010,
			    .verdict = RECORD_INSN_ON,
			    .mode = 64,
			    .n_after = 16,
			    .length = 1,
			    .registers = { .general = { 'A', 0, 0x3f8 },
					   .rip = 0xffffffff81000010,
					   .rflags = 0x202 },
			    .cr3 = 0x1000 },
	};
	memset(record->access.code + RECORD_WINDOW, 0x90, RECORD_WINDOW);
	record->access.code[RECORD_WINDOW] = 0xee; /* out dx, al */
	return record;
}

int source_next(struct watch_source *source, struct watch_record *ret_record, uint32_t *ret_ring)
{
	if (source->at == source->n_records)
		return source->at_end;
	*ret_record = source->records[source->at++];
	*ret_ring = ret_record->kind == RECORD_DISK ? 2 : ret_record->source;
	return 1;
}

void source_set_ended(struct watch_source *source)
{
	source->at_end = -ENODATA;
}

uint64_t source_lost(const struct watch_source *source)
{
	return source->lost;
}

bool source_was_expelled(const struct watch_source *source)
{
	return source->expelled;
}

const struct store_header *source_header(struct watch_source *source)
{
	return &source->header;
}

const char *source_ring_name(struct watch_source *source, uint32_t ring)
{
	static const char *const names[] = { "vcpu0", "vcpu1", "disk:0" };

	return ring < 3 ? names[ring] : "-";
}

const char *source_device_name(struct watch_source *source, uint16_t device)
{
	return device < source->header.n_devices ? source->header.devices[device] : "-";
}

uint64_t source_wall_ns(const struct watch_source *source, uint64_t tsc)
{
	return FAKE_SOURCE_WALL + tsc;
}

uint64_t source_ticks_ns(const struct watch_source *source, uint64_t ticks)
{
	return ticks;
}
