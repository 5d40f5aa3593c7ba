/* SPDX-License-Identifier: Apache-2.0 */

/* Ten moves in a row between VMs under the kernel's KVM: a guest's kvmclock goes on and keeps the host's time. */

#include "board_rig.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "cpu/state.h"

#define MOVES 10
#define STOP_US 20000
/* Some microseconds are usual; a busy computer may take the processor away between two readings that belong together. */
#define DRIFT_MAX_NS (100 * NSEC_PER_MSEC)

struct reading {
	uint64_t kvmclock, host;
};

/* Both at one moment, as near as one try in several comes. */
static struct reading read_clocks(struct board_rig *rig)
{
	struct reading best = { 0 };
	uint64_t narrowest = UINT64_MAX;

	for (int i = 0; i < 8; i++) {
		uint64_t before = clock_now(&clock_host), after;
		struct kvm_clock_data data;

		assert_int_equal(kvm_vm_get_clock(rig->vm->kvm, &data), 0);
		after = clock_now(&clock_host);
		if (after - before < narrowest) {
			narrowest = after - before;
			best = (struct reading){ data.clock, before + narrowest / 2 };
		}
	}
	return best;
}

static void move(struct board_rig *to, struct board_rig *from)
{
	struct buffer state;
	struct error err = { 0 };

	board_rig_make(to, &clock_host);
	board_rig_save(from, &state);
	usleep(STOP_US);
	if (board_rig_load(to, &state, clock_now(&clock_host) - from->vm->saved_ns, VM_LOAD_WHOLE,
			   &err) < 0)
		fail_msg("%s", err.message);
	buffer_release(&state);
	board_rig_free(from);
}

static void ten_moves_keep_the_time(void **state _unused_)
{
	static struct board_rig rigs[2];
	struct reading first, before, now;
	int64_t drift;

	board_rig_make(&rigs[0], &clock_host);
	first = before = read_clocks(&rigs[0]);
	for (int i = 0; i < MOVES; i++) {
		move(&rigs[(i + 1) % 2], &rigs[i % 2]);
		now = read_clocks(&rigs[(i + 1) % 2]);
		/* Not less than the stop has passed for the guest. */
		assert_true(now.kvmclock >= before.kvmclock + STOP_US * NSEC_PER_USEC);
		before = now;
	}
	drift = (int64_t)(now.kvmclock - first.kvmclock - (now.host - first.host));
	print_message("after %d moves the guest's clock is off by %lld us\n", MOVES,
		      (long long)drift / 1000);
	assert_true(llabs(drift) <= (long long)DRIFT_MAX_NS);
	board_rig_free(&rigs[MOVES % 2]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(ten_moves_keep_the_time) };
	struct kvm_system *system;

	if (kvm_open(-1, &system) < 0) {
		print_message("no /dev/kvm here\n");
		return 77;
	}
	kvm_close(system);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
