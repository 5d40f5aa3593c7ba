/* SPDX-License-Identifier: Apache-2.0 */
#include "watch_writer.h"

#include <stdio.h>
#include <unistd.h>
#include <x86intrin.h>

#include "check.h"

void writer_open(struct writer *w, uint32_t n, uint32_t ring_records)
{
	*w = (struct writer){ .fd = store_make_fd("testee", n, 1, ring_records) };
	assert_true(w->fd >= 0);
	assert_return_code(store_open(w->fd, &w->store), 0);
	for (uint32_t i = 0; i < n; i++) {
		char name[16];

		snprintf(name, sizeof(name), "ring%u", i);
		w->rings[i] = store_ring(w->store, i, name);
	}
	store_device(w->store, "serial");
	store_set_clock(w->store, TEST_HZ);
}

void writer_close(struct writer *w)
{
	store_free(w->store);
	close(w->fd);
}

static void fill(struct watch_record *record, uint64_t data)
{
	record->address = 0x3f8;
	record->data = data;
	record->kind = RECORD_QUEUE;
	record->flags = RECORD_WRITE;
	record->size = 0;
	record->operation = 0;
	record->source = 0;
	record->device = 0;
	record->repeat = 0;
	record->status = 0;
	memset(record->raw, (int)data, sizeof(record->raw));
}

void writer_add(struct ring *ring, uint64_t begin, uint64_t duration, uint64_t data)
{
	struct watch_record *record = ring_begin(ring);

	record->begin = begin;
	record->duration = duration;
	fill(record, data);
	ring_commit(ring);
}

void writer_add_now(struct ring *ring, uint64_t data)
{
	struct watch_record *record = ring_begin(ring);

	record->begin = __rdtsc();
	fill(record, data);
	record->duration = __rdtsc() - record->begin;
	ring_commit(ring);
}
