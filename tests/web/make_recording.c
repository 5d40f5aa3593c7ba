/* SPDX-License-Identifier: Apache-2.0 */
/* make_recording FILE RECORDS RATE: a recording of a busy VM, through a store as a VM has it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "traffic.h"
#include "watch/read/recording.h"
#include "watch/read/source.h"

#define HZ 2000000000ULL

struct maker {
	struct store *store;
	struct watch_source *source;
	struct recording *recording;
	struct traffic traffic;
};

/* The requests lie in the past: what might still come in between is held back by a living store's reader. */
static int open_all(struct maker *maker, int fd, const char *path, uint64_t n, uint64_t rate,
		    struct error *err)
{
	struct source_options options = { .from_oldest = true };
	struct recording_limits limits = { 0 };
	uint64_t begin;
	int r = store_open(fd, &maker->store);

	if (r)
		return error_set(err, r, EXIT_STATUS_FAILED, "the store cannot be opened");
	store_set_clock(maker->store, HZ);
	store_header(maker->store)->mode = STORE_NORMAL;
	begin = store_header(maker->store)->anchor_tsc - HZ / rate * n - HZ;
	traffic_begin(&maker->traffic, maker->store, begin, HZ / rate, HZ);
	maker->traffic.by_beginning = true;
	r = source_open_store(fd, true, &options, "traffic", &maker->source, err);
	return r ? r : recording_create(path, maker->source, &limits, true, &maker->recording, err);
}

/* Records what is in the store now. */
static int drain(struct maker *maker, struct error *err)
{
	struct watch_record record;
	uint32_t ring;
	int r;

	while ((r = source_next(maker->source, &record, &ring)) > 0) {
		r = recording_add(maker->recording, &record, ring, err);
		if (r < 0)
			return r;
	}
	return r;
}

/* One by one, as a reader of a living store gives them: by their beginning. */
static int make(struct maker *maker, uint64_t n, struct error *err)
{
	int r = 0;

	while (maker->traffic.n < n && r == 0) {
		traffic_next(&maker->traffic);
		r = drain(maker, err);
	}
	return r ? r : recording_close(TAKE_PTR(maker->recording), err);
}

int main(int argc, char **argv)
{
	struct maker maker = { 0 };
	struct error err = { 0 };
	uint64_t n, rate;
	int fd, r;

	if (argc != 4) {
		fprintf(stderr, "make_recording FILE RECORDS RATE\n");
		return EXIT_STATUS_USAGE;
	}
	n = strtoull(argv[2], NULL, 10);
	rate = MAX(strtoull(argv[3], NULL, 10), 1);
	fd = store_make_fd("traffic", TRAFFIC_RINGS, TRAFFIC_VCPUS, STORE_RING_RECORDS);
	r = fd < 0 ? fd : open_all(&maker, fd, argv[1], n, rate, &err);
	if (!r)
		r = make(&maker, n, &err);
	if (r)
		fprintf(stderr, "make_recording: %s\n", err.message);
	recording_close(maker.recording, NULL);
	source_free(maker.source);
	store_free(maker.store);
	fd_close(fd);
	return r ? EXIT_STATUS_FAILED : EXIT_STATUS_OK;
}
