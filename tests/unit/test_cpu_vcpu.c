/* SPDX-License-Identifier: Apache-2.0 */

/* The run loop, with exits from a script. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cpu/vcpu.h"
#include "kvm/fake.h"
#include "check.h"

struct rig {
	struct kvm_system *system;
	struct kvm_vm *kvm;
	struct bus *bus;
	struct memory *memory;
	struct quiesce quiesce;
	struct vcpu *vcpu;
	struct bus_region region;
	uint64_t written[8];
	unsigned int n_written;
	unsigned int eois, failures, resets, power_offs;
	int pic_vector;
	uint64_t answer;
	const char *failure;
};

static uint64_t port_read(void *ctx, uint64_t offset, unsigned int size _unused_)
{
	struct rig *rig = ctx;

	return rig->answer + offset;
}

static void port_write(void *ctx, uint64_t offset _unused_, unsigned int size _unused_,
		       uint64_t data)
{
	struct rig *rig = ctx;

	if (rig->n_written < ARRAY_SIZE(rig->written))
		rig->written[rig->n_written++] = data;
}

static const struct bus_ops port_ops = { port_read, port_write };

static void on_eoi(void *ctx, uint8_t vector)
{
	struct rig *rig = ctx;

	rig->eois += vector == 0x31;
}

static int on_pic(void *ctx)
{
	return ((struct rig *)ctx)->pic_vector;
}

static void on_failed(void *ctx, uint32_t index _unused_, int code _unused_, const char *what)
{
	struct rig *rig = ctx;

	rig->failure = what;
	__atomic_add_fetch(&rig->failures, 1, __ATOMIC_RELEASE);
}

static void on_ended(void *ctx, uint32_t index _unused_, enum vcpu_end how)
{
	struct rig *rig = ctx;

	__atomic_add_fetch(how == VCPU_END_TRIPLE_FAULT ? &rig->resets : &rig->power_offs, 1,
			   __ATOMIC_RELEASE);
}

static int set_up(void **state)
{
	struct rig *rig = calloc(1, sizeof(*rig));
	struct kvm_cpuid2 cpuid = { 0 };
	struct vcpu_host host;

	assert_int_equal(kvm_open(-1, &rig->system), 0);
	assert_int_equal(kvm_vm_new(rig->system, &rig->kvm), 0);
	assert_int_equal(
		memory_create(MIB(2), GIB(2), GIB(4), MEMORY_HUGE_OFF, -1, &rig->memory, NULL), 0);
	rig->bus = bus_new();
	quiesce_init(&rig->quiesce);
	rig->region = (struct bus_region){
		.name = "port",
		.space = BUS_PIO,
		.base = 0x100,
		.len = 16,
		.ops = &port_ops,
		.ctx = rig,
	};
	assert_int_equal(bus_add(rig->bus, &rig->region), 0);
	host = (struct vcpu_host){
		.kvm = rig->kvm,
		.bus = rig->bus,
		.quiesce = &rig->quiesce,
		.memory = rig->memory,
		.eoi = on_eoi,
		.pic_acknowledge = on_pic,
		.failed = on_failed,
		.ended = on_ended,
		.ctx = rig,
	};
	assert_int_equal(vcpu_new(&host, 0, &cpuid, &rig->vcpu, NULL), 0);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vcpu_stop(rig->vcpu);
	vcpu_free(rig->vcpu);
	quiesce_destroy(&rig->quiesce);
	bus_free(rig->bus);
	memory_free(rig->memory);
	kvm_vm_free(rig->kvm);
	kvm_close(rig->system);
	free(rig);
	return 0;
}

static void fill_io(struct kvm_run *run, uint8_t direction, uint8_t size, uint16_t port,
		    uint32_t count)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = direction;
	run->io.size = size;
	run->io.port = port;
	run->io.count = count;
	run->io.data_offset = sizeof(struct kvm_run);
}

static uint8_t *io_data(struct kvm_run *run)
{
	return (uint8_t *)run + run->io.data_offset;
}

static void out_string(struct kvm_run *run, void *ctx _unused_)
{
	fill_io(run, KVM_EXIT_IO_OUT, 2, 0x102, 3);
	memcpy(io_data(run), "\x01\x00\x02\x00\x03\x00", 6);
}

static void in_string(struct kvm_run *run, void *ctx _unused_)
{
	fill_io(run, KVM_EXIT_IO_IN, 1, 0x103, 2);
}

static void check_in_string(const struct kvm_run *run, void *ctx _unused_)
{
	assert_memory_equal((const uint8_t *)run + run->io.data_offset, "\x43\x43", 2);
}

static void eoi_exit(struct kvm_run *run, void *ctx _unused_)
{
	run->exit_reason = KVM_EXIT_IOAPIC_EOI;
	run->eoi.vector = 0x31;
}

static void odd_mmio_write(struct kvm_run *run, void *ctx _unused_)
{
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio.phys_addr = 0xd0000000;
	run->mmio.len = 3;
	run->mmio.is_write = 0;
}

static void check_odd_mmio(const struct kvm_run *run, void *ctx _unused_)
{
	assert_memory_equal(run->mmio.data, "\xff\xff\xff", 3);
}

static void run_script(struct rig *rig, const struct kvm_fake_exit *exits, size_t count)
{
	kvm_fake_script(vcpu_kvm(rig->vcpu), exits, count);
	assert_int_equal(vcpu_start(rig->vcpu, NULL), 0);
	while (!kvm_fake_script_done(vcpu_kvm(rig->vcpu)) &&
	       !__atomic_load_n(&rig->failures, __ATOMIC_ACQUIRE))
		usleep(100);
}

static void exits_become_accesses(void **state)
{
	static const struct kvm_fake_exit script[] = {
		{ .fill = out_string },
		{ .fill = in_string, .then = check_in_string },
		{ .fill = eoi_exit, .times = 3 },
		{ .fill = odd_mmio_write, .then = check_odd_mmio },
	};
	struct rig *rig = *state;

	rig->answer = 0x40;
	run_script(rig, script, ARRAY_SIZE(script));
	vcpu_stop(rig->vcpu);
	assert_int_equal(rig->n_written, 3);
	assert_int_equal(rig->written[0], 1);
	assert_int_equal(rig->written[2], 3);
	assert_int_equal(rig->eois, 3);
	assert_int_equal(vcpu_exits(rig->vcpu), 6);
}

static void shutdown_exit(struct kvm_run *run, void *ctx _unused_)
{
	run->exit_reason = KVM_EXIT_SHUTDOWN;
}

static void power_off_event(struct kvm_run *run, void *ctx _unused_)
{
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = KVM_SYSTEM_EVENT_SHUTDOWN;
}

static void unknown_exit(struct kvm_run *run, void *ctx _unused_)
{
	run->exit_reason = 9999;
}

/* Until the vCPU's thread has counted one. */
static void wait_for(const unsigned int *count)
{
	while (!__atomic_load_n(count, __ATOMIC_ACQUIRE))
		usleep(100);
}

static void a_triple_fault_is_a_reset(void **state)
{
	static const struct kvm_fake_exit script[] = { { .fill = shutdown_exit },
						       { .fill = power_off_event } };
	struct rig *rig = *state;

	kvm_fake_script(vcpu_kvm(rig->vcpu), script, ARRAY_SIZE(script));
	assert_int_equal(vcpu_start(rig->vcpu, NULL), 0);
	wait_for(&rig->resets);
	assert_int_equal(rig->power_offs, 0);
	vcpu_park(rig->vcpu, PARKED_BY_VM, false); /* the reset is done */
	wait_for(&rig->power_offs);
	assert_int_equal(rig->resets, 1);
}

/* On SVM, KVM runs a vCPU that had a triple fault from the reset vector, where nothing is. */
static void a_vcpu_that_ended_does_not_run_on(void **state)
{
	static const struct kvm_fake_exit script[] = { { .fill = shutdown_exit },
						       { .fill = unknown_exit } };
	struct rig *rig = *state;

	kvm_fake_script(vcpu_kvm(rig->vcpu), script, ARRAY_SIZE(script));
	assert_int_equal(vcpu_start(rig->vcpu, NULL), 0);
	wait_for(&rig->resets);
	quiesce_begin(&rig->quiesce); /* what it did after the exit is done now */
	quiesce_end(&rig->quiesce);
	usleep(2000);
	assert_int_equal(rig->failures, 0);
}

static void an_unknown_exit_ends_the_vcpu(void **state)
{
	static const struct kvm_fake_exit script[] = { { .fill = unknown_exit } };
	struct rig *rig = *state;

	run_script(rig, script, ARRAY_SIZE(script));
	assert_int_equal(rig->failures, 1);
	assert_non_null(strstr(rig->failure, "does not know"));
}

static void the_barrier_stops_a_running_vcpu(void **state)
{
	static const struct kvm_fake_exit script[] = { { .fill = out_string,
							 .times = UINT64_MAX } };
	struct rig *rig = *state;

	kvm_fake_script(vcpu_kvm(rig->vcpu), script, ARRAY_SIZE(script));
	assert_int_equal(vcpu_start(rig->vcpu, NULL), 0);
	for (int i = 0; i < 300; i++) {
		uint64_t before;

		quiesce_begin(&rig->quiesce);
		before = vcpu_exits(rig->vcpu);
		usleep(20);
		assert_int_equal(vcpu_exits(rig->vcpu), before);
		quiesce_end(&rig->quiesce);
	}
}

static void a_parked_vcpu_obeys_the_barrier(void **state)
{
	static const struct kvm_fake_exit script[] = { { .fill = out_string,
							 .times = UINT64_MAX } };
	struct rig *rig = *state;

	kvm_fake_script(vcpu_kvm(rig->vcpu), script, ARRAY_SIZE(script));
	vcpu_park(rig->vcpu, PARKED_BY_VM, true);
	assert_int_equal(vcpu_start(rig->vcpu, NULL), 0);
	for (int i = 0; i < 50; i++) {
		quiesce_begin(&rig->quiesce);
		quiesce_end(&rig->quiesce);
	}
	assert_int_equal(vcpu_exits(rig->vcpu), 0);
	vcpu_park(rig->vcpu, PARKED_BY_VM, false);
	while (!vcpu_exits(rig->vcpu))
		usleep(100);
	vcpu_park(rig->vcpu, PARKED_BY_VM, true);
	quiesce_begin(&rig->quiesce);
	quiesce_end(&rig->quiesce);
}

/* Its own thread sleeps, and the barrier does not wait for it to wake. */
static void a_sleeping_vcpu_obeys_the_barrier(void **state)
{
	static const struct kvm_fake_exit script[] = { { .fill = out_string,
							 .times = UINT64_MAX } };
	struct rig *rig = *state;
	uint64_t begin, exits;

	kvm_fake_script(vcpu_kvm(rig->vcpu), script, ARRAY_SIZE(script));
	assert_int_equal(vcpu_start(rig->vcpu, NULL), 0);
	begin = clock_now(&clock_host);
	vcpu_sleep(rig->vcpu, begin + 3600 * NSEC_PER_SEC);
	quiesce_begin(&rig->quiesce);
	quiesce_end(&rig->quiesce);
	exits = vcpu_exits(rig->vcpu);
	usleep(5000);
	for (int i = 0; i < 10; i++) {
		quiesce_begin(&rig->quiesce);
		quiesce_end(&rig->quiesce);
	}
	assert_int_equal(vcpu_exits(rig->vcpu), exits);
	vcpu_sleep(rig->vcpu, 0);
	while (vcpu_exits(rig->vcpu) == exits)
		usleep(100);
	assert_true(clock_now(&clock_host) - begin < 60 * NSEC_PER_SEC);
}

static void a_sleeping_vcpu_wakes_by_itself(void **state)
{
	static const struct kvm_fake_exit script[] = { { .fill = out_string,
							 .times = UINT64_MAX } };
	struct rig *rig = *state;
	const uint64_t until = clock_now(&clock_host) + 30 * NSEC_PER_MSEC;

	kvm_fake_script(vcpu_kvm(rig->vcpu), script, ARRAY_SIZE(script));
	vcpu_sleep(rig->vcpu, until);
	assert_int_equal(vcpu_start(rig->vcpu, NULL), 0);
	while (!vcpu_exits(rig->vcpu))
		usleep(100);
	assert_true(clock_now(&clock_host) >= until);
}

static void window_exit(struct kvm_run *run, void *ctx _unused_)
{
	run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
	run->ready_for_interrupt_injection = 1;
	run->if_flag = 1;
}

/* The guest was not entered after the vector was given. */
static void untaken_exit(struct kvm_run *run, void *ctx _unused_)
{
	run->exit_reason = KVM_EXIT_INTR;
	run->ready_for_interrupt_injection = 0;
	run->if_flag = 1;
}

/* The guest is in the handler, or out of it again. */
static void taken_exit(struct kvm_run *run, void *ctx)
{
	run->exit_reason = KVM_EXIT_INTR;
	run->ready_for_interrupt_injection = ctx != NULL;
	run->if_flag = ctx != NULL;
}

static int waiting_after(struct rig *rig, const struct kvm_fake_exit *last)
{
	const struct kvm_fake_exit script[] = { { .fill = window_exit }, *last };
	int vector;

	rig->pic_vector = 0x23;
	vcpu_set_pic(rig->vcpu, true);
	run_script(rig, script, ARRAY_SIZE(script));
	quiesce_begin(&rig->quiesce);
	vector = vcpu_waiting_vector(rig->vcpu);
	quiesce_end(&rig->quiesce);
	vcpu_stop(rig->vcpu);
	return vector;
}

static void a_vector_that_kvm_holds_is_known(void **state)
{
	const struct kvm_fake_exit untaken = { .fill = untaken_exit };

	assert_int_equal(waiting_after(*state, &untaken), 0x23);
}

static void a_vector_in_its_handler_waits_no_more(void **state)
{
	const struct kvm_fake_exit taken = { .fill = taken_exit };

	assert_int_equal(waiting_after(*state, &taken), -1);
}

static void a_vector_that_was_served_waits_no_more(void **state)
{
	const struct kvm_fake_exit taken = { .fill = taken_exit, .ctx = *state };

	assert_int_equal(waiting_after(*state, &taken), -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(exits_become_accesses),
		TEST(a_triple_fault_is_a_reset),
		TEST(a_vcpu_that_ended_does_not_run_on),
		TEST(an_unknown_exit_ends_the_vcpu),
		TEST(the_barrier_stops_a_running_vcpu),
		TEST(a_parked_vcpu_obeys_the_barrier),
		TEST(a_sleeping_vcpu_obeys_the_barrier),
		TEST(a_sleeping_vcpu_wakes_by_itself),
		TEST(a_vector_that_kvm_holds_is_known),
		TEST(a_vector_in_its_handler_waits_no_more),
		TEST(a_vector_that_was_served_waits_no_more),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
