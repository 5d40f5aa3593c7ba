/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/measure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BETWEEN_NS (2 * NSEC_PER_MSEC)
#define STATE_LIMIT MIB(256) /* all sections together */

static int compare_ns(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static struct measure_series series(uint64_t *samples, unsigned int n)
{
	qsort(samples, n, sizeof(*samples), compare_ns);
	return (struct measure_series){
		.p50_ns = samples[n / 2],
		.p99_ns = samples[(uint64_t)n * 99 / 100],
		.max_ns = samples[n - 1],
	};
}

/* What the rounds fill. */
struct samples {
	uint64_t *barrier, *state, *collect; /* one each round */
	struct dirty_bitmap dirty;
	uint64_t dirty_pages;
	struct buffer out;
};

static void samples_release(struct samples *samples)
{
	free(samples->barrier);
	free(samples->state);
	free(samples->collect);
	dirty_bitmap_release(&samples->dirty);
	buffer_release(&samples->out);
}

static int samples_init(struct samples *samples, const struct vm *vm, unsigned int rounds)
{
	samples->barrier = calloc(rounds, sizeof(uint64_t));
	samples->state = calloc(rounds, sizeof(uint64_t));
	samples->collect = calloc(rounds, sizeof(uint64_t));
	buffer_init(&samples->out, STATE_LIMIT);
	if (!samples->barrier || !samples->state || !samples->collect)
		return -ENOMEM;
	return dirty_bitmap_init(&samples->dirty, vm->memory);
}

/* Inside the barrier. */
static int collect(struct vm *vm, struct samples *samples, uint64_t *ret_ns)
{
	const struct clock *clock = loop_clock(vm->loop);
	uint64_t begin = clock_now(clock);
	int r = memory_dirty_collect(vm->memory, &samples->dirty);

	*ret_ns = clock_now(clock) - begin;
	samples->dirty_pages += dirty_bitmap_count(&samples->dirty);
	dirty_bitmap_clear(&samples->dirty);
	return r;
}

static int one_round(struct vm *vm, const struct measure_request *request, struct samples *samples,
		     unsigned int i, struct error *err)
{
	const struct clock *clock = loop_clock(vm->loop);
	uint64_t begin = clock_now(clock), still, saved;
	int r;

	samples->out.len = 0;
	quiesce_begin(&vm->quiesce);
	still = clock_now(clock);
	r = vm_save(vm, request->scope, &samples->out, err);
	saved = clock_now(clock);
	if (r == 0 && request->dirty)
		r = collect(vm, samples, &samples->collect[i]);
	quiesce_end(&vm->quiesce);
	samples->barrier[i] = still - begin;
	samples->state[i] = saved - still;
	return r;
}

static int all_rounds(struct vm *vm, const struct measure_request *request, struct samples *samples,
		      struct error *err)
{
	const struct timespec between = { .tv_nsec = BETWEEN_NS };
	int r = request->dirty ? memory_dirty_start(vm->memory) : 0;

	for (unsigned int i = 0; r == 0 && i < request->rounds; i++) {
		nanosleep(&between, NULL);
		r = one_round(vm, request, samples, i, err);
	}
	if (request->dirty)
		memory_dirty_stop(vm->memory);
	return r;
}

int vm_measure_checkpoint(struct vm *vm, const struct measure_request *request,
			  struct measure_result *ret_result, struct error *err)
{
	struct samples samples = { 0 };
	int r;

	if (vm->status != VM_RUNNING)
		return error_set(err, -ESHUTDOWN, EXIT_STATUS_FAILED,
				 "cannot measure: the VM is %s; resume it first",
				 vm_status_name(vm->status));
	r = samples_init(&samples, vm, request->rounds);
	if (r == 0)
		r = all_rounds(vm, request, &samples, err);
	if (r == 0)
		*ret_result = (struct measure_result){
			.barrier = series(samples.barrier, request->rounds),
			.state = series(samples.state, request->rounds),
			.collect = series(samples.collect, request->rounds),
			.dirty_pages = samples.dirty_pages,
			.state_bytes = samples.out.len,
		};
	samples_release(&samples);
	if (r < 0)
		return error_set(err, r, EXIT_STATUS_FAILED, "cannot measure: %s", strerror(-r));
	return 0;
}
