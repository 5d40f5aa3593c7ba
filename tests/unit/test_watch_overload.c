/* SPDX-License-Identifier: Apache-2.0 */

/* Writers and readers at full speed: what is read is whole, and what is lost is counted, to the record. */

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "base/clock.h"
#include "check.h"
#include "watch/read/source.h"
#include "watch_writer.h"

#define THREADS 2		   /* at most, of writers and of readers */
#define AHEAD 10000		   /* records that a reader in overload misses before it begins */
#define DEADLINE_NS (NSEC_PER_SEC) /* for writers that wait for readers to have read enough */

struct stress {
	/* What is tried. */
	uint32_t n_writers, n_readers, ring_records;
	bool lossless;
	uint64_t
		wanted; /* records: what each writer writes (lossless), or each reader has read at least */
	/* What happens. */
	struct writer writer;
	uint64_t deadline_ns;
	uint32_t n_done;	     /* atomic: writers that have ended */
	uint64_t n_written[THREADS]; /* atomic */
	uint64_t n_read[THREADS];    /* atomic */
	struct watch_source *sources[THREADS];
	uint64_t n_torn[THREADS], n_disordered[THREADS];
};

struct thread {
	struct stress *stress;
	uint32_t index;
	pthread_t id;
};

static uint64_t get(const uint64_t *count)
{
	return __atomic_load_n(count, __ATOMIC_ACQUIRE);
}

/* In overload writers go on until readers have had their share. */
static bool is_enough(const struct stress *stress, uint64_t n_written)
{
	if (stress->lossless)
		return n_written == stress->wanted;
	if (n_written % 64 || n_written < AHEAD)
		return false;
	if (clock_now(&clock_host) > stress->deadline_ns)
		return true;
	for (uint32_t i = 0; i < stress->n_readers; i++)
		if (get(&stress->n_read[i]) < stress->wanted)
			return false;
	return true;
}

static void *write_all(void *ctx)
{
	const struct thread *thread = ctx;
	struct stress *stress = thread->stress;
	struct ring *ring = stress->writer.rings[thread->index];
	uint64_t owner, n = 0;

	while (!is_enough(stress, n)) {
		while (stress->lossless && !ring_has_room(ring, 1, &owner))
			sched_yield();
		writer_add_now(ring, ++n);
		__atomic_store_n(&stress->n_written[thread->index], n, __ATOMIC_RELEASE);
	}
	__atomic_fetch_add(&stress->n_done, 1, __ATOMIC_ACQ_REL);
	return NULL;
}

static bool is_torn(const struct watch_record *record)
{
	for (unsigned int i = 0; i < sizeof(record->raw); i++)
		if (record->raw[i] != (uint8_t)record->data)
			return true;
	return record->data != record->sequence;
}

static void be_late(const struct stress *stress)
{
	for (uint32_t i = 0; i < stress->n_writers; i++)
		while (get(&stress->n_written[i]) < AHEAD)
			sched_yield();
}

static void *read_all(void *ctx)
{
	const struct thread *thread = ctx;
	struct stress *stress = thread->stress;
	struct watch_source *source = stress->sources[thread->index];
	uint64_t last[THREADS] = { 0 }, n = 0;
	struct watch_record record;
	uint32_t ring;
	int r;

	if (!stress->lossless)
		be_late(stress);
	while ((r = source_next(source, &record, &ring)) >= 0) {
		if (r == 0) {
			if (__atomic_load_n(&stress->n_done, __ATOMIC_ACQUIRE) == stress->n_writers)
				source_set_ended(source);
			sched_yield();
			continue;
		}
		stress->n_torn[thread->index] += is_torn(&record);
		stress->n_disordered[thread->index] += record.sequence <= last[ring];
		last[ring] = record.sequence;
		__atomic_store_n(&stress->n_read[thread->index], ++n, __ATOMIC_RELEASE);
	}
	return NULL;
}

static void start(struct thread *thread, struct stress *stress, uint32_t index,
		  void *(*run)(void *))
{
	*thread = (struct thread){ .stress = stress, .index = index };
	assert_int_equal(pthread_create(&thread->id, NULL, run, thread), 0);
}

static void run(struct stress *stress)
{
	const struct source_options options = { .from_oldest = true, .lossless = stress->lossless };
	struct thread readers[THREADS], writers[THREADS];

	writer_open(&stress->writer, stress->n_writers, stress->ring_records);
	stress->deadline_ns = clock_now(&clock_host) + DEADLINE_NS;
	for (uint32_t i = 0; i < stress->n_readers; i++) {
		assert_int_equal(source_open_store(stress->writer.fd, true, &options, "testee",
						   &stress->sources[i], NULL),
				 0);
		start(&readers[i], stress, i, read_all);
	}
	for (uint32_t i = 0; i < stress->n_writers; i++)
		start(&writers[i], stress, i, write_all);
	for (uint32_t i = 0; i < stress->n_writers; i++)
		pthread_join(writers[i].id, NULL);
	for (uint32_t i = 0; i < stress->n_readers; i++)
		pthread_join(readers[i].id, NULL);
}

/* Each reader's account; how many it lost is in the last one's. */
static uint64_t settle(struct stress *stress)
{
	uint64_t written = 0, lost = 0;

	for (uint32_t i = 0; i < stress->n_writers; i++)
		written += stress->n_written[i];
	for (uint32_t i = 0; i < stress->n_readers; i++) {
		lost = source_lost(stress->sources[i]);
		assert_int_equal(stress->n_read[i] + lost, written);
		assert_int_equal(stress->n_torn[i], 0);
		assert_int_equal(stress->n_disordered[i], 0);
		assert_false(source_was_expelled(stress->sources[i]));
		source_free(stress->sources[i]);
	}
	writer_close(&stress->writer);
	return lost;
}

static void every_record_is_read_or_counted_as_lost(void **state _unused_)
{
	struct stress stress = {
		.n_writers = 2, .n_readers = 2, .ring_records = 512, .wanted = 8000
	};

	run(&stress);
	assert_true(settle(&stress) >= 2 * (AHEAD - 512));
}

/* The writer is about in the record that is read, all the time. */
static void torn_records_are_not_given(void **state _unused_)
{
	struct stress stress = {
		.n_writers = 1, .n_readers = 1, .ring_records = 2, .wanted = 25000
	};

	run(&stress);
	assert_true(settle(&stress) > 0);
}

static void followers_lose_nothing(void **state _unused_)
{
	struct stress stress = { .n_writers = 2,
				 .n_readers = 2,
				 .ring_records = 512,
				 .lossless = true,
				 .wanted = 30000 };

	run(&stress);
	assert_int_equal(settle(&stress), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_record_is_read_or_counted_as_lost),
		cmocka_unit_test(torn_records_are_not_given),
		cmocka_unit_test(followers_lose_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
