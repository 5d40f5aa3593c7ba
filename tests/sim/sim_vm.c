/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Two VMs in one process, in lockstep. A guest made of random accesses runs on the first; at random moments its
 * whole state is saved, loaded into a second VM, saved there and compared to the byte; then both get the
 * same accesses and must give the same answers, for ever after. What a state section forgets shows here.
 *
 * The guest knows which registers exist, so that it does not waste its life on addresses nobody claims. Time
 * is a fake clock that both share. Virtio queues stay off: their workers run when they like, and their devices'
 * own tests do the same with them.
 */

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "kvm/fake.h"
#include "kernel_images.h"
#include "vm/board.h"
#include "vm/memory_map.h"
#include "vm/save.h"

struct sim_vm {
	struct vm_config config;
	struct vm_resources resources;
	struct loop *loop;
	struct vm *vm;
};

struct sim {
	uint64_t seed, random;
	struct fake_clock clock;
	struct sim_vm a, b;
	uint64_t accesses;
};

static uint64_t next_random(struct sim *sim)
{
	/* xorshift64*: the same everywhere, for ever. */
	sim->random ^= sim->random >> 12;
	sim->random ^= sim->random << 25;
	sim->random ^= sim->random >> 27;
	return sim->random * 0x2545f4914f6cdd1dULL;
}

static uint64_t below(struct sim *sim, uint64_t limit)
{
	return next_random(sim) % limit;
}

static void on_ended(void *ctx _unused_, enum vm_end how _unused_, const char *why _unused_)
{
}

static void vm_make(struct sim *sim, struct sim_vm *s)
{
	static uint8_t image[KERNEL_IMAGE_BYTES];
	const struct vm_events events = { .ended = on_ended };
	struct error err = { 0 };

	vm_config_init(&s->config);
	snprintf(s->config.name, sizeof(s->config.name), "sim");
	s->config.kernel = strdup("kernel");
	s->config.cpus.count = 2;
	s->config.memory.size = MIB(64);
	vm_config_complete(&s->config);
	vm_resources_init(&s->resources);
	kernel_image_bzimage(image);
	s->resources.kernel_fd = kernel_image_file(image, sizeof(image));
	s->loop = loop_new(&sim->clock.clock);
	if (vm_new(&s->config, &s->resources, s->loop, NULL, &events, &s->vm, &err) < 0)
		fail_msg("%s", err.message);
}

static void vm_unmake(struct sim_vm *s)
{
	vm_free(s->vm);
	vm_resources_close(&s->resources);
	loop_free(s->loop);
	vm_config_release(&s->config);
	*s = (struct sim_vm){ 0 };
}

struct range {
	enum bus_space space;
	uint64_t base, len;
};

/* What the guest pokes at. The power ports are left out: they end or reset the VM. */
static const struct range ranges[] = {
	{ BUS_PIO, PORT_PIC1, 2 },
	{ BUS_PIO, PORT_PIC2, 2 },
	{ BUS_PIO, PORT_ELCR, 2 },
	{ BUS_PIO, PORT_PIT, 4 },
	{ BUS_PIO, PORT_SPEAKER, 1 },
	{ BUS_PIO, PORT_RTC, 2 },
	{ BUS_PIO, PORT_SERIAL1, 8 },
	{ BUS_PIO, PORT_PCI_CONFIG, 8 },
	{ BUS_MMIO, MAP_IOAPIC_BASE, 0x44 },
	{ BUS_MMIO, MAP_ECAM_BASE, 6 << 15 },
	{ BUS_MMIO, MAP_PCI32_BASE, 0x20000 },
};

static void random_access(struct sim *sim, struct bus_access *ret_access)
{
	const struct range *range = &ranges[below(sim, ARRAY_SIZE(ranges))];

	*ret_access = (struct bus_access){
		.space = range->space,
		.write = below(sim, 3) != 0,
		.size = (uint8_t)(1 << below(sim, range->space == BUS_PIO ? 3 : 4)),
		.data = below(sim, 2) ? next_random(sim) : below(sim, 0x100),
	};
	ret_access->address = range->base + below(sim, range->len);
	/* Real drivers align; a quarter of the accesses do not. */
	if (below(sim, 4))
		ret_access->address = ALIGN_DOWN(ret_access->address, ret_access->size);
	/* ECAM: mostly the header and the capabilities of the first functions. */
	if (range->base == MAP_ECAM_BASE && below(sim, 4))
		ret_access->address = MAP_ECAM_BASE + (below(sim, 4) << 15) +
				      ALIGN_DOWN(below(sim, 0x100), ret_access->size);
}

/* The virtio common configuration's status byte would start queues: those accesses are left out. */
static bool starts_queues(const struct sim_vm *s, const struct bus_access *access)
{
	const struct bus_region *region = bus_find(s->vm->bus, access->space, access->address);

	return access->write && access->space == BUS_MMIO && region &&
	       strncmp(region->name, "virtio", 6) == 0 && region->len > 4096;
}

static void let_time_pass(struct sim *sim)
{
	fake_clock_advance(&sim->clock, below(sim, 4) ? below(sim, 1000) : below(sim, 50000000));
	assert_int_equal(loop_turn(sim->a.loop, 0), 0);
	if (sim->b.vm)
		assert_int_equal(loop_turn(sim->b.loop, 0), 0);
}

static void one_step(struct sim *sim)
{
	struct bus_access a, b;

	if (below(sim, 8) == 0)
		let_time_pass(sim);
	random_access(sim, &a);
	if (starts_queues(&sim->a, &a))
		return;
	b = a;
	sim->accesses++;
	bus_dispatch(sim->a.vm->bus, &a);
	if (!sim->b.vm)
		return;
	bus_dispatch(sim->b.vm->bus, &b);
	if (a.data != b.data)
		fail_msg(
			"seed %llu: access %llu to %s 0x%llx: the first VM says 0x%llx, the second "
			"0x%llx",
			(unsigned long long)sim->seed, (unsigned long long)sim->accesses,
			a.region ? a.region->name : "nobody", (unsigned long long)a.address,
			(unsigned long long)a.data, (unsigned long long)b.data);
}

static void save(struct sim_vm *s, struct buffer *out)
{
	struct error err = { 0 };
	int r;

	buffer_init(out, MIB(64));
	quiesce_begin(&s->vm->quiesce);
	r = vm_save(s->vm, VM_SAVE_ALL, out, &err);
	quiesce_end(&s->vm->quiesce);
	if (r < 0)
		fail_msg("save: %s", err.message);
}

static int load(struct sim_vm *s, const struct buffer *stream, enum vm_load_mode mode,
		struct error *err)
{
	int r;

	quiesce_begin(&s->vm->quiesce);
	r = vm_load(s->vm, stream->data, stream->len, 0, mode, err);
	quiesce_end(&s->vm->quiesce);
	return r;
}

static void compare(struct sim *sim, const struct buffer *x, const struct buffer *y)
{
	struct cursor a = { .data = x->data, .left = x->len },
		      b = { .data = y->data, .left = y->len };
	struct state_section in_a, in_b;

	while (state_next_section(&a, &in_a) == 1) {
		assert_int_equal(state_next_section(&b, &in_b), 1);
		assert_string_equal(in_a.instance, in_b.instance);
		/* A vCPU's TSC goes on while we look: the CPU's own tests compare it. */
		if (strncmp(in_a.instance, "vcpu.", 5) == 0)
			continue;
		if (in_a.body.left != in_b.body.left ||
		    memcmp(in_a.body.data, in_b.body.data, in_a.body.left))
			fail_msg("seed %llu: %s differs after access %llu",
				 (unsigned long long)sim->seed, in_a.instance,
				 (unsigned long long)sim->accesses);
	}
	assert_int_equal(state_next_section(&b, &in_b), 0);
}

/* The second VM becomes what the first is. */
static void move_state(struct sim *sim)
{
	struct buffer first, second;
	struct error err = { 0 };

	if (sim->b.vm)
		vm_unmake(&sim->b);
	vm_make(sim, &sim->b);
	save(&sim->a, &first);
	if (load(&sim->b, &first, VM_LOAD_WHOLE, &err) < 0)
		fail_msg("seed %llu: load: %s", (unsigned long long)sim->seed, err.message);
	save(&sim->b, &second);
	compare(sim, &first, &second);
	buffer_release(&first);
	buffer_release(&second);
}

static void run(uint64_t seed, unsigned int rounds)
{
	struct sim sim = { .seed = seed, .random = seed * 0x9e3779b97f4a7c15ULL + 1 };
	struct buffer a, b;

	fake_clock_init(&sim.clock, NSEC_PER_SEC, 1700000000 * NSEC_PER_SEC);
	vm_make(&sim, &sim.a);
	for (unsigned int round = 0; round < rounds; round++) {
		uint64_t steps = below(&sim, 3000);

		while (steps--)
			one_step(&sim);
		move_state(&sim);
	}
	save(&sim.a, &a);
	save(&sim.b, &b);
	compare(&sim, &a, &b);
	buffer_release(&a);
	buffer_release(&b);
	vm_unmake(&sim.a);
	vm_unmake(&sim.b);
}

static void a_vm_lives_on_in_another(void **state _unused_)
{
	for (uint64_t seed = 1; seed <= 12; seed++)
		run(seed, 6);
}

/* A section that comes twice is refused, whichever it is. */
static void no_section_is_taken_twice(void **state _unused_)
{
	struct sim sim = { .random = 1 };
	struct buffer out, twice;
	struct cursor at;
	struct state_section section;

	fake_clock_init(&sim.clock, NSEC_PER_SEC, 1700000000 * NSEC_PER_SEC);
	vm_make(&sim, &sim.a);
	save(&sim.a, &out);
	at = (struct cursor){ .data = out.data, .left = out.len };
	for (size_t from = 0; state_next_section(&at, &section) == 1; from = out.len - at.left) {
		struct error err = { 0 };

		buffer_init(&twice, MIB(64));
		assert_int_equal(buffer_append(&twice, out.data, out.len), 0);
		assert_int_equal(buffer_append(&twice, out.data + from, out.len - at.left - from),
				 0);
		assert_int_equal(load(&sim.a, &twice, VM_LOAD_WHOLE, &err), -EBADMSG);
		assert_non_null(strstr(err.message, section.instance));
		buffer_release(&twice);
	}
	buffer_release(&out);
	vm_unmake(&sim.a);
}

/* Whatever the source forgot is noticed, by its name, before anything was touched. */
static void a_section_that_is_missing_is_named(void **state _unused_)
{
	static const enum vm_load_mode modes[] = { VM_LOAD_REHEARSAL, VM_LOAD_WHOLE };
	struct sim sim = { .random = 1 };
	struct buffer out, less;
	struct cursor at;
	struct state_section section;
	unsigned int sections = 0;

	fake_clock_init(&sim.clock, NSEC_PER_SEC, 1700000000 * NSEC_PER_SEC);
	vm_make(&sim, &sim.a);
	save(&sim.a, &out);
	at = (struct cursor){ .data = out.data, .left = out.len };
	for (size_t from = 0; state_next_section(&at, &section) == 1; from = out.len - at.left) {
		buffer_init(&less, MIB(64));
		assert_int_equal(buffer_append(&less, out.data, from), 0);
		assert_int_equal(buffer_append(&less, out.data + out.len - at.left, at.left), 0);
		for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
			struct error err = { 0 };

			assert_int_equal(load(&sim.a, &less, modes[i], &err), -EBADMSG);
			assert_non_null(strstr(err.message, section.instance));
			assert_non_null(strstr(err.message, "missing"));
		}
		sections++;
		buffer_release(&less);
	}
	assert_true(sections > 10);
	buffer_release(&out);
	vm_unmake(&sim.a);
}

/* Epochs bring what was touched. */
static void a_partial_load_keeps_what_it_does_not_name(void **state _unused_)
{
	struct sim sim = { .random = 1 };
	struct bus_access access = { .space = BUS_PIO, .address = PORT_SPEAKER, .size = 1 };
	struct bus_access write = access;
	struct error err = { 0 };
	struct buffer nothing;

	fake_clock_init(&sim.clock, NSEC_PER_SEC, 1700000000 * NSEC_PER_SEC);
	vm_make(&sim, &sim.a);
	write.write = true;
	write.data = 2;
	bus_dispatch(sim.a.vm->bus, &write);
	buffer_init(&nothing, 1);
	assert_int_equal(load(&sim.a, &nothing, VM_LOAD_PARTIAL, &err), 0);
	bus_dispatch(sim.a.vm->bus, &access);
	assert_int_equal(access.data & 0xf, 2);
	buffer_release(&nothing);
	vm_unmake(&sim.a);
}

/* It may be followed by the load for which it was made, and by a VM that lives on as the first would have. */
static void a_rehearsal_changes_nothing(void **state _unused_)
{
	struct sim sim = { .seed = 99, .random = 99 };
	struct buffer first, before, after;
	struct error err = { 0 };

	fake_clock_init(&sim.clock, NSEC_PER_SEC, 1700000000 * NSEC_PER_SEC);
	vm_make(&sim, &sim.a);
	for (unsigned int i = 0; i < 5000; i++)
		one_step(&sim);
	vm_make(&sim, &sim.b);
	save(&sim.a, &first);
	/* What a rehearsal puts the vCPUs back to: power-on, no kernel entered. */
	assert_int_equal(load(&sim.b, &first, VM_LOAD_REHEARSAL, &err), 0);
	save(&sim.b, &before);
	assert_int_equal(load(&sim.b, &first, VM_LOAD_REHEARSAL, &err), 0);
	save(&sim.b, &after);
	compare(&sim, &before, &after);
	assert_memory_not_equal(first.data, after.data, MIN(first.len, after.len));
	buffer_release(&after);
	assert_int_equal(load(&sim.b, &first, VM_LOAD_WHOLE, &err), 0);
	save(&sim.b, &after);
	compare(&sim, &first, &after);
	buffer_release(&first);
	buffer_release(&before);
	buffer_release(&after);
	for (unsigned int i = 0; i < 5000; i++)
		one_step(&sim);
	vm_unmake(&sim.a);
	vm_unmake(&sim.b);
}

static void out_exit(struct kvm_run *run, void *ctx _unused_)
{
	run->exit_reason = KVM_EXIT_IO;
	run->io.direction = KVM_EXIT_IO_OUT;
	run->io.size = 1;
	run->io.port = PORT_POST;
	run->io.count = 1;
	run->io.data_offset = sizeof(struct kvm_run);
}

/* Nor does it when it is freed: after a move its life is elsewhere. */
static void a_paused_guest_that_is_ended_does_not_run(void **state _unused_)
{
	static const struct kvm_fake_exit script[] = { { .fill = out_exit, .times = UINT64_MAX } };

	for (int i = 0; i < 50; i++) {
		const struct vm_thread_entry open_entry = { 0 };
		struct sim sim = { .random = 1 };
		struct error err = { 0 };
		uint64_t exits;

		fake_clock_init(&sim.clock, NSEC_PER_SEC, 1700000000 * NSEC_PER_SEC);
		vm_make(&sim, &sim.a);
		kvm_fake_script(vcpu_kvm(sim.a.vm->vcpus[0]), script, ARRAY_SIZE(script));
		assert_int_equal(vm_start(sim.a.vm, &open_entry, &err), 0);
		vm_run(sim.a.vm);
		while (!vcpu_exits(sim.a.vm->vcpus[0]))
			sched_yield();
		assert_int_equal(vm_pause(sim.a.vm), 0);
		exits = vcpu_exits(sim.a.vm->vcpus[0]);
		vm_end(sim.a.vm, VM_END_FORCED, "test");
		assert_int_equal(vcpu_exits(sim.a.vm->vcpus[0]), exits);
		vm_unmake(&sim.a);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_vm_lives_on_in_another),
		cmocka_unit_test(no_section_is_taken_twice),
		cmocka_unit_test(a_section_that_is_missing_is_named),
		cmocka_unit_test(a_partial_load_keeps_what_it_does_not_name),
		cmocka_unit_test(a_rehearsal_changes_nothing),
		cmocka_unit_test(a_paused_guest_that_is_ended_does_not_run),
	};

	if (argc > 1) {
		run(strtoull(argv[1], NULL, 0), argc > 2 ? (unsigned int)atoi(argv[2]) : 6);
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
