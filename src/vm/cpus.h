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
void cpus_park(struct vm *vm, bool park);
/* Inside the barrier: every vCPU as it was before its first instruction, the kernel loaded anew. */
_must_check_ int cpus_power_on(struct vm *vm, struct error *err);
/* Inside the barrier, before a pause ends: tells the guests' clocks that they were stopped. */
void cpus_clock_stopped(struct vm *vm);
