/* SPDX-License-Identifier: Apache-2.0 */
/* live_page RATE: the page of a busy VM that seems to run now, with RATE requests a second, until SIGINT. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/cleanup.h"
#include "traffic.h"
#include "view/view.h"

#define RING_RECORDS                                                                               \
	(1U                                                                                        \
	 << 18) /* seconds of requests: a test must not depend on a computer that is never busy */

struct writer {
	struct traffic traffic;
	volatile sig_atomic_t stop;
};

/* The VM's side: what is due, each millisecond. */
static void *write_requests(void *ctx)
{
	struct writer *writer = ctx;
	struct traffic *traffic = &writer->traffic;

	while (!writer->stop) {
		while (traffic->begin_tsc + traffic->n * traffic->interval < __rdtsc())
			traffic_next(traffic);
		usleep(1000);
	}
	return NULL;
}

/* SIGINT ends the page: taken by a thread of its own, as utsusu-watch does. */
static void *wait_for_signal(void *ctx)
{
	volatile sig_atomic_t *stop = ctx;
	sigset_t set;
	int taken;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigwait(&set, &taken);
	*stop = 1;
	return NULL;
}

static void block_signal(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static int show(int fd, volatile sig_atomic_t *stop, struct error *err)
{
	static const char *const unseen[] = { "what never was" };
	struct source_options options = { 0 };
	struct view_context view = { .title = "live",
				     .mode = "normal",
				     .origin = VIEW_LIVE,
				     .filter_text = "",
				     .unseen = unseen,
				     .n_unseen = 1,
				     .stop = stop };
	struct watch_source *source;
	int r = source_open_store(fd, true, &options, "live", &source, err);

	if (r)
		return r;
	view_init(&view, source);
	r = web_view_run(&view, err);
	source_free(source);
	return r;
}

static int run(struct store *store, int fd, uint64_t rate, struct error *err)
{
	volatile sig_atomic_t stop = 0;
	struct writer writer = { 0 };
	pthread_t threads[2];
	uint64_t hz;
	int r;

	store_set_clock(store, 0);
	store_header(store)->mode = STORE_NORMAL;
	hz = store_header(store)->tsc_hz;
	traffic_begin(&writer.traffic, store, __rdtsc(), hz / rate, hz);
	block_signal();
	if (pthread_create(&threads[0], NULL, write_requests, &writer) ||
	    pthread_create(&threads[1], NULL, wait_for_signal, (void *)&stop))
		return error_set(err, -EAGAIN, EXIT_STATUS_FAILED, "no threads");
	r = show(fd, &stop, err);
	writer.stop = 1;
	pthread_join(threads[0], NULL);
	return r;
}

int main(int argc, char **argv)
{
	uint64_t rate = argc == 2 ? strtoull(argv[1], NULL, 10) : 0;
	struct store *store = NULL;
	struct error err = { 0 };
	int fd, r;

	if (!rate) {
		fprintf(stderr, "live_page RATE\n");
		return EXIT_STATUS_USAGE;
	}
	fd = store_make_fd("live", TRAFFIC_RINGS, TRAFFIC_VCPUS, RING_RECORDS);
	r = fd < 0 ? fd : store_open(fd, &store);
	if (!r)
		r = run(store, fd, rate, &err);
	if (r)
		fprintf(stderr, "live_page: %s\n", err.message);
	store_free(store);
	fd_close(fd);
	return r ? EXIT_STATUS_FAILED : EXIT_STATUS_OK;
}
