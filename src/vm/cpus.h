/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The VM's vCPUs as one: made, booted, started, parked, put back to power-on. Control thread. */

#include "vm/vm.h"

_must_check_ int cpus_create(struct vm *vm, struct error *err);
/* Gives the boot vCPU its first registers; on its thread, or before it has one. */
_must_check_ int cpus_boot(struct vm *vm, const struct boot_entry *entry);
_must_check_ int cpus_start(struct vm *vm, const struct thread_entry *enter, struct error *err);
/* Inside the barrier: work(vcpu, arg) for each vCPU, on its own thread and in parallel once threads run, on ours
 * before. */
void cpus_run(struct vm *vm, void (*work)(void *vcpu, void *arg), void *arg);
void cpus_stop(struct vm *vm);
void cpus_free(struct vm *vm);
/* Takes the barrier, once every vCPU that was started is a member of it. */
void cpus_quiesce(struct vm *vm);
void cpus_park(struct vm *vm, enum vcpu_parker who, bool park);
/* Keeps the vCPUs out of the guest for want of memory, or lets them go on and tells their clocks. Waits for none. */
void cpus_wait(struct vm *vm, bool wait);
/* Inside the barrier: every vCPU as it was before its first instruction, the kernel loaded anew. */
_must_check_ int cpus_power_on(struct vm *vm, struct error *err);
/* Inside the barrier, before the guest first ran: every vCPU shows its guest `cpuid` (the boot vCPU's; topology is added),
 * and is as at power-on. Nothing when it does already. */
_must_check_ int cpus_show(struct vm *vm, const struct kvm_cpuid2 *cpuid, struct error *err);
/* Inside the barrier, before a pause ends: tells the guests' clocks that they were stopped. */
void cpus_clock_stopped(struct vm *vm);
