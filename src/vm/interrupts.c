/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/interrupts.h"

#include <string.h>

#include "base/fd.h"

void vm_post(struct vm *vm, uint32_t bit)
{
	__atomic_fetch_or(&vm->posted, bit, __ATOMIC_SEQ_CST);
	fd_signal_event(vm->event.fd);
}

static void send_msi(void *ctx, const struct msi_message *message)
{
	struct vm *vm = ctx;
	const struct kvm_msi msi = {
		.address_lo = (uint32_t)message->address,
		.address_hi = (uint32_t)(message->address >> 32),
		.data = message->data,
	};

	/* A message that no LAPIC takes is lost, as on a real bus. */
	(void)!kvm_vm_signal_msi(vm->kvm, &msi);
}

struct msi_sink interrupts_msi_sink(struct vm *vm)
{
	return (struct msi_sink){ .send = send_msi, .ctx = vm };
}

static void pic_changed(void *ctx, bool asserted)
{
	struct vm *vm = ctx;

	/* No vCPU exists while the board is being made; no guest has unmasked anything then. */
	if (vm->vcpus[0])
		vcpu_set_pic(vm->vcpus[0], asserted);
}

#define MSI_DATA_LEVEL (1U << 15)

union routing_table {
	struct kvm_irq_routing header;
	char bytes[sizeof(struct kvm_irq_routing) +
		   IRQCHIP_LINES * sizeof(struct kvm_irq_routing_entry)];
};

/* KVM looks at routes to know which vectors need an EOI exit: only level-triggered inputs matter, and the
 * table is replaced (which is slow) only when one of those changed. */
static void routes_changed(void *ctx, const struct msi_message messages[IRQCHIP_LINES])
{
	struct vm *vm = ctx;
	struct msi_message level[IRQCHIP_LINES] = { 0 };
	union routing_table table = { 0 };

	for (uint32_t i = 0; i < IRQCHIP_LINES; i++) {
		struct kvm_irq_routing_entry *entry = &table.header.entries[table.header.nr];

		if (!messages[i].address || !(messages[i].data & MSI_DATA_LEVEL))
			continue;
		level[i] = messages[i];
		entry->gsi = i;
		entry->type = KVM_IRQ_ROUTING_MSI;
		entry->u.msi.address_lo = (uint32_t)messages[i].address;
		entry->u.msi.address_hi = (uint32_t)(messages[i].address >> 32);
		entry->u.msi.data = messages[i].data;
		table.header.nr++;
	}
	if (memcmp(level, vm->routes, sizeof(level)) == 0)
		return;
	memcpy(vm->routes, level, sizeof(level));
	if (kvm_vm_set_routing(vm->kvm, &table.header) < 0)
		log_line(vm->log, LOG_LEVEL_WARNING,
			 "KVM refused an interrupt route; level-triggered interrupts may stall");
}

struct irqchip_host interrupts_host(struct vm *vm)
{
	return (struct irqchip_host){
		.msi = vm->msi,
		.pic_changed = pic_changed,
		.routes_changed = routes_changed,
		.ctx = vm,
	};
}

void interrupts_power_event(void *ctx, enum power_event event)
{
	vm_post(ctx, event == POWER_OFF ? VM_POSTED_POWER_OFF : VM_POSTED_RESET);
}

static void eoi(void *ctx, uint8_t vector)
{
	struct vm *vm = ctx;

	irqchip_eoi(vm->irqchip, vector);
}

static int pic_acknowledge(void *ctx)
{
	struct vm *vm = ctx;

	return irqchip_pic_acknowledge(vm->irqchip);
}

static void vcpu_failed(void *ctx, uint32_t index, int code, const char *what)
{
	struct vm *vm = ctx;

	__atomic_store_n(&vm->failed_vcpu, index, __ATOMIC_RELAXED);
	__atomic_store_n(&vm->failure_code, code, __ATOMIC_RELAXED);
	__atomic_store_n(&vm->failure, what, __ATOMIC_RELEASE);
	vm_post(vm, VM_POSTED_FAILED);
}

static void vcpu_ended(void *ctx, uint32_t index _unused_, enum vcpu_end how)
{
	static const enum vm_posted posted[] = {
		[VCPU_END_POWER_OFF] = VM_POSTED_POWER_OFF,
		[VCPU_END_RESET] = VM_POSTED_RESET,
		[VCPU_END_TRIPLE_FAULT] = VM_POSTED_TRIPLE_FAULT,
	};

	vm_post(ctx, posted[how]);
}

static bool vcpu_debug(void *ctx, struct vcpu *vcpu, const struct kvm_debug_exit_arch *exit)
{
	struct vm *vm = ctx;

	if (vm->stepper.stepped) {
		vm->stepper.stepped(vm->stepper.ctx, vcpu, exit);
		return false;
	}
	if (!vm->debugger.hit || !vm->debugger.hit(vm->debugger.ctx, vcpu, exit))
		return false;
	vm_post(vm, VM_POSTED_DEBUG);
	return true;
}

struct vcpu_host interrupts_vcpu_host(struct vm *vm)
{
	return (struct vcpu_host){
		.kvm = vm->kvm,
		.bus = vm->bus,
		.quiesce = &vm->quiesce,
		.memory = vm->memory,
		.log = vm->log,
		.eoi = eoi,
		.pic_acknowledge = pic_acknowledge,
		.failed = vcpu_failed,
		.ended = vcpu_ended,
		.debug = vcpu_debug,
		.ctx = vm,
	};
}
