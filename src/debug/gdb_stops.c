/* SPDX-License-Identifier: Apache-2.0 */

/* Why vCPUs stop, and how they go on. */

#include <stdio.h>
#include <string.h>

#include "debug/gdb_target_internal.h"
#include "vm/cpus.h"

#define VECTOR_BP 3
#define DR6_HITS 0xfULL /* Intel SDM 3, 18.2.3 */
#define DR6_STEP (1ULL << 14)

/* Stopping */

/* Our INT3? RIP is still on it. A page may have several addresses. */
static bool judge_int3(const struct gdb_target *target, struct vcpu *vcpu, uint64_t pc)
{
	gpa_t at;

	for (size_t i = 0; i < target->n_software; i++)
		if (target->software[i].linear == pc)
			return true;
	return kvm_vcpu_translate(vcpu_kvm(vcpu), pc, &at.v) == 0 && gdb_breakpoint_at(target, at);
}

static bool judge_hardware(const struct gdb_target *target, uint64_t dr6, struct gdb_stop *stop)
{
	static const enum gdb_stop_reason reasons[] = {
		[GDB_BREAKPOINT_SOFTWARE] = GDB_STOP_SOFTWARE_BREAKPOINT,
		[GDB_BREAKPOINT_HARDWARE] = GDB_STOP_HARDWARE_BREAKPOINT,
		[GDB_WATCHPOINT_WRITE] = GDB_STOP_WATCHPOINT,
		[GDB_WATCHPOINT_ACCESS] = GDB_STOP_ACCESS_WATCHPOINT,
	};

	for (int i = 0; i < GDB_HARDWARE_SLOTS; i++) {
		const struct gdb_hardware *bp = &target->hardware[i];

		if (!bp->len || !(dr6 >> i & 1))
			continue;
		stop->address = bp->address;
		stop->reason = reasons[bp->type];
		return true;
	}
	return false;
}

static bool judge(const struct gdb_target *target, struct vcpu *vcpu,
		  const struct kvm_debug_exit_arch *exit, struct gdb_stop *stop)
{
	if (exit->exception == VECTOR_BP) {
		stop->reason = GDB_STOP_SOFTWARE_BREAKPOINT;
		return judge_int3(target, vcpu, exit->pc);
	}
	if (exit->dr6 & DR6_HITS && judge_hardware(target, exit->dr6, stop))
		return true;
	stop->reason = GDB_STOP_TRAP;
	return target->actions[stop->vcpu] == GDB_STEP && exit->dr6 & DR6_STEP;
}

/* The #DB that is injected tells its reason in DR6, which KVM leaves as it was. */
static void set_dr6(struct kvm_vcpu *kvm, uint64_t dr6)
{
	struct kvm_debugregs debugregs;

	if (kvm_vcpu_get_debugregs(kvm, &debugregs) < 0)
		return;
	debugregs.dr6 = dr6;
	(void)!kvm_vcpu_set_debugregs(kvm, &debugregs);
}

/* The guest's own: a kernel patches its code with INT3, and programs have debuggers too. */
static void give_back(const struct gdb_target *target, struct vcpu *vcpu,
		      const struct kvm_debug_exit_arch *exit)
{
	struct kvm_guest_debug debug = gdb_breakpoints_debug(target, vcpu_index(vcpu));

	debug.control |= KVM_GUESTDBG_ENABLE;
	if (exit->exception == VECTOR_BP) {
		debug.control |= KVM_GUESTDBG_INJECT_BP;
	} else {
		debug.control |= KVM_GUESTDBG_INJECT_DB;
		set_dr6(vcpu_kvm(vcpu), exit->dr6);
	}
	/* -EBUSY: another exception waits; the guest will run into this one again. */
	(void)!kvm_vcpu_set_guest_debug(vcpu_kvm(vcpu), &debug);
}

bool gdb_target_hit(void *ctx, struct vcpu *vcpu, const struct kvm_debug_exit_arch *exit)
{
	struct gdb_target *target = ctx;
	struct gdb_stop stop = { .vcpu = vcpu_index(vcpu) };

	if (!judge(target, vcpu, exit, &stop)) {
		give_back(target, vcpu, exit);
		return false;
	}
	target->stops[stop.vcpu] = stop;
	__atomic_fetch_or(&target->stopped, 1ULL << stop.vcpu, __ATOMIC_RELEASE);
	return true;
}

void gdb_target_add_request(struct gdb_target *target, uint32_t vcpu, const char *text,
			    void (*go_on)(void *ctx), void *ctx)
{
	struct gdb_request *request = &target->requests[vcpu];

	request->go_on = go_on;
	request->ctx = ctx;
	snprintf(request->text, sizeof(request->text), "%s", text);
	target->stops[vcpu] = (struct gdb_stop){ .reason = GDB_STOP_TRAP, .vcpu = vcpu };
	__atomic_fetch_or(&target->stopped, 1ULL << vcpu, __ATOMIC_RELEASE);
}

bool gdb_target_take_stop(struct gdb_target *target, struct gdb_stop *ret_stop)
{
	uint64_t stopped = __atomic_load_n(&target->stopped, __ATOMIC_ACQUIRE);
	int vcpu;

	if (!stopped)
		return false;
	vcpu = __builtin_ctzll(stopped);
	__atomic_fetch_and(&target->stopped, ~(1ULL << vcpu), __ATOMIC_SEQ_CST);
	*ret_stop = target->stops[vcpu];
	return true;
}

/* Going on */

/* A breakpoint on an instruction that did not run yet is hit again, if it is still wanted then. A step, an access
 * or a request is not. */
static bool comes_again(const struct gdb_stop *stop)
{
	return stop->reason == GDB_STOP_SOFTWARE_BREAKPOINT ||
	       stop->reason == GDB_STOP_HARDWARE_BREAKPOINT;
}

static void forget_what_comes_again(struct gdb_target *target)
{
	for (uint32_t i = 0; i < target->vm->n_vcpus; i++)
		if (comes_again(&target->stops[i]))
			__atomic_fetch_and(&target->stopped, ~(1ULL << i), __ATOMIC_SEQ_CST);
}

static void arm(void *owner, void *arg)
{
	const struct gdb_target *target = arg;
	const struct kvm_guest_debug debug = gdb_breakpoints_debug(target, vcpu_index(owner));

	/* Flags that this KVM has, on a vCPU of its own: it does not fail. */
	(void)!kvm_vcpu_set_guest_debug(vcpu_kvm(owner), &debug);
}

static void release_requests(struct gdb_target *target)
{
	for (uint32_t i = 0; i < target->vm->n_vcpus; i++) {
		struct gdb_request request = target->requests[i];

		if (!request.go_on || target->actions[i] == GDB_STAY)
			continue;
		target->requests[i].go_on = NULL;
		request.go_on(request.ctx);
	}
}

static void set_going(struct gdb_target *target, const enum gdb_action *actions)
{
	memcpy(target->actions, actions, sizeof(target->actions));
	cpus_run(target->vm, arm, target);
	for (uint32_t i = 0; i < target->vm->n_vcpus; i++)
		vcpu_park(target->vm->vcpus[i], PARKED_BY_DEBUGGER, actions[i] == GDB_STAY);
	release_requests(target);
}

int gdb_target_resume(struct gdb_target *target, const enum gdb_action *actions)
{
	forget_what_comes_again(target);
	if (__atomic_load_n(&target->stopped, __ATOMIC_ACQUIRE))
		return 0;
	set_going(target, actions);
	return vm_let_go(target->vm, VM_HELD_BY_DEBUGGER);
}

void gdb_target_leave(struct gdb_target *target)
{
	enum gdb_action actions[LIMIT_VCPUS];

	for (uint32_t i = 0; i < LIMIT_VCPUS; i++)
		actions[i] = GDB_RUN;
	gdb_breakpoints_clear(target);
	__atomic_store_n(&target->stopped, 0, __ATOMIC_SEQ_CST);
	set_going(target, actions);
}
