/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How interrupts and power events find their way between devices, KVM and the control thread. */

#include "device/power.h"
#include "vm/vm.h"

struct irqchip_host interrupts_host(struct vm *vm);
struct msi_sink interrupts_msi_sink(struct vm *vm);
struct vcpu_host interrupts_vcpu_host(struct vm *vm);
/* power_host.happened: posts to the control thread. */
void interrupts_power_event(void *ctx, enum power_event event);

/* Bits of vm->posted. */
enum vm_posted {
	VM_POSTED_POWER_OFF = 1,
	VM_POSTED_RESET = 2,
	VM_POSTED_FAILED = 4,
	VM_POSTED_TRIPLE_FAULT = 8,
	VM_POSTED_DEBUG = 16,
};
/* Any thread: sets the bit and wakes the control loop. */
void vm_post(struct vm *vm, uint32_t bit);
