/* SPDX-License-Identifier: Apache-2.0 */

/* The Request Monitor and its breakpoints: a whole VM of one vCPU over the fake KVM, whose exits are a script. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "check.h"
#include "kernel_images.h"
#include "kvm/fake.h"
#include "vm/memory_map.h"
#include "vm/save.h"
#include "watch/stop.h"
#include "watch/store.h"

#define RING_RECORDS 8192
#define KERNEL 0xffffffff80000000ULL /* the fake's page tables map it to 0 */
#define RIP (KERNEL + 0x300010)
#define SCRATCH 7 /* a register of the serial line that holds what is written */
#define PORT_NOBODY 0x5658

struct step {
	uint16_t port;
	bool write;
	uint8_t size;
	uint32_t count;
	uint64_t data;	 /* written */
	uint64_t answer; /* of a read, once it is over */
	bool answered;	 /* atomic */
};

struct rig {
	struct fake_clock clock;
	struct vm_config config;
	struct vm_resources resources;
	struct loop *loop;
	struct log log;
	int log_pipe[2];
	struct vm *vm;
	int store_fd;
	struct monitor *monitor;
	struct stop *stop;
	struct stop_hit hit;
	unsigned int hits;
	const void *hit_owner;
	bool ended;
};

static void on_ended(void *ctx, enum vm_end how _unused_, const char *why _unused_)
{
	((struct rig *)ctx)->ended = true;
}

static void on_hit(void *ctx, const void *owner, const struct stop_hit *hit)
{
	struct rig *rig = ctx;

	rig->hit = *hit;
	rig->hit_owner = owner;
	rig->hits++;
}

static void make_vm(struct rig *rig)
{
	static uint8_t image[KERNEL_IMAGE_BYTES];
	const struct vm_events events = { .ended = on_ended, .ctx = rig };
	struct error err = { 0 };

	vm_config_init(&rig->config);
	snprintf(rig->config.name, sizeof(rig->config.name), "watched");
	rig->config.kernel = strdup("kernel");
	rig->config.memory.size = MIB(64);
	vm_config_complete(&rig->config);
	vm_resources_init(&rig->resources);
	kernel_image_bzimage(image);
	rig->resources.kernel_fd = kernel_image_file(image, sizeof(image));
	rig->loop = loop_new(&rig->clock.clock);
	if (vm_new(&rig->config, &rig->resources, rig->loop, &rig->log, &events, &rig->vm, &err) <
	    0)
		fail_msg("%s", err.message);
}

static void set_code(struct rig *rig)
{
	const struct kvm_sregs sregs = {
		.efer = 0x500, .cs.l = 1, .cr0 = 0x80000001, .cr3 = 0x1000
	};
	uint8_t code[32];

	for (size_t i = 0; i < sizeof(code); i++)
		code[i] = (uint8_t)(0x40 + i);
	assert_int_equal(memory_write(rig->vm->memory, gpa(RIP - KERNEL - 16), code, sizeof(code)),
			 0);
	assert_int_equal(kvm_vcpu_set_sregs(vcpu_kvm(rig->vm->vcpus[0]), &sregs), 0);
}

static int set_up(void **state)
{
	const struct stop_events events = { .hit = on_hit };
	struct rig *rig = calloc(1, sizeof(*rig));
	struct stop_events mine = events;

	mine.ctx = rig;
	fake_clock_init(&rig->clock, NSEC_PER_SEC, 1700000000 * NSEC_PER_SEC);
	assert_int_equal(pipe(rig->log_pipe), 0);
	assert_int_equal(fd_set_nonblocking(rig->log_pipe[0]), 0);
	rig->log = (struct log){ .fd = rig->log_pipe[1], .level = LOG_LEVEL_INFO };
	make_vm(rig);
	set_code(rig);
	rig->store_fd = store_make_fd("watched", monitor_rings(&rig->config), 1, RING_RECORDS);
	assert_true(rig->store_fd >= 0);
	assert_int_equal(monitor_new(rig->vm, rig->store_fd, &rig->monitor, NULL), 0);
	assert_int_equal(stop_new(rig->monitor, &mine, &rig->stop), 0);
	*state = rig;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *rig = *state;

	vm_end(rig->vm, VM_END_FORCED, "the test's end");
	stop_free(rig->stop);
	monitor_free(rig->monitor);
	vm_free(rig->vm);
	vm_resources_close(&rig->resources);
	loop_free(rig->loop);
	vm_config_release(&rig->config);
	close(rig->store_fd);
	close(rig->log_pipe[0]);
	close(rig->log_pipe[1]);
	free(rig);
	return 0;
}

/* ---- the guest ---- */

static void fill_step(struct kvm_run *run, void *ctx)
{
	const struct step *step = ctx;
	uint8_t *data = (uint8_t *)run + sizeof(*run);

	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = step->write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN;
	run->io.size = step->size ? step->size : 1;
	run->io.count = step->count ? step->count : 1;
	run->io.port = step->port;
	run->io.data_offset = sizeof(*run);
	memcpy(data, &step->data, sizeof(step->data));
	run->s.regs.regs.rip = RIP;
	run->s.regs.regs.rdx = step->port;
	run->s.regs.regs.r15 = 0x1515;
}

static void step_over(const struct kvm_run *run, void *ctx)
{
	struct step *step = ctx;

	memcpy(&step->answer, (const uint8_t *)run + sizeof(*run), sizeof(step->answer));
	__atomic_store_n(&step->answered, true, __ATOMIC_RELEASE);
}

static struct kvm_fake_exit
	exits_of_script[16]; /* borrowed by the fake for as long as the VM lives */

static void start(struct rig *rig, struct step *steps, size_t n)
{
	const struct vm_thread_entry open_entry = { 0 };

	for (size_t i = 0; i < n; i++)
		exits_of_script[i] = (struct kvm_fake_exit){ fill_step, step_over, &steps[i], 1 };
	kvm_fake_script(vcpu_kvm(rig->vm->vcpus[0]), exits_of_script, n);
	assert_int_equal(vm_start(rig->vm, &open_entry, NULL), 0);
	vm_run(rig->vm);
}

static void turn(struct rig *rig)
{
	assert_int_equal(loop_turn(rig->loop, 0), 0);
	usleep(200);
}

static void until_answered(struct rig *rig, const struct step *step)
{
	for (int i = 0; i < 50000 && !__atomic_load_n(&step->answered, __ATOMIC_ACQUIRE); i++)
		turn(rig);
	assert_true(step->answered);
}

static void until_hits(struct rig *rig, unsigned int n)
{
	for (int i = 0; i < 50000 && rig->hits < n; i++)
		turn(rig);
	assert_int_equal(rig->hits, n);
}

/* ---- the store ---- */

static const struct ring_header *ring_of(struct rig *rig, uint32_t index, struct watch_record *ret)
{
	static struct ring_header header;
	uint64_t at = STORE_HEADER + (uint64_t)index * STORE_RING_HEADER;

	assert_int_equal(fd_read_at(rig->store_fd, &header, sizeof(header), at), 0);
	if (header.head && ret)
		assert_int_equal(fd_read_at(rig->store_fd, ret, sizeof(*ret),
					    store_records_offset(monitor_rings(&rig->config)) +
						    ((uint64_t)index * RING_RECORDS + header.head -
						     1) * sizeof(*ret)),
				 0);
	return &header;
}

static uint64_t records(struct rig *rig)
{
	return ring_of(rig, 0, NULL)->head;
}

static struct watch_record record_at(struct rig *rig, uint64_t number)
{
	struct watch_record record;

	assert_int_equal(fd_read_at(rig->store_fd, &record, sizeof(record),
				    store_records_offset(monitor_rings(&rig->config)) +
					    (number - 1) * sizeof(record)),
			 0);
	return record;
}

static void watch(struct rig *rig, enum store_mode mode)
{
	const struct watch_wish wish = { .mode = mode };

	assert_int_equal(monitor_watch(rig->monitor, rig, &wish, NULL), 0);
}

static void break_on(struct rig *rig, const char *filter, enum stop_action action, uint64_t data)
{
	struct stop_break wanted = { .action = action, .data = data };
	struct error err = { 0 };

	snprintf(wanted.filter, sizeof(wanted.filter), "%s", filter);
	if (stop_set(rig->stop, rig, &wanted, &err) < 0)
		fail_msg("%s", err.message);
	watch(rig, STORE_ALL);
}

/* ---- records ---- */

static void an_access_becomes_a_record(void **state)
{
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_SERIAL1 + SCRATCH, .write = true, .data = 0x5a },
				{ .port = PORT_SERIAL1 + SCRATCH } };
	struct watch_record record;

	watch(rig, STORE_NORMAL);
	start(rig, steps, 2);
	until_answered(rig, &steps[1]);
	assert_int_equal(records(rig), 2);
	record = record_at(rig, 1);
	assert_int_equal(record.sequence, 1);
	assert_int_equal(record.kind, RECORD_PIO);
	assert_int_equal(record.flags, RECORD_WRITE);
	assert_int_equal(record.address, PORT_SERIAL1 + SCRATCH);
	assert_int_equal(record.data, 0x5a);
	assert_int_equal(record.size, 1);
	assert_int_equal(record.source, 0);
	assert_string_equal(monitor_device_name(rig->monitor, record.device), "serial");
	assert_int_equal(record.access.mode, 64);
	assert_int_equal(record.access.registers.rip, RIP);
	assert_int_equal(record.access.registers.general[2], PORT_SERIAL1 + SCRATCH);
	assert_int_equal(record.access.registers.general[15], 0x1515);
	assert_int_equal(record.access.cr3, 0x1000);
	assert_int_equal(record.access.n_before, 16);
	assert_int_equal(record.access.n_after, 16);
	for (int i = 0; i < 32; i++)
		assert_int_equal(record.access.code[i], 0x40 + i);
	record = record_at(rig, 2);
	assert_int_equal(record.flags, 0);
	assert_int_equal(record.data, 0x5a);
}

static void nothing_is_recorded_while_nobody_watches(void **state)
{
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_SERIAL1 + SCRATCH } };

	watch(rig, STORE_NORMAL);
	monitor_forget(rig->monitor, rig);
	start(rig, steps, 1);
	until_answered(rig, &steps[0]);
	assert_int_equal(records(rig), 0);
}

static void the_elements_of_a_string_access_are_counted(void **state)
{
	struct rig *rig = *state;
	struct step steps[] = {
		{ .port = PORT_NOBODY,
		  .write = true,
		  .size = 2,
		  .count = 3,
		  .data = 0x333322221111 },
		{ .port = PORT_NOBODY },
	};

	watch(rig, STORE_NORMAL);
	start(rig, steps, 2);
	until_answered(rig, &steps[1]);
	assert_int_equal(records(rig), 4);
	for (uint32_t i = 0; i < 3; i++) {
		struct watch_record record = record_at(rig, i + 1);

		assert_int_equal(record.repeat, i);
		assert_int_equal(record.size, 2);
		assert_int_equal(record.data, 0x1111 * (i + 1));
		assert_int_equal(record.flags, RECORD_WRITE | RECORD_UNCLAIMED);
		assert_int_equal(record.device, STORE_NO_DEVICE);
	}
	assert_int_equal(record_at(rig, 4).data, 0xff);
}

static void a_configuration_access_has_two_records(void **state)
{
	struct rig *rig = *state;
	struct step steps[] = {
		{ .port = PORT_PCI_CONFIG, .write = true, .size = 4, .data = 0x80000000 },
		{ .port = PORT_PCI_CONFIG + 4, .size = 4 },
	};
	struct watch_record nested, whole;

	watch(rig, STORE_NORMAL);
	start(rig, steps, 2);
	until_answered(rig, &steps[1]);
	assert_int_equal(records(rig), 3);
	nested = record_at(rig, 2);
	whole = record_at(rig, 3);
	assert_int_equal(nested.kind, RECORD_PCI);
	assert_int_equal(nested.flags, RECORD_NESTED);
	assert_int_equal(nested.data, 0x29c08086);
	assert_int_equal(whole.kind, RECORD_PIO);
	assert_int_equal(whole.data, 0x29c08086);
	assert_true(whole.begin <= nested.begin);
}

static void what_is_not_seen_is_told(void **state)
{
	struct rig *rig = *state;

	watch(rig, STORE_NORMAL);
	assert_non_null(strstr(monitor_unseen(rig->monitor, 0), "APIC"));
	assert_non_null(strstr(monitor_unseen(rig->monitor, 1), "doorbells"));
	watch(rig, STORE_ALL);
	assert_null(monitor_unseen(rig->monitor, 1));
}

/* ---- lossless ---- */

static struct ring_follower *follower_of(struct rig *rig, struct store **ret_store)
{
	assert_int_equal(store_open(rig->store_fd, ret_store), 0);
	return &((struct ring_header *)((uint8_t *)store_header(*ret_store) + STORE_HEADER))
			->followers[0];
}

static void a_lossless_vm_waits_for_its_reader(void **state)
{
	const struct watch_wish wish = { .mode = STORE_NORMAL, .lossless = true };
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_NOBODY, .count = 4000 },
				{ .port = PORT_NOBODY, .count = 4000 },
				{ .port = PORT_NOBODY } };
	struct ring_follower *follower;
	struct store *store;

	follower = follower_of(rig, &store);
	follower->owner = 77;
	assert_int_equal(monitor_watch(rig->monitor, rig, &wish, NULL), 0);
	start(rig, steps, 3);
	until_answered(rig, &steps[0]);
	for (int i = 0; i < 200; i++)
		turn(rig);
	assert_false(
		steps[1].answered); /* 4000 records are in the ring, there may be no room for more */
	assert_int_equal(records(rig), 4000);
	follower->tail = 4000;
	fake_clock_advance(&rig->clock, 2 * NSEC_PER_MSEC);
	until_answered(rig, &steps[1]);
	assert_int_equal(records(rig), 8000);
	/* And no longer than is good for the guest. */
	for (int i = 0; i < 8; i++) {
		fake_clock_advance(&rig->clock, NSEC_PER_SEC);
		turn(rig);
	}
	until_answered(rig, &steps[2]);
	assert_int_equal(records(rig), 8001);
	assert_int_equal(ring_of(rig, 0, NULL)->dropped, 0);
	assert_int_equal(follower->owner, 0);
	store_free(store);
}

/* ---- breakpoints ---- */

static void a_value_is_put_in_place_of_another(void **state)
{
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_SERIAL1 + SCRATCH, .write = true, .data = 0x11 },
				{ .port = PORT_SERIAL1 + SCRATCH },
				{ .port = PORT_NOBODY } };

	break_on(rig, "dev==serial && out && data==0x11", STOP_SET, 0x1ff);
	start(rig, steps, 3);
	until_answered(rig, &steps[2]);
	assert_int_equal(steps[1].answer & 0xff, 0xff); /* as wide as the access */
	assert_int_equal(record_at(rig, 1).data, 0xff);
	assert_int_equal(record_at(rig, 1).flags, RECORD_WRITE | RECORD_ALTERED);
	assert_int_equal(record_at(rig, 2).flags, 0);
}

static void an_answer_is_put_in_place_of_another(void **state)
{
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_SERIAL1 + SCRATCH }, { .port = PORT_NOBODY } };

	break_on(rig, "dev==serial && in && data==0", STOP_SET, 0x42);
	start(rig, steps, 2);
	until_answered(rig, &steps[1]);
	assert_int_equal(steps[0].answer & 0xff, 0x42);
	assert_int_equal(record_at(rig, 1).flags, RECORD_ALTERED);
}

static void a_dropped_access_reaches_no_device(void **state)
{
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_SERIAL1 + SCRATCH, .write = true, .data = 0x11 },
				{ .port = PORT_SERIAL1 + SCRATCH },
				{ .port = PORT_NOBODY } };

	break_on(rig, "dev==serial && out", STOP_DROP, 0);
	start(rig, steps, 3);
	until_answered(rig, &steps[2]);
	assert_int_equal(steps[1].answer & 0xff, 0);
	assert_int_equal(record_at(rig, 1).flags, RECORD_WRITE | RECORD_DROPPED);
}

static void a_breakpoint_ends_after_its_count(void **state)
{
	struct stop_break wanted = { .filter = "in", .action = STOP_DUMP, .count = 2 };
	struct rig *rig = *state;
	struct step steps[4] = { { .port = PORT_NOBODY },
				 { .port = PORT_NOBODY },
				 { .port = PORT_NOBODY },
				 { .port = PORT_NOBODY } };

	assert_int_equal(stop_set(rig->stop, rig, &wanted, NULL), 0);
	watch(rig, STORE_NORMAL);
	start(rig, steps, 4);
	until_answered(rig, &steps[3]);
	turn(rig);
	assert_int_equal(rig->hits, 2);
	assert_int_equal(rig->hit.number, 2);
	assert_int_equal(rig->hit.n_code, STOP_CODE);
	assert_int_equal(rig->hit.code[STOP_CODE / 2], 0x50);
	assert_int_equal(rig->hit.code_at, RIP - STOP_CODE / 2);
}

static void the_vm_stops_before_a_device_sees_a_write(void **state)
{
	const struct stop_answer other = { .set = true, .data = 0x22 };
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_SERIAL1 + SCRATCH, .write = true, .data = 0x11 },
				{ .port = PORT_SERIAL1 + SCRATCH } };
	struct buffer saved;

	break_on(rig, "dev==serial && out", STOP_STOP, 0);
	start(rig, steps, 2);
	until_hits(rig, 1);
	assert_int_equal(rig->vm->status, VM_PAUSED);
	assert_ptr_equal(rig->hit_owner, rig);
	assert_int_equal(rig->hit.record.data, 0x11);
	assert_int_equal(records(rig), 0);
	buffer_init(&saved, MIB(64));
	assert_int_equal(vm_save(rig->vm, VM_SAVE_ALL, &saved, NULL), -EBUSY); /* half an access */
	buffer_release(&saved);
	assert_int_equal(stop_continue(rig->stop, &other, &other, NULL), -ENOENT);
	assert_int_equal(stop_continue(rig->stop, rig, &other, NULL), 0);
	assert_int_equal(rig->vm->status, VM_RUNNING);
	until_answered(rig, &steps[1]);
	assert_int_equal(steps[1].answer & 0xff, 0x22);
	assert_int_equal(stop_continue(rig->stop, rig, &other, NULL), -ENOENT);
}

static void the_vm_stops_after_a_device_has_answered(void **state)
{
	const struct stop_answer other = { .set = true, .data = 0x33 };
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_SERIAL1 + 5 }, { .port = PORT_NOBODY } };

	break_on(rig, "dev==serial && in", STOP_STOP, 0);
	start(rig, steps, 2);
	until_hits(rig, 1);
	assert_int_equal(rig->hit.record.data, 0x60); /* the line is idle: 16550, LSR */
	assert_int_equal(stop_continue(rig->stop, rig, &other, NULL), 0);
	until_answered(rig, &steps[1]);
	assert_int_equal(steps[0].answer & 0xff, 0x33);
}

static void a_step_stops_at_whatever_comes_next(void **state)
{
	const struct stop_answer step = { .step = true }, go = { 0 };
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_SERIAL1 + SCRATCH },
				{ .port = PORT_NOBODY },
				{ .port = PORT_NOBODY },
				{ .port = PORT_NOBODY } };

	break_on(rig, "dev==serial", STOP_STOP, 0);
	start(rig, steps, 4);
	until_hits(rig, 1);
	assert_int_equal(stop_continue(rig->stop, rig, &step, NULL), 0);
	until_hits(rig, 2);
	assert_int_equal(rig->hit.record.address, PORT_NOBODY);
	assert_int_equal(stop_continue(rig->stop, rig, &go, NULL), 0);
	until_answered(rig, &steps[3]);
	assert_int_equal(rig->hits, 2);
}

static void a_vm_whose_watcher_is_gone_goes_on(void **state)
{
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_NOBODY }, { .port = PORT_NOBODY } };
	char line[256] = "";

	break_on(rig, "in", STOP_STOP, 0);
	start(rig, steps, 2);
	until_hits(rig, 1);
	stop_forget(rig->stop, rig);
	monitor_forget(rig->monitor, rig);
	fake_clock_advance(&rig->clock, STOP_GRACE_NS - NSEC_PER_MSEC);
	for (int i = 0; i < 20; i++)
		turn(rig);
	assert_int_equal(rig->vm->status, VM_PAUSED);
	fake_clock_advance(&rig->clock, 2 * NSEC_PER_MSEC);
	until_answered(rig, &steps[1]);
	assert_int_equal(rig->vm->status, VM_RUNNING);
	assert_int_equal(rig->hits, 1);
	assert_true(read(rig->log_pipe[0], line, sizeof(line) - 1) > 0);
	assert_non_null(strstr(line, "goes on after 2 s"));
}

static void a_pause_outlives_a_stop(void **state)
{
	const struct stop_answer go = { 0 };
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_NOBODY }, { .port = PORT_NOBODY } };

	break_on(rig, "in", STOP_STOP, 0);
	start(rig, steps, 2);
	until_hits(rig, 1);
	assert_int_equal(vm_pause(rig->vm), 0);
	assert_int_equal(stop_continue(rig->stop, rig, &go, NULL), 0);
	for (int i = 0; i < 20; i++)
		turn(rig);
	assert_int_equal(rig->vm->status, VM_PAUSED);
	assert_false(steps[0].answered);
	assert_int_equal(vm_resume(rig->vm), 0);
	until_hits(rig, 2);
	assert_int_equal(stop_continue(rig->stop, rig, &go, NULL), 0);
	until_answered(rig, &steps[1]);
}

static void a_stopped_vm_can_be_ended(void **state)
{
	struct rig *rig = *state;
	struct step steps[] = { { .port = PORT_NOBODY } };

	break_on(rig, "in", STOP_STOP, 0);
	start(rig, steps, 1);
	until_hits(rig, 1);
	vm_end(rig->vm, VM_END_FORCED, "the test");
	assert_true(rig->ended);
}

static void what_cannot_be_known_in_time_is_refused(void **state)
{
	struct stop_break late = { .filter = "latency > 1ms" }, wrong = { .filter = "dev=serial" };
	struct stop_break slow = { .action = STOP_DELAY, .delay_ms = STOP_DELAY_MAX_MS + 1 };
	struct rig *rig = *state;
	struct error err = { 0 };

	assert_int_equal(stop_set(rig->stop, rig, &late, &err), -EINVAL);
	assert_non_null(strstr(err.message, "latency"));
	assert_int_equal(stop_set(rig->stop, rig, &wrong, NULL), -EINVAL);
	assert_int_equal(stop_set(rig->stop, rig, &slow, NULL), -EINVAL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(an_access_becomes_a_record),
		TEST(nothing_is_recorded_while_nobody_watches),
		TEST(the_elements_of_a_string_access_are_counted),
		TEST(a_configuration_access_has_two_records),
		TEST(what_is_not_seen_is_told),
		TEST(a_lossless_vm_waits_for_its_reader),
		TEST(a_value_is_put_in_place_of_another),
		TEST(an_answer_is_put_in_place_of_another),
		TEST(a_dropped_access_reaches_no_device),
		TEST(a_breakpoint_ends_after_its_count),
		TEST(the_vm_stops_before_a_device_sees_a_write),
		TEST(the_vm_stops_after_a_device_has_answered),
		TEST(a_step_stops_at_whatever_comes_next),
		TEST(a_vm_whose_watcher_is_gone_goes_on),
		TEST(a_pause_outlives_a_stop),
		TEST(a_stopped_vm_can_be_ended),
		TEST(what_cannot_be_known_in_time_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
