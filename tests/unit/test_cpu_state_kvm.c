/* SPDX-License-Identifier: Apache-2.0 */
/* A vCPU's state against the kernel's KVM: saved from a running guest, loaded into another VM, compared, run on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "cpu/model.h"
#include "cpu/start.h"
#include "cpu/state.h"

#define RAM_BYTES 0x10000
#define CODE_AT 0x1000

struct machine {
	struct kvm_system *system;
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct vcpu_layout layout;
	uint8_t *ram;
};

/* loop: inc ebx; out 0x80, al; jmp loop - 32-bit protected mode */
static const uint8_t guest_code[] = { 0x43, 0xe6, 0x80, 0xeb, 0xfb };

static void machine_start(struct machine *machine)
{
	const struct cpu_start start = {
		.mode = CPU_START_FLAT32, .rip = CODE_AT, .rbx = 40, .gdt = 0x800
	};
	const uint64_t split[4] = { 24 };
	struct kvm_cpuid2 *supported, *cpuid;
	struct error err = { 0 };

	memset(machine, 0, sizeof(*machine));
	assert_int_equal(kvm_open(-1, &machine->system), 0);
	assert_int_equal(kvm_vm_new(machine->system, &machine->vm), 0);
	machine->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
			    0);
	assert_ptr_not_equal(machine->ram, MAP_FAILED);
	memcpy(machine->ram + CODE_AT, guest_code, sizeof(guest_code));
	cpu_start_gdt(CPU_START_FLAT32, (uint64_t *)(machine->ram + 0x800));
	assert_int_equal(kvm_vm_set_memory(machine->vm, 0, 0, 0, RAM_BYTES, machine->ram), 0);
	assert_int_equal(kvm_vm_enable(machine->vm, KVM_CAP_SPLIT_IRQCHIP, split), 0);
	assert_int_equal(kvm_vcpu_new(machine->vm, 0, &machine->vcpu), 0);
	assert_int_equal(kvm_supported_cpuid(machine->system, &supported), 0);
	assert_int_equal(cpu_model_cpuid(CPU_MODEL_HOST, supported, 0, 2, &cpuid, &err), 0);
	assert_int_equal(kvm_vcpu_set_cpuid(machine->vcpu, cpuid), 0);
	assert_int_equal(cpu_start_set(machine->vcpu, &start), 0);
	assert_int_equal(
		vcpu_layout_init(machine->system, machine->vm, machine->vcpu, &machine->layout), 0);
	free(supported);
	free(cpuid);
}

static void machine_end(struct machine *machine)
{
	kvm_vcpu_free(machine->vcpu);
	kvm_vm_free(machine->vm);
	kvm_close(machine->system);
	munmap(machine->ram, RAM_BYTES);
}

static struct vcpu_moment moment_now(struct machine *machine)
{
	struct vcpu_moment moment;

	assert_int_equal(vcpu_moment_now(machine->vcpu, &moment), 0);
	return moment;
}

/* Runs to the next OUT, and completes it. */
static void run_to_exit(struct machine *machine)
{
	struct kvm_run *run = kvm_vcpu_run_page(machine->vcpu);

	assert_int_equal(kvm_vcpu_run(machine->vcpu), 0);
	assert_int_equal(run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(run->io.port, 0x80);
	run->immediate_exit = 1;
	assert_int_equal(kvm_vcpu_run(machine->vcpu), -EINTR);
	run->immediate_exit = 0;
}

static void test_saved_state_runs_on_elsewhere(void **unused _unused_)
{
	struct machine first, second;
	struct vcpu_state *state = malloc(sizeof(*state)), *again = malloc(sizeof(*again));
	struct vcpu_moment moment;
	struct error err = { 0 };

	machine_start(&first);
	machine_start(&second);
	moment = moment_now(&first);
	run_to_exit(&first);
	run_to_exit(&first);
	assert_int_equal(vcpu_state_get(&first.layout, first.vcpu, &moment, state), 0);
	assert_int_equal(state->regs.rbx, 42);
	if (vcpu_state_set(&second.layout, second.vcpu, &moment, state, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(vcpu_state_get(&second.layout, second.vcpu, &moment, again), 0);
	assert_null(state_compare(&vcpu_state_table, state, again));
	run_to_exit(&second);
	assert_int_equal(vcpu_state_get(&second.layout, second.vcpu, &moment, again), 0);
	assert_int_equal(again->regs.rbx, 43);
	machine_end(&first);
	machine_end(&second);
	free(state);
	free(again);
}

static void test_table_carries_all_of_it(void **unused _unused_)
{
	struct machine machine;
	struct vcpu_state *state = malloc(sizeof(*state)), *loaded = calloc(1, sizeof(*loaded));
	struct vcpu_moment moment;
	struct state_section section;
	struct buffer out;
	struct cursor in;
	struct error err = { 0 };

	machine_start(&machine);
	moment = moment_now(&machine);
	run_to_exit(&machine);
	assert_int_equal(vcpu_state_get(&machine.layout, machine.vcpu, &moment, state), 0);
	buffer_init(&out, LIMIT_STATE_SECTION);
	assert_int_equal(state_save(&out, &vcpu_state_table, "vcpu.0", state), 0);
	in = (struct cursor){ .data = out.data, .left = out.len };
	assert_int_equal(state_next_section(&in, &section), 1);
	if (state_load(&section, &vcpu_state_table, loaded, &err) < 0)
		fail_msg("%s", err.message);
	assert_null(state_compare(&vcpu_state_table, state, loaded));
	assert_int_equal(state->tsc, loaded->tsc);
	assert_int_equal(state->lapic.timer_count, loaded->lapic.timer_count);
	buffer_release(&out);
	machine_end(&machine);
	free(state);
	free(loaded);
}

/* A software KVM may take an offset and forget it. */
static bool keeps_offset(struct machine *machine)
{
	uint64_t offset = 0;

	return kvm_vcpu_set_tsc_offset(machine->vcpu, 1 << 30) == 0 &&
	       kvm_vcpu_get_tsc_offset(machine->vcpu, &offset) == 0 && offset == 1 << 30;
}

/* The guest's TSC goes on from the snapshot plus the stop, whatever the host's reads. */
static void test_tsc_goes_on_after_the_stop(void **unused _unused_)
{
	struct machine machine;
	struct vcpu_state *state = malloc(sizeof(*state)), *again = malloc(sizeof(*again));
	struct vcpu_moment moment, later;
	struct error err = { 0 };
	bool possible;

	machine_start(&machine);
	possible = keeps_offset(&machine);
	if (possible) {
		moment = moment_now(&machine);
		assert_int_equal(vcpu_state_get(&machine.layout, machine.vcpu, &moment, state), 0);
		later = moment_now(&machine);
		later.stopped_ns = 5000000;
		assert_int_equal(vcpu_state_set(&machine.layout, machine.vcpu, &later, state, &err),
				 0);
		assert_int_equal(vcpu_state_get(&machine.layout, machine.vcpu, &later, again), 0);
		assert_int_equal(again->tsc, state->tsc + 5 * (uint64_t)state->tsc_khz);
	}
	machine_end(&machine);
	free(state);
	free(again);
	if (!possible)
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_saved_state_runs_on_elsewhere),
		cmocka_unit_test(test_table_carries_all_of_it),
		cmocka_unit_test(test_tsc_goes_on_after_the_stop),
	};
	struct kvm_system *system;

	if (kvm_open(-1, &system) < 0) {
		print_message("no /dev/kvm here\n");
		return 77;
	}
	kvm_close(system);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
