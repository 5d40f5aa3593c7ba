/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What is loaded at once is a unit: a chunk of the file with all pages that it tells of, or, where RAM has pages of 2 MiB, one of
 * these with all chunks that tell of it. Each unit is one thread's.
 */

#include "move/saved/fill.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "move/pages/batch.h"

#define THREADS_MAX 4
#define NO_CHUNK UINT64_MAX

struct loader {
	struct fill *fill;
	pthread_t thread;
	bool started;
	struct buffer payload;
	struct packer *packer;
	struct page_batch batch;
	uint64_t chunk; /* whose pages `batch` has */
};

enum unit { UNIT_WAITS, UNIT_QUEUED, UNIT_TAKEN };

struct fill {
	struct move_link *link;
	struct move_demand vm;
	struct saved_index index;
	struct demand *demand;
	uint64_t n_units;
	uint32_t block; /* pages of RAM's own */
	unsigned int n_loaders;
	struct loader loaders[THREADS_MAX];
	pthread_mutex_t lock; /* for all below */
	pthread_cond_t work, news;
	uint8_t *units;	 /* enum unit */
	uint64_t *queue; /* of those that are waited for: each is in it once */
	uint64_t queued, served;
	uint64_t cursor, untaken, unfinished;
	bool rest, stop;
	struct error failure;
};

DEFINE_CLEANUP(struct fill, fill_free, fill_freep)

/* ---- units ---- */

static bool unit_of(const struct fill *fill, uint64_t page, uint64_t *ret_unit)
{
	*ret_unit = page / fill->block;
	return fill->block > 1 || saved_index_find(&fill->index, page, ret_unit);
}

static void unit_range(const struct fill *fill, uint64_t unit, uint64_t *ret_first,
		       uint64_t *ret_end)
{
	if (fill->block > 1) {
		*ret_first = unit * fill->block;
		*ret_end = *ret_first + fill->block;
	} else {
		*ret_first = fill->index.chunks[unit].first;
		*ret_end = saved_index_end(&fill->index, unit);
	}
}

/* On the fault thread. */
static void wanted(void *ctx, uint64_t first, uint32_t n _unused_)
{
	struct fill *fill = ctx;
	uint64_t unit;

	if (!unit_of(fill, first, &unit))
		return;
	pthread_mutex_lock(&fill->lock);
	if (fill->units[unit] == UNIT_WAITS) {
		fill->units[unit] = UNIT_QUEUED;
		fill->queue[fill->queued++] = unit;
		pthread_cond_signal(&fill->work);
	}
	pthread_mutex_unlock(&fill->lock);
}

static bool take_queued(struct fill *fill, uint64_t *ret_unit)
{
	if (fill->served == fill->queued)
		return false;
	*ret_unit = fill->queue[fill->served++];
	fill->cursor = *ret_unit + 1; /* what stands behind it is wanted soon, too */
	return true;
}

static bool take_rest(struct fill *fill, uint64_t *ret_unit)
{
	if (!fill->rest)
		return false;
	for (uint64_t i = 0; i < fill->n_units; i++) {
		uint64_t unit = fill->cursor < fill->n_units ? fill->cursor : 0;

		fill->cursor = unit + 1;
		if (fill->units[unit] != UNIT_WAITS)
			continue;
		*ret_unit = unit;
		return true;
	}
	return false;
}

/* The next unit to load: waits for one; false: there will be none. */
static bool next_unit(struct fill *fill, uint64_t *ret_unit)
{
	bool found = false;

	pthread_mutex_lock(&fill->lock);
	while (!fill->stop && fill->untaken) {
		found = take_queued(fill, ret_unit) || take_rest(fill, ret_unit);
		if (found)
			break;
		pthread_cond_wait(&fill->work, &fill->lock);
	}
	if (found) {
		fill->units[*ret_unit] = UNIT_TAKEN;
		if (!--fill->untaken)
			pthread_cond_broadcast(&fill->work);
	}
	pthread_mutex_unlock(&fill->lock);
	return found;
}

static void unit_is_done(struct fill *fill, int r, const struct error *err)
{
	pthread_mutex_lock(&fill->lock);
	if (r == 0) {
		fill->unfinished--;
	} else if (!fill->failure.code) {
		fill->failure = *err;
		error_set(&fill->failure, r, EXIT_STATUS_FAILED, "file: cannot be loaded: %s",
			  strerror(-r));
	}
	fill->stop |= r < 0;
	pthread_cond_broadcast(&fill->news);
	if (r < 0)
		pthread_cond_broadcast(&fill->work);
	pthread_mutex_unlock(&fill->lock);
}

/* ---- loading one ---- */

static int judge_pages(const struct loader *loader, uint64_t chunk, struct error *err)
{
	const struct page_batch *batch = &loader->batch;

	if (batch->pages[batch->n - 1] < saved_index_end(&loader->fill->index, chunk))
		return 0;
	return error_set(err, -EBADMSG, EXIT_STATUS_FAILED,
			 "file: damaged at byte %llu: pages that its index has elsewhere; take "
			 "another copy of it",
			 (unsigned long long)loader->fill->index.chunks[chunk].at);
}

/* Into the loader's batch, if it is not there from the last unit. */
static int unpack_chunk(struct loader *loader, uint64_t chunk, struct error *err)
{
	const struct saved_index *index = &loader->fill->index;
	int r;

	if (loader->chunk == chunk)
		return 0;
	loader->chunk = NO_CHUNK;
	r = saved_index_chunk(index, chunk, &loader->payload, err);
	if (r == 0)
		r = packer_unpack(loader->packer, loader->payload.data, loader->payload.len,
				  index->n_pages, &loader->batch, err);
	if (r == 0)
		r = judge_pages(loader, chunk, err);
	if (r == 0)
		loader->chunk = chunk;
	return r;
}

/* How many of the batch's pages from `i` on, below `end`, stand in a row. */
static uint32_t run_length(const struct page_batch *batch, uint32_t i, uint64_t end)
{
	uint32_t n = 1;

	while (i + n < batch->n && batch->pages[i + n] == batch->pages[i] + n &&
	       batch->pages[i + n] < end)
		n++;
	return n;
}

/* The pages in [at, end), of which the batch's chunk tells. */
static int place_pages(struct loader *loader, uint64_t at, uint64_t end, struct error *err)
{
	const struct page_batch *batch = &loader->batch;
	struct demand *demand = loader->fill->demand;
	int r = 0;

	for (uint32_t i = 0, n; r == 0 && i < batch->n && batch->pages[i] < end; i += n) {
		n = 1;
		if (batch->pages[i] < at)
			continue;
		n = run_length(batch, i, end);
		r = demand_skip(demand, at, batch->pages[i] - at, err);
		if (r == 0)
			r = demand_place(demand, batch->pages[i], n, page_batch_at(batch, i), err);
		at = batch->pages[i] + n;
	}
	return r < 0 ? r : demand_skip(demand, at, end - at, err);
}

static int load_unit(struct loader *loader, uint64_t unit, struct error *err)
{
	const struct saved_index *index = &loader->fill->index;
	uint64_t first, end, chunk = 0;
	int r = 0;

	unit_range(loader->fill, unit, &first, &end);
	if (!saved_index_find(index, first, &chunk))
		chunk = 0;
	for (; r == 0 && chunk < index->n && index->chunks[chunk].first < end; chunk++) {
		uint64_t from = MAX(first, index->chunks[chunk].first);

		r = unpack_chunk(loader, chunk, err);
		if (r == 0)
			r = place_pages(loader, from, MIN(end, saved_index_end(index, chunk)), err);
	}
	return r;
}

static void *loader_main(void *arg)
{
	struct loader *loader = arg;
	uint64_t unit;

	while (next_unit(loader->fill, &unit)) {
		struct error err = { 0 };
		int r = load_unit(loader, unit, &err);

		unit_is_done(loader->fill, r, &err);
	}
	return NULL;
}

/* ---- life ---- */

static int make_units(struct fill *fill)
{
	fill->n_units = fill->block > 1 ? fill->index.n_pages / fill->block : fill->index.n;
	fill->untaken = fill->unfinished = fill->n_units;
	fill->units = calloc(fill->n_units + 1, sizeof(fill->units[0]));
	fill->queue = calloc(fill->n_units + 1, sizeof(fill->queue[0]));
	return fill->units && fill->queue ? 0 : -ENOMEM;
}

static void expect_all(struct fill *fill)
{
	for (uint64_t i = 0; i < fill->index.n; i++) {
		const struct saved_chunk *chunk = &fill->index.chunks[i];

		demand_expect(fill->demand, chunk->first,
			      saved_index_end(&fill->index, i) - chunk->first, chunk->n_pages);
	}
}

/* What a rehearsal left is emptied; then nobody has anything but what is placed. */
static int make_demand(struct fill *fill, const struct fill_settings *settings, struct error *err)
{
	const struct demand_settings demand = {
		.vm = &fill->vm,
		.facts = settings->facts,
		.ram_fd = settings->ram_fd,
		.shared = settings->shared,
		.entry = settings->entry,
		.wanted = wanted,
		.ctx = fill,
	};
	int r = demand_new(&demand, &fill->demand, err);

	if (r == 0)
		r = demand_empty(fill->demand, 0, fill->index.n_pages, err);
	if (r < 0)
		return r == -EOPNOTSUPP ? -EIO : r; /* the VM waits for its memory by now */
	fill->block = demand_block_pages(fill->demand);
	r = make_units(fill);
	if (r < 0)
		return r;
	expect_all(fill);
	return demand_start(fill->demand, err);
}

/* Half of the processors at most: the guest runs on them, too. */
static unsigned int count_loaders(void)
{
	cpu_set_t cpus;
	int n = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;

	return (unsigned int)MIN(MAX(n / 2, 1), THREADS_MAX);
}

static int start_loader(struct fill *fill, struct loader *loader, const struct thread_entry *entry)
{
	int r;

	loader->fill = fill;
	loader->chunk = NO_CHUNK;
	r = page_batch_init(&loader->batch);
	if (r == 0)
		r = packer_new(&loader->packer);
	if (r == 0)
		r = thread_start("load", entry, loader_main, loader, &loader->thread);
	loader->started = r == 0;
	return r;
}

static int start_loaders(struct fill *fill, const struct thread_entry *entry)
{
	int r = 0;

	fill->n_loaders = count_loaders();
	for (unsigned int i = 0; r == 0 && i < fill->n_loaders; i++)
		r = start_loader(fill, &fill->loaders[i], entry);
	return r;
}

static struct fill *fill_make(struct move_link *link)
{
	struct fill *fill = calloc(1, sizeof(*fill));
	pthread_condattr_t attr;

	if (!fill)
		return NULL;
	fill->link = link;
	fill->vm = (struct move_demand){ .uffd = -1, .life = -1 };
	pthread_mutex_init(&fill->lock, NULL);
	pthread_cond_init(&fill->work, NULL);
	/* Not the wall's clock, which may be set. */
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&fill->news, &attr);
	pthread_condattr_destroy(&attr);
	for (size_t i = 0; i < THREADS_MAX; i++)
		buffer_init(&fill->loaders[i].payload, FRAME_MAX);
	return fill;
}

static int ask_vm(struct fill *fill, struct error *err)
{
	int r = fill->link->ops->demand(fill->link, &fill->vm, err);

	return r < 0 && !move_link_is_unknown(r) ? -EOPNOTSUPP : r;
}

int fill_new(const struct fill_settings *settings, struct fill **ret_fill, struct error *err)
{
	_cleanup_(fill_freep) struct fill *fill = fill_make(settings->link);
	int r = fill ? saved_index_read(settings->saved, &fill->index, err) : -ENOMEM;

	if (r == 0)
		r = ask_vm(fill, err);
	if (r == 0)
		r = make_demand(fill, settings, err);
	if (r == 0)
		r = start_loaders(fill, settings->entry);
	if (r < 0)
		return r;
	*ret_fill = TAKE_PTR(fill);
	return 0;
}

static void stop_loaders(struct fill *fill)
{
	pthread_mutex_lock(&fill->lock);
	fill->stop = true;
	pthread_cond_broadcast(&fill->work);
	pthread_mutex_unlock(&fill->lock);
	for (unsigned int i = 0; i < fill->n_loaders; i++) {
		struct loader *loader = &fill->loaders[i];

		if (loader->started)
			pthread_join(loader->thread, NULL);
		loader->started = false;
	}
}

void fill_free(struct fill *fill)
{
	if (!fill)
		return;
	stop_loaders(fill);
	demand_free(fill->demand);
	move_demand_release(&fill->vm);
	for (size_t i = 0; i < THREADS_MAX; i++) {
		buffer_release(&fill->loaders[i].payload);
		packer_free(fill->loaders[i].packer);
		page_batch_release(&fill->loaders[i].batch);
	}
	saved_index_release(&fill->index);
	free(fill->units);
	free(fill->queue);
	pthread_cond_destroy(&fill->work);
	pthread_cond_destroy(&fill->news);
	pthread_mutex_destroy(&fill->lock);
	free(fill);
}

void fill_rest(struct fill *fill)
{
	pthread_mutex_lock(&fill->lock);
	fill->rest = true;
	pthread_cond_broadcast(&fill->work);
	pthread_mutex_unlock(&fill->lock);
}

static struct timespec in_ms(unsigned int ms)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_nsec += (long)(ms % 1000) * 1000000;
	at.tv_sec += ms / 1000 + at.tv_nsec / 1000000000;
	at.tv_nsec %= 1000000000;
	return at;
}

int fill_wait(struct fill *fill, unsigned int timeout_ms, struct error *err)
{
	const struct timespec due = in_ms(timeout_ms);
	int r = 0, waited = 0;

	pthread_mutex_lock(&fill->lock);
	while (!fill->failure.code && fill->unfinished && waited == 0)
		waited = pthread_cond_timedwait(&fill->news, &fill->lock, &due);
	if (fill->failure.code) {
		r = fill->failure.code;
		*err = fill->failure;
	} else if (!fill->unfinished) {
		r = 1;
	}
	pthread_mutex_unlock(&fill->lock);
	return r < 0 ? r : demand_check(fill->demand, err) < 0 ? err->code : r;
}

int fill_finish(struct fill *fill, struct error *err)
{
	int r = demand_finish(fill->demand, err);

	return r < 0 ? r : fill->link->ops->filled(fill->link, err);
}

void fill_give_up(struct fill *fill, const char *why)
{
	(void)!send(fill->vm.life, why, strlen(why), MSG_NOSIGNAL | MSG_DONTWAIT);
}

uint64_t fill_left(struct fill *fill)
{
	return demand_left(fill->demand);
}
