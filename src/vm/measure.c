/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/measure.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"

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

static int one_round(struct vm *vm, enum vm_save_scope scope, struct buffer *out,
		     uint64_t *ret_barrier, uint64_t *ret_state, struct error *err)
{
	const struct clock *clock = loop_clock(vm->loop);
	uint64_t begin = clock_now(clock), still;
	int r;

	out->len = 0;
	quiesce_begin(&vm->quiesce);
	still = clock_now(clock);
	r = vm_save(vm, scope, out, err);
	*ret_state = clock_now(clock) - still;
	quiesce_end(&vm->quiesce);
	*ret_barrier = still - begin;
	return r;
}

int vm_measure_checkpoint(struct vm *vm, unsigned int rounds, enum vm_save_scope scope,
			  struct measure_result *ret_result, struct error *err)
{
	const struct timespec between = { .tv_nsec = BETWEEN_NS };
	_cleanup_(freep) uint64_t *barrier = calloc(rounds, sizeof(*barrier));
	_cleanup_(freep) uint64_t *state = calloc(rounds, sizeof(*state));
	struct buffer out;
	int r = 0;

	if (vm->status != VM_RUNNING)
		return error_set(err, -ESHUTDOWN, EXIT_STATUS_FAILED,
				 "cannot measure: the VM is %s; resume it first",
				 vm_status_name(vm->status));
	if (!barrier || !state)
		return error_set(err, -ENOMEM, EXIT_STATUS_HOST, "cannot measure: out of memory");
	buffer_init(&out, STATE_LIMIT);
	for (unsigned int i = 0; r == 0 && i < rounds; i++) {
		nanosleep(&between, NULL);
		r = one_round(vm, scope, &out, &barrier[i], &state[i], err);
	}
	if (r == 0)
		*ret_result = (struct measure_result){
			.barrier = series(barrier, rounds),
			.state = series(state, rounds),
			.state_bytes = out.len,
		};
	buffer_release(&out);
	return r;
}
