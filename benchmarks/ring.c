/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Data Store by itself, for benchmarks/ring.py:
 *
 *   ring record     nanoseconds to write one record, filled as the monitor fills it
 *   ring reader     records a second that a reader takes, orders and judges, while a writer waits for it
 *
 * Prints one number: the median of several rounds.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/clock.h"
#include "watch/read/source.h"
#include "watch/store.h"

#define ROUNDS 9
#define WRITTEN 1000000U /* records of one round */
#define SITES 64	 /* instructions that make requests, as a busy kernel has */
#define ROOM_EACH 64	 /* records between two looks at the follower */
#define PORT 0x3f8
#define OUT_DX_AL 0xee
#define NOP 0x90

struct bench {
	int fd;
	struct store *store;
	struct ring *ring;
	struct record_access sites[SITES];
};

static void must(int result, const char *what)
{
	if (result < 0) {
		fprintf(stderr, "ring: %s: %s\n", what, strerror(-result));
		exit(1);
	}
}

static void fill_site(struct record_access *site, uint64_t rip)
{
	memset(site, 0, sizeof(*site));
	memset(site->code, NOP, sizeof(site->code));
	site->code[RECORD_WINDOW] = OUT_DX_AL;
	site->mode = 64;
	site->n_before = site->n_after = RECORD_WINDOW;
	site->registers.general[2] = PORT;
	site->registers.rip = rip;
	site->cr3 = 0x1000;
}

static void open_bench(struct bench *bench)
{
	bench->fd = store_make_fd("bench", 1, 1, STORE_RING_RECORDS);
	must(bench->fd, "store_make_fd");
	must(store_open(bench->fd, &bench->store), "store_open");
	bench->ring = store_ring(bench->store, 0, "vcpu0");
	store_set_clock(bench->store, 0);
	for (unsigned int i = 0; i < SITES; i++)
		fill_site(&bench->sites[i], 0xffffffff81000000 + 64 * i);
}

static void close_bench(struct bench *bench)
{
	store_free(bench->store);
	close(bench->fd);
}

static void write_record(struct bench *bench, uint64_t begin, uint64_t number)
{
	struct watch_record *record = ring_begin(bench->ring);

	record->begin = begin;
	record->duration = 100;
	record->address = PORT;
	record->data = number & 0xff;
	record->kind = RECORD_PIO;
	record->flags = RECORD_WRITE;
	record->size = 1;
	record->operation = 0;
	record->source = 0;
	record->device = 0;
	record->repeat = 0;
	record->status = 0;
	record->access = bench->sites[number % SITES];
	record->access.registers.general[0] = number & 0xff;
	ring_commit(bench->ring);
}

/* Without the reading of the TSC: a request costs that with or without a ring. */
static double measure_record(struct bench *bench)
{
	const uint64_t begin = clock_now(&clock_host), tsc = __rdtsc();

	for (uint64_t i = 0; i < WRITTEN; i++)
		write_record(bench, tsc, i);
	return (double)(clock_now(&clock_host) - begin) / WRITTEN;
}

static void *write_all(void *ctx)
{
	struct bench *bench = ctx;
	uint64_t owner;

	for (uint64_t i = 0; i < WRITTEN; i++) {
		while (i % ROOM_EACH == 0 && !ring_has_room(bench->ring, ROOM_EACH, &owner))
			sched_yield();
		write_record(bench, __rdtsc(), i);
	}
	return NULL;
}

static void read_all(struct watch_source *source)
{
	struct watch_record record;
	uint64_t n = 0;
	uint32_t ring;

	while (n < WRITTEN) {
		int r = source_next(source, &record, &ring);

		must(r, "source_next");
		if (r)
			n++;
		else
			sched_yield();
	}
	must(source_lost(source) ? -ENODATA : 0, "records were lost");
}

static double measure_reader(struct bench *bench)
{
	const struct source_options options = { .lossless = true };
	struct watch_source *source;
	pthread_t writer;
	uint64_t begin;
	double seconds;

	must(source_open_store(bench->fd, true, &options, "bench", &source, NULL),
	     "source_open_store");
	begin = clock_now(&clock_host);
	must(-pthread_create(&writer, NULL, write_all, bench), "pthread_create");
	read_all(source);
	seconds = (double)(clock_now(&clock_host) - begin) / NSEC_PER_SEC;
	pthread_join(writer, NULL);
	source_free(source);
	return WRITTEN / seconds;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The first round is not counted: it takes the ring's pages. */
static double median(struct bench *bench, double (*measure)(struct bench *bench))
{
	double taken[ROUNDS];

	(void)measure(bench);
	for (unsigned int i = 0; i < ROUNDS; i++)
		taken[i] = measure(bench);
	qsort(taken, ROUNDS, sizeof(taken[0]), compare);
	return taken[ROUNDS / 2];
}

static const struct {
	const char *name;
	double (*measure)(struct bench *bench);
} benches[] = {
	{ "record", measure_record },
	{ "reader", measure_reader },
};

int main(int argc, char **argv)
{
	struct bench bench;

	for (unsigned int i = 0; argc == 2 && i < ARRAY_SIZE(benches); i++) {
		if (strcmp(argv[1], benches[i].name) != 0)
			continue;
		open_bench(&bench);
		printf("%.1f\n", median(&bench, benches[i].measure));
		close_bench(&bench);
		return 0;
	}
	fprintf(stderr, "usage: ring record|reader\n");
	return 2;
}
