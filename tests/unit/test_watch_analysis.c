/* SPDX-License-Identifier: Apache-2.0 */
/* Windows, counters, and the class of a window: each rule at both sides of its threshold. */
#include "analysis_feed.h"

#define SECOND NSEC_PER_SEC
#define MS NSEC_PER_MSEC

/* vCPU 0 runs `permille` of a second; both are sampled every 100 ms. */
static void run_vcpu(struct feed *feed, uint64_t permille)
{
	for (uint64_t i = 0; i <= 10; i++) {
		feed_vcpu(feed, i * 100 * MS, 0, 7 * SECOND + i * permille * 100000);
		feed_vcpu(feed, i * 100 * MS, 1, 3 * SECOND);
	}
}

/* A request is under way for `permille` of each millisecond of a second. */
static void use_disk(struct feed *feed, uint64_t permille)
{
	for (uint64_t i = 0; i < 1000; i++)
		feed_disk(feed, i * MS, permille * 1000, i << 32);
}

static enum analysis_bound bound(struct feed *feed)
{
	enum analysis_bound found = feed_now(feed, SECOND)->bound;

	feed_free(feed);
	return found;
}

static void test_a_vm_that_sleeps_is_idle(void **state)
{
	struct feed *feed = feed_new(0);

	run_vcpu(feed, 49);
	assert_int_equal(bound(feed), BOUND_IDLE);

	feed = feed_new(0);
	run_vcpu(feed, 51);
	assert_int_equal(bound(feed), BOUND_LIGHT);
}

static void test_a_vm_that_computes_is_bound_by_cpu(void **state)
{
	struct feed *feed = feed_new(0);

	run_vcpu(feed, 799);
	assert_int_equal(bound(feed), BOUND_LIGHT);

	feed = feed_new(0);
	run_vcpu(feed, 801);
	assert_true(feed_now(feed, SECOND)->shares.cpu_known);
	assert_in_range((int)(1000 * feed->window.cpu_share[0]), 800, 802);
	assert_int_equal((int)feed->window.cpu_share[1], 0);
	assert_int_equal(bound(feed), BOUND_CPU);
}

/* Without samples a VM that asks for nothing may compute or sleep. */
static void test_without_vcpu_times_quiet_is_unknown(void **state)
{
	struct feed *feed = feed_new(0);

	feed_begin(feed);
	assert_false(feed_now(feed, SECOND)->shares.cpu_known);
	assert_true(feed->window.cpu_share[0] < 0);
	assert_int_equal(bound(feed), BOUND_UNKNOWN);
}

/* A vCPU that is always in the monitor's hands, without being asked for its time. */
static void test_time_in_requests_counts_for_the_cpu(void **state)
{
	struct feed *feed;

	for (uint64_t permille = 799; permille <= 801; permille += 2) {
		feed = feed_new(0);
		feed_begin(feed);
		for (uint64_t i = 0; i < 100; i++) {
			struct watch_record r = feed_pio(FEED_RTC, i * 10 * MS, permille * 10000,
							 0x70, 0x1000);

			r.data = i;
			feed_add(feed, &r);
		}
		assert_int_equal(bound(feed), permille < 800 ? BOUND_LIGHT : BOUND_CPU);
	}
}

static void test_a_busy_disk_binds(void **state)
{
	struct feed *feed = feed_new(0);

	feed_begin(feed);
	use_disk(feed, 499);
	assert_int_equal(bound(feed), BOUND_LIGHT);

	feed = feed_new(0);
	feed_begin(feed);
	use_disk(feed, 501);
	assert_int_equal(bound(feed), BOUND_DISK);
}

/* Requests that overlap are one time under way: 32 at once for a quarter of the time. */
static void test_deep_queues_do_not_look_busier(void **state)
{
	struct feed *feed = feed_new(0);

	feed_begin(feed);
	for (uint64_t i = 0; i < 10; i++)
		for (uint64_t j = 0; j < 32; j++)
			feed_disk(feed, i * 100 * MS + j * 1000, 25 * MS, j << 32);
	assert_in_range((int)(1000 * feed_now(feed, SECOND)->shares.disk), 250, 251);
	assert_int_equal(bound(feed), BOUND_LIGHT);
}

static void test_frames_in_a_row_bind(void **state)
{
	struct feed *feed = feed_new(0);

	feed_begin(feed);
	for (uint64_t i = 0; i < 500; i++) /* each counts for a millisecond */
		feed_frame(feed, i * 2 * MS + (i < 250 ? 0 : MS / 10));
	assert_in_range((int)(1000 * feed_now(feed, SECOND)->shares.net), 499, 501);
	feed_frame(feed, 999 * MS - MS / 2);
	assert_int_equal(bound(feed), BOUND_NET);

	feed = feed_new(0);
	feed_begin(feed);
	for (uint64_t i = 0; i < 490; i++)
		feed_frame(feed, i * 2 * MS);
	assert_int_equal(bound(feed), BOUND_LIGHT);
}

static void test_a_slow_serial_line_binds(void **state)
{
	for (uint64_t permille = 249; permille <= 251; permille += 2) {
		struct feed *feed = feed_new(0);

		feed_begin(feed);
		for (uint64_t i = 0; i < 1000; i++) {
			struct watch_record r = feed_pio(FEED_SERIAL, i * MS, permille * 1000,
							 0x3f8, 0x1000);

			r.flags = RECORD_WRITE;
			feed_add(feed, &r);
		}
		assert_int_equal(bound(feed), permille < 250 ? BOUND_LIGHT : BOUND_CONSOLE);
	}
}

/* Output of a console counts, buffers that wait for a key do not. */
static void test_a_console_with_queues_binds_by_its_output(void **state)
{
	struct feed *feed = feed_new(0);
	struct watch_record r = feed_record(RECORD_QUEUE, FEED_HVC, 0, SECOND);

	feed_begin(feed);
	feed_add(feed, &r);
	assert_int_equal(bound(feed), BOUND_UNKNOWN);

	feed = feed_new(0);
	feed_begin(feed);
	r.flags = RECORD_WRITE;
	r.duration = 300 * MS;
	feed_add(feed, &r);
	assert_int_equal(bound(feed), BOUND_CONSOLE);
}

static void test_two_at_once_are_mixed(void **state)
{
	struct feed *feed = feed_new(0);

	run_vcpu(feed, 900);
	use_disk(feed, 900);
	assert_int_equal(bound(feed), BOUND_MIXED);
}

/* 45 % of the time it computes, and then it waits for its disk. */
static void test_by_turns_is_mixed(void **state)
{
	struct feed *feed = feed_new(0);

	run_vcpu(feed, 450);
	use_disk(feed, 345);
	assert_int_equal(bound(feed), BOUND_LIGHT);

	feed = feed_new(0);
	run_vcpu(feed, 450);
	use_disk(feed, 355);
	assert_int_equal(bound(feed), BOUND_MIXED);
}

static void test_each_class_has_a_rule_and_words(void **state)
{
	unsigned int seen = 0;

	for (size_t i = 0; i < BOUND_N; i++) {
		seen |= 1U << analysis_rules[i].bound;
		assert_true(strlen(analysis_rules[i].when) > 10);
		assert_string_equal(analysis_bound_name(analysis_rules[i].bound),
				    analysis_rules[i].name);
	}
	assert_int_equal(seen, (1U << BOUND_N) - 1);
	assert_int_equal(analysis_rules[BOUND_N - 1].bound, BOUND_LIGHT);
}

static void test_windows_follow_each_other(void **state)
{
	struct feed *feed = feed_new(SECOND);

	feed_begin(feed);
	for (uint64_t i = 0; i < 35; i++)
		feed_disk(feed, i * 100 * MS, MS, i * 4096);
	assert_int_equal(feed->complete, 3);
	assert_int_equal(feed->window.begin_ns, FEED_EPOCH + 2 * SECOND);
	assert_int_equal(feed->window.end_ns, FEED_EPOCH + 3 * SECOND);
	assert_int_equal(feed->window.records, 10);
	assert_int_equal(feed->window.devices[0].sequential, 10);
	assert_false(analysis_take(feed->analysis, false, &feed->window));
	assert_int_equal(feed_now(feed, 3500 * MS)->records, 5);
	assert_int_equal(feed->window.begin_ns, FEED_EPOCH + 3 * SECOND);
	feed_free(feed);
}

/* Nothing for a minute: the window before is complete, the next one begins in step. */
static void test_an_empty_time_is_passed_over(void **state)
{
	struct feed *feed = feed_new(SECOND);

	feed_begin(feed);
	feed_disk(feed, 0, MS, 0);
	feed_disk(feed, 60 * SECOND + SECOND / 2, MS, 4096);
	assert_int_equal(feed->complete, 1);
	assert_int_equal(feed->window.records, 1);
	assert_int_equal(feed_now(feed, 60 * SECOND + SECOND / 2)->begin_ns,
			 FEED_EPOCH + 60 * SECOND);
	assert_int_equal(analysis_pass(feed->analysis, FEED_EPOCH + 61 * SECOND), 1);
	feed_free(feed);
}

/* A request that takes three seconds keeps the disk in use in the window in which it is answered, from that one's
 * begin. */
static void test_a_long_request_reaches_over_windows(void **state)
{
	struct feed *feed = feed_new(SECOND);

	feed_begin(feed);
	feed_disk(feed, 500 * MS, 2 * SECOND, 0);
	feed_frame(feed, 1100 * MS);
	assert_in_range((int)(1000 * feed->window.shares.disk), 499, 501);
	feed_frame(feed, 2100 * MS);
	assert_in_range((int)(1000 * feed->window.shares.disk), 999, 1000);
	feed_frame(feed, 3100 * MS);
	assert_in_range((int)(1000 * feed->window.shares.disk), 499, 501);
	feed_free(feed);
}

static void test_what_is_lost_is_counted_once(void **state)
{
	struct feed *feed = feed_new(SECOND);

	feed_begin(feed);
	analysis_lost(feed->analysis, 5);
	feed_disk(feed, 1100 * MS, MS, 0);
	assert_int_equal(feed->window.lost, 5);
	assert_int_equal(feed_now(feed, 1200 * MS)->lost, 0);
	feed_free(feed);
}

static void test_disk_requests_are_told_apart(void **state)
{
	struct feed *feed = feed_new(0);
	struct watch_record r = feed_record(RECORD_DISK, FEED_DISK, 0, 1000);
	const struct analysis_device *disk;

	for (uint8_t operation = 0; operation <= RECORD_DISK_OTHER; operation++) {
		r.operation = operation;
		r.address = operation * 1000000;
		r.data = 512;
		feed_add(feed, &r);
	}
	r.operation = 200; /* no such */
	feed_add(feed, &r);
	disk = &feed_now(feed, SECOND)->devices[0];
	assert_int_equal(disk->requests, 7);
	assert_int_equal(disk->operations[RECORD_DISK_READ], 1);
	assert_int_equal(disk->operations[RECORD_DISK_OTHER], 2);
	assert_int_equal(disk->moves, 2);
	assert_int_equal(disk->request_bytes, 7 * 512);
	assert_int_equal(disk->role, ROLE_DISK);
	feed_free(feed);
}

/* Eight files are read in turn, and neighbours overtake each other: still sequential. */
static void test_interleaved_streams_are_sequential(void **state)
{
	struct feed *feed = feed_new(0);
	const struct analysis_device *disk;

	for (uint64_t i = 0; i < 100; i++)
		for (uint64_t file = 0; file < 8; file++)
			feed_disk(feed, i * MS + file, 10000, (file << 40) + (i ^ 1) * 4096);
	disk = &feed_now(feed, SECOND)->devices[0];
	assert_int_equal(disk->moves, 800);
	assert_true(disk->sequential >= 780);
	feed_free(feed);
}

static void test_random_offsets_are_not_sequential(void **state)
{
	struct feed *feed = feed_new(0);

	for (uint64_t i = 0; i < 1000; i++)
		feed_disk(feed, i * MS, 10000, (feed_random(feed) & 0xffffffff) * 4096);
	assert_true(feed_now(feed, SECOND)->devices[0].sequential < 10);
	feed_free(feed);
}

/* The head of a journal is written each time. */
static void test_the_same_block_again_is_not_sequential(void **state)
{
	struct feed *feed = feed_new(0);

	for (uint64_t i = 0; i < 1000; i++)
		feed_disk(feed, i * MS, 10000, 1 << 20);
	assert_int_equal(feed_now(feed, SECOND)->devices[0].sequential, 0);
	feed_free(feed);
}

static void test_nested_accesses_count_once(void **state)
{
	struct feed *feed = feed_new(0);
	struct watch_record r = feed_pio(FEED_DISK, 0, 100, 0, 0x1000);

	r.kind = RECORD_PCI;
	r.flags = RECORD_NESTED;
	feed_add(feed, &r);
	r.kind = RECORD_PIO;
	r.flags = 0;
	r.device = FEED_RTC;
	feed_add(feed, &r);
	assert_int_equal(feed_now(feed, SECOND)->records, 2);
	assert_int_equal(feed->window.kinds[RECORD_PCI], 1);
	assert_int_equal(feed->window.n_devices, 1);
	assert_int_equal(feed->window.devices[0].accesses, 1);
	feed_free(feed);
}

/* More devices than the table holds, and numbers that name none: counted together. */
static void test_devices_beyond_the_table_share_a_place(void **state)
{
	struct feed *feed = feed_new(0);
	uint64_t accesses = 0;

	for (uint32_t i = 0; i < 300; i++) {
		struct watch_record r = feed_pio((uint16_t)i, i * 1000, 100, 0x80, 0x1000);

		feed_add(feed, &r);
	}
	assert_int_equal(feed_now(feed, SECOND)->n_devices, ANALYSIS_DEVICES);
	for (uint32_t i = 0; i < ANALYSIS_DEVICES; i++)
		accesses += feed->window.devices[i].accesses;
	assert_int_equal(accesses, 300);
	assert_int_equal(feed->window.devices[ANALYSIS_DEVICES - 1].device, STORE_NO_DEVICE);
	feed_free(feed);
}

/* A real-time load: every 2 ms a few writes, among a disk used at random. */
static void test_a_real_time_load_shows_its_period(void **state)
{
	struct feed *feed = feed_new(0);
	uint64_t disk = 0;

	feed_begin(feed);
	for (uint64_t i = 0; i < 500; i++) {
		for (uint64_t j = 0; j < 5; j++) {
			uint64_t at = i * 2 * MS + feed_random(feed) % 50000 + j * 100000;
			struct watch_record r = feed_pio(FEED_RTC, at, 5000, 0x70, 0x1000);

			feed_add(feed, &r);
		}
		disk += feed_random(feed) % (4 * MS);
		if (disk < SECOND)
			feed_disk(feed, disk, 20000, 0);
	}
	assert_in_range(feed_now(feed, SECOND)->period_ns, 1980000, 2020000);
	assert_int_equal(feed->window.period_device, FEED_RTC);
	assert_in_range(feed->window.period_permille, 950, 1000);
	assert_in_range(feed->window.devices[1].period_permille, 0, 400);
	assert_int_equal(feed->window.devices[1].period_ns, 0);
	feed_free(feed);
}

static void test_the_hottest_instructions_come_first(void **state)
{
	struct feed *feed = feed_new(0);
	const struct analysis_site *site;

	for (uint64_t i = 0; i < 1000; i++) {
		struct watch_record r = feed_pio(FEED_SERIAL, i * 1000, 300, 0x3fd,
						 i % 10 ? 0xffffffff81000000 : 0x2000 + i);

		feed_add(feed, &r);
	}
	site = &feed_now(feed, SECOND)->sites[0];
	assert_true(site->instruction == 0xffffffff81000000);
	assert_int_equal(site->count, 900);
	assert_int_equal(site->over, 0);
	assert_int_equal(site->ticks, 900 * 300);
	assert_int_equal(site->length, 1);
	assert_int_equal(site->n_code, 1);
	assert_int_equal(site->code[0], 0xec);
	assert_int_equal(feed->window.n_sites, ANALYSIS_TOP);
	feed_free(feed);
}

/* Behind RIP in 32-bit code, whose linear addresses go by the base of CS. */
static void test_code_before_rip_is_found(void **state)
{
	struct feed *feed = feed_new(0);
	struct watch_record r = feed_pio(FEED_SERIAL, 0, 300, 0x3f8, 0x10fe);

	r.access.mode = 32;
	r.access.verdict = RECORD_INSN_BEFORE;
	r.access.registers.general[9] = 0x1000;
	r.access.registers.rip = 0x100;
	r.access.length = 2;
	r.access.n_before = 2;
	r.access.code[14] = 0x66;
	r.access.code[15] = 0xef;
	feed_add(feed, &r);
	r.access.n_before = 1; /* now not all of it is known */
	r.device = FEED_RTC;
	feed_add(feed, &r);
	feed_now(feed, SECOND);
	assert_int_equal(feed->window.sites[0].length, 2);
	assert_memory_equal(feed->window.sites[0].code, "\x66\xef", 2);
	assert_int_equal(feed->window.sites[1].length, 0);
	assert_int_equal(feed->window.sites[1].n_code, 16);
	feed_free(feed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_vm_that_sleeps_is_idle),
		cmocka_unit_test(test_a_vm_that_computes_is_bound_by_cpu),
		cmocka_unit_test(test_without_vcpu_times_quiet_is_unknown),
		cmocka_unit_test(test_time_in_requests_counts_for_the_cpu),
		cmocka_unit_test(test_a_busy_disk_binds),
		cmocka_unit_test(test_deep_queues_do_not_look_busier),
		cmocka_unit_test(test_frames_in_a_row_bind),
		cmocka_unit_test(test_a_slow_serial_line_binds),
		cmocka_unit_test(test_a_console_with_queues_binds_by_its_output),
		cmocka_unit_test(test_two_at_once_are_mixed),
		cmocka_unit_test(test_by_turns_is_mixed),
		cmocka_unit_test(test_each_class_has_a_rule_and_words),
		cmocka_unit_test(test_windows_follow_each_other),
		cmocka_unit_test(test_an_empty_time_is_passed_over),
		cmocka_unit_test(test_a_long_request_reaches_over_windows),
		cmocka_unit_test(test_what_is_lost_is_counted_once),
		cmocka_unit_test(test_disk_requests_are_told_apart),
		cmocka_unit_test(test_interleaved_streams_are_sequential),
		cmocka_unit_test(test_random_offsets_are_not_sequential),
		cmocka_unit_test(test_the_same_block_again_is_not_sequential),
		cmocka_unit_test(test_nested_accesses_count_once),
		cmocka_unit_test(test_devices_beyond_the_table_share_a_place),
		cmocka_unit_test(test_a_real_time_load_shows_its_period),
		cmocka_unit_test(test_the_hottest_instructions_come_first),
		cmocka_unit_test(test_code_before_rip_is_found),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
