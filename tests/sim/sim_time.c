/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A guest's clocks over ten moves between hosts that agree on no clock: their wall clocks are hours apart, their monotonic
 * clocks began at other moments, their TSCs run at other frequencies and were started at other values. All that they share is
 * that a second lasts a second. What the guest reads must never go back, and must be off the true time by no more than what
 * is stated at each clock below.
 */

#include "../unit/board_rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vm/memory_map.h"

#define HOSTS 4
#define MOVES 10
#define PM_HZ 3579545ULL
#define PIT_HZ 1193182ULL
#define PIT_RELOAD 0xffffU

struct host {
	struct fake_clock clock;
	struct kvm_fake_host kvm;
	uint64_t tsc_at_0;
	struct board_rig rig;
};

struct world {
	uint64_t seed, random;
	uint64_t now; /* ns of true time since the guest began */
	struct host hosts[HOSTS];
	struct host *at; /* where the guest is */
};

static uint64_t below(struct world *world, uint64_t limit)
{
	world->random ^= world->random >> 12;
	world->random ^= world->random << 25;
	world->random ^= world->random >> 27;
	return world->random * 0x2545f4914f6cdd1dULL % limit;
}

/* The fourth is too far from the first for one frequency: it scales. */
static const struct {
	uint64_t monotonic, wall, tsc;
	uint32_t khz;
	bool scales;
} hosts[HOSTS] = {
	{ 5 * NSEC_PER_SEC, 1700000000 * NSEC_PER_SEC, 1000, 2000000, true },
	{ 90000 * NSEC_PER_SEC, 1699990000 * NSEC_PER_SEC, 180000ULL << 30, 2000200, true },
	{ 7, 1700020000 * NSEC_PER_SEC, 3, 1999800, false },
	{ 800 * NSEC_PER_SEC, 0, 2400ULL << 30, 3100000, true },
};

static void set_kvm(struct world *world, struct host *host)
{
	host->kvm.tsc = host->tsc_at_0 +
			(uint64_t)((unsigned __int128)world->now * host->kvm.tsc_khz / 1000000);
	host->kvm.monotonic_ns = clock_now(&host->clock.clock);
	if (host->rig.vm)
		kvm_fake_set_host(host->rig.vm->kvm, &host->kvm);
}

/* A VM made on that host, as one of another frequency has it. */
static void make_vm(struct world *world, struct host *host)
{
	struct vm *vm;

	board_rig_free(&host->rig);
	board_rig_make(&host->rig, &host->clock.clock);
	set_kvm(world, host);
	vm = host->rig.vm;
	vm->cpu_layout.tsc_khz = host->kvm.tsc_khz;
	vm->cpu_layout.tsc_scales = host->kvm.scales;
	for (uint32_t i = 0; i < vm->n_vcpus; i++) {
		assert_int_equal(kvm_vcpu_set_tsc_khz(vcpu_kvm(vm->vcpus[i]), 0), 0);
		vm->power_on[i]->tsc_khz = host->kvm.tsc_khz;
	}
}

static void pass(struct world *world, uint64_t ns)
{
	world->now += ns;
	for (size_t i = 0; i < HOSTS; i++) {
		fake_clock_advance(&world->hosts[i].clock, ns);
		set_kvm(world, &world->hosts[i]);
		if (world->hosts[i].rig.loop)
			assert_int_equal(loop_turn(world->hosts[i].rig.loop, 0), 0);
	}
}

/* ---- what a guest reads ---- */

struct reading {
	uint64_t kvmclock, tsc[2];
	uint32_t pm;
	uint64_t rtc; /* seconds since 1970 */
	uint16_t pit;
	uint64_t taken; /* world's now */
};

static unsigned int rtc_register(struct board_rig *rig, uint8_t index)
{
	unsigned int bcd;

	board_rig_out(rig, PORT_RTC, 1, index);
	bcd = (unsigned int)board_rig_in(rig, PORT_RTC + 1, 1);
	return (bcd >> 4) * 10 + (bcd & 15);
}

static uint64_t rtc_seconds(struct board_rig *rig)
{
	struct tm tm = {
		.tm_sec = (int)rtc_register(rig, 0),
		.tm_min = (int)rtc_register(rig, 2),
		.tm_hour = (int)rtc_register(rig, 4),
		.tm_mday = (int)rtc_register(rig, 7),
		.tm_mon = (int)rtc_register(rig, 8) - 1,
		.tm_year = (int)(rtc_register(rig, 0x32) * 100 + rtc_register(rig, 9)) - 1900,
	};

	return (uint64_t)timegm(&tm);
}

static uint16_t pit_count(struct board_rig *rig)
{
	uint16_t low;

	board_rig_out(rig, PORT_PIT + 3, 1, 0x00); /* latch counter 0 */
	low = (uint16_t)board_rig_in(rig, PORT_PIT, 1);
	return (uint16_t)(low | board_rig_in(rig, PORT_PIT, 1) << 8);
}

static void read_clocks(struct world *world, struct reading *ret)
{
	struct board_rig *rig = &world->at->rig;
	struct kvm_clock_data data;

	assert_int_equal(kvm_vm_get_clock(rig->vm->kvm, &data), 0);
	ret->kvmclock = data.clock;
	for (uint32_t i = 0; i < 2; i++)
		ret->tsc[i] = kvm_fake_guest_tsc(vcpu_kvm(rig->vm->vcpus[i]));
	ret->pm = (uint32_t)board_rig_in(rig, PORT_ACPI_PM + 8, 4);
	ret->rtc = rtc_seconds(rig);
	ret->pit = pit_count(rig);
	ret->taken = world->now;
}

static void assert_near(const struct world *world, const char *clock, int64_t off, int64_t bound)
{
	if (off < -bound || off > bound)
		fail_msg("seed %llu: after %llu ns %s is off by %lld, more than %lld",
			 (unsigned long long)world->seed, (unsigned long long)world->now, clock,
			 (long long)off, (long long)bound);
}

/* Ticks of a counter of `hz` in the true time since `first`. */
static uint64_t ticks_since(const struct reading *first, const struct reading *now, uint64_t hz)
{
	return (uint64_t)((unsigned __int128)(now->taken - first->taken) * hz / NSEC_PER_SEC);
}

static void judge_drift(const struct world *world, const struct reading *first,
			const struct reading *now)
{
	uint64_t elapsed = now->taken - first->taken;
	/* A guest's TSC of this many kHz, which hosts within the tolerance run as fast as their own. */
	uint64_t tsc = (uint64_t)((unsigned __int128)elapsed * hosts[0].khz / 1000000);
	uint32_t pm = (uint32_t)(now->pm - first->pm - ticks_since(first, now, PM_HZ)) << 8;
	uint64_t pit = (first->pit + PIT_RELOAD - ticks_since(first, now, PIT_HZ) % PIT_RELOAD) %
		       PIT_RELOAD;

	/* Not a nanosecond. */
	assert_near(world, "kvmclock", (int64_t)(now->kvmclock - first->kvmclock - elapsed), 0);
	/* The tolerance of frequency, and a tick of rounding for each move. */
	assert_near(world, "the TSC", (int64_t)(now->tsc[0] - first->tsc[0] - tsc),
		    (int64_t)(tsc / 1000000 * VCPU_TSC_TOLERANCE_PPM) + MOVES);
	assert_int_equal(now->tsc[1] - now->tsc[0], first->tsc[1] - first->tsc[0]);
	/* One tick, that in which it was read. */
	assert_near(world, "the PM timer", (int32_t)pm >> 8, 1);
	assert_near(world, "the PIT",
		    ((int64_t)now->pit - (int64_t)pit + PIT_RELOAD + PIT_RELOAD / 2) % PIT_RELOAD -
			    PIT_RELOAD / 2,
		    2);
	assert_near(world, "the RTC", (int64_t)(now->rtc - first->rtc - elapsed / NSEC_PER_SEC), 1);
}

static void judge_order(const struct world *world, const struct reading *before,
			const struct reading *now)
{
	bool back = now->kvmclock < before->kvmclock || now->tsc[0] < before->tsc[0] ||
		    now->tsc[1] < before->tsc[1] || now->rtc < before->rtc;

	if (back)
		fail_msg("seed %llu: a clock went back", (unsigned long long)world->seed);
}

/* ---- moves ---- */

static struct host *next_host(struct world *world)
{
	for (;;) {
		struct host *host = &world->hosts[below(world, HOSTS)];
		/* Who cannot scale takes a guest of its own frequency only. */
		if (host != world->at)
			return host;
	}
}

static void move(struct world *world)
{
	struct host *to = next_host(world);
	uint64_t stopped = below(world, 3 * NSEC_PER_SEC);
	struct buffer state;
	struct error err = { 0 };

	make_vm(world, to);
	board_rig_save(&world->at->rig, &state);
	/* A rehearsal on the way, as in every move, changes no clock. */
	if (board_rig_load(&to->rig, &state, 0, VM_LOAD_REHEARSAL, &err) < 0)
		fail_msg("%s", err.message);
	pass(world, stopped);
	if (board_rig_load(&to->rig, &state, stopped, VM_LOAD_WHOLE, &err) < 0)
		fail_msg("%s", err.message);
	board_rig_free(&world->at->rig);
	world->at = to;
	buffer_release(&state);
}

static void begin(struct world *world, uint64_t seed)
{
	memset(world, 0, sizeof(*world));
	world->seed = seed;
	world->random = seed * 0x9e3779b97f4a7c15ULL + 1;
	for (size_t i = 0; i < HOSTS; i++) {
		struct host *host = &world->hosts[i];

		fake_clock_init(&host->clock, hosts[i].monotonic, hosts[i].wall);
		host->tsc_at_0 = hosts[i].tsc;
		host->kvm.tsc_khz = hosts[i].khz;
		host->kvm.scales = hosts[i].scales;
	}
	world->at = &world->hosts[0];
	make_vm(world, world->at);
	/* The PIT's counter 0 in mode 2. Its vCPUs' TSCs, a little apart as a kernel may have left them. */
	board_rig_out(&world->at->rig, PORT_PIT + 3, 1, 0x34);
	board_rig_out(&world->at->rig, PORT_PIT, 1, PIT_RELOAD & 0xff);
	board_rig_out(&world->at->rig, PORT_PIT, 1, PIT_RELOAD >> 8);
	assert_int_equal(kvm_vcpu_set_tsc_offset(vcpu_kvm(world->at->rig.vm->vcpus[1]), 77), 0);
}

static void run(uint64_t seed)
{
	struct world *world = calloc(1, sizeof(*world));
	struct reading first, before, now;

	assert_non_null(world);
	begin(world, seed);
	pass(world, below(world, NSEC_PER_SEC));
	read_clocks(world, &first);
	before = first;
	for (unsigned int i = 0; i < MOVES; i++) {
		pass(world, below(world, 30 * NSEC_PER_SEC));
		read_clocks(world, &now);
		judge_order(world, &before, &now);
		judge_drift(world, &first, &now);
		before = now;
		move(world);
		read_clocks(world, &now);
		judge_order(world, &before, &now);
		judge_drift(world, &first, &now);
		before = now;
	}
	for (size_t i = 0; i < HOSTS; i++)
		board_rig_free(&world->hosts[i].rig);
	free(world);
}

static void ten_moves_and_the_clocks_are_right(void **state _unused_)
{
	for (uint64_t seed = 1; seed <= 20; seed++)
		run(seed);
}

/* A guest of 2 GHz cannot go where the TSC has 3.1 GHz and does not scale: said before the stop. */
static void a_host_that_cannot_scale_refuses(void **state _unused_)
{
	struct world *world = calloc(1, sizeof(*world));
	struct buffer saved;
	struct error err = { 0 };

	assert_non_null(world);
	begin(world, 1);
	world->hosts[3].kvm.scales = false;
	make_vm(world, &world->hosts[3]);
	board_rig_save(&world->at->rig, &saved);
	assert_int_equal(board_rig_load(&world->hosts[3].rig, &saved, 0, VM_LOAD_REHEARSAL, &err),
			 -EINVAL);
	assert_non_null(strstr(err.message, "2000000 kHz"));
	assert_non_null(strstr(err.message, "3100000 kHz"));
	buffer_release(&saved);
	for (size_t i = 0; i < HOSTS; i++)
		board_rig_free(&world->hosts[i].rig);
	free(world);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ten_moves_and_the_clocks_are_right),
		cmocka_unit_test(a_host_that_cannot_scale_refuses),
	};

	if (argc > 1) {
		run(strtoull(argv[1], NULL, 0));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
