/* SPDX-License-Identifier: Apache-2.0 */

/*
 * --exact: instructions that a reader believes to make accesses are seen at it. A hardware breakpoint stands on each (four at a
 * time); the vCPU that comes to one makes a single step, interrupts held back, and an access within that step is that
 * instruction's. The rest of the guest runs at full speed, so handlers of interrupts are seen like everything else.
 *
 *   breakpoint: next = its address, step   ->   access: STEPPED   ->   step is over: breakpoints again
 *
 * (Stepping through all of a guest is no way: a processor delivers an interrupt with its trap flag cleared, and saves the
 * flag on the guest's stack, where it outlives the watch.)
 */

#include "vm/cpus.h"
#include "watch/monitor_internal.h"

#define INSTRUCTION_MAX 15 /* bytes */
#define DR6_BREAKPOINTS 0xf
#define DR7_FIXED 0x400
#define DR7_ENABLED(i) (2ULL << (2 * (i))) /* execution, one byte: the other bits are 0 */

static void arm(const struct monitor *monitor, struct vcpu *vcpu)
{
	struct kvm_guest_debug debug = { .arch.debugreg[7] = DR7_FIXED };

	for (uint32_t i = 0; i < monitor->n_steps; i++) {
		debug.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
		debug.arch.debugreg[i] = monitor->steps[i];
		debug.arch.debugreg[7] |= DR7_ENABLED(i);
	}
	/* Fails while another exception waits: the place is then seen another time. */
	(void)!kvm_vcpu_set_guest_debug(vcpu_kvm(vcpu), &debug);
}

static void arm_one(void *owner, void *arg)
{
	struct monitor *monitor = arg;

	monitor->vcpus[vcpu_index(owner)].next = 0;
	arm(monitor, owner);
}

static void step(struct vcpu *vcpu)
{
	const struct kvm_guest_debug debug = {
		.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_BLOCKIRQ,
		.arch.debugreg[7] = DR7_FIXED,
	};

	(void)!kvm_vcpu_set_guest_debug(vcpu_kvm(vcpu), &debug);
}

static void debug_exit(void *ctx, struct vcpu *vcpu, const struct kvm_debug_exit_arch *exit)
{
	struct monitor *monitor = ctx;
	struct monitor_vcpu *mv = &monitor->vcpus[vcpu_index(vcpu)];

	if (exit->dr6 & DR6_BREAKPOINTS) {
		mv->next = exit->pc;
		step(vcpu);
	} else {
		mv->next = 0;
		arm(monitor, vcpu);
	}
}

void monitor_set_exact(struct monitor *monitor, const uint64_t *addresses, uint32_t n)
{
	struct vm *vm = monitor->vm;

	monitor->n_steps = n;
	for (uint32_t i = 0; i < n; i++)
		monitor->steps[i] = addresses[i];
	vm->stepper = n ? (struct vm_stepper){ debug_exit, monitor } : (struct vm_stepper){ 0 };
	/* Of a VM that ends nobody runs any more, and the control thread may not do it for them. */
	if (vm->threads)
		cpus_run(vm, arm_one, monitor);
}

void monitor_name_instruction(struct monitor_vcpu *mv, struct record_access *access)
{
	uint64_t before;

	if (!mv->next || !access->mode)
		return;
	before = record_linear_rip(access) - mv->next;
	if (before > INSTRUCTION_MAX || before > access->n_before)
		return;
	access->instruction = mv->next;
	access->verdict = RECORD_INSN_STEPPED;
	access->length = (uint8_t)before; /* 0: it stands at RIP, and its reader decodes it */
	/* Done: KVM, which emulated it, does not tell that the step is over, and the next instruction is another. */
	if (before) {
		mv->next = 0;
		arm(mv->monitor, mv->vcpu);
	}
}
